//! Finished calls in the order in which they ended, which is the order in which they expire.
//!
//! All live equally long, so the oldest is always in front: expiry looks at the front alone and
//! never scans. Their outcomes lie one behind the other in a ring of bytes, in the same order, so
//! that a record costs no allocation of its own and leaves no hole. The index holds 8 bytes each.

use std::{
    collections::VecDeque,
    mem::size_of,
    time::{Duration, Instant},
};

use hashbrown::HashTable;
use redial_protocol::CallKey;

use super::Fingerprint;

/// What is taken beside a record: a slot of the index at its usual load, and what is allocated
/// ahead.
const BESIDE_BYTES: usize = 24;

/// Queue and ring grow by a small part at a time: doubling would leave half of a large table unused.
const GROWTH: usize = 16;

/// Memory is given back when less than a quarter of it is used, and never below this.
const KEEP_RECORDS: usize = 64;

/// Milliseconds since the table was made, modulo 2^32 (49 days). Two moments are compared by
/// their difference, so a TTL must stay below half of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Millis(u32);

impl Millis {
    /// The longest time that can be measured.
    pub(crate) const MAX_SPAN: Duration = Duration::from_secs(20 * 24 * 60 * 60);

    pub(super) fn since(epoch: Instant, now: Instant) -> Self {
        let since = now.saturating_duration_since(epoch);
        // As `as_millis`, without its division of 128 bits.
        let whole = since.as_secs().wrapping_mul(1000);
        Self(whole.wrapping_add(since.subsec_millis().into()) as u32)
    }

    /// Rounded up by a whole millisecond, since the moment itself was rounded down: a record must
    /// never go early.
    pub(super) fn plus(self, span: Duration) -> Self {
        Self(self.0.wrapping_add(span.as_millis() as u32).wrapping_add(1))
    }

    /// What is left until this moment; `None` if it has come.
    fn left(self, now: Self) -> Option<Duration> {
        let left = self.0.wrapping_sub(now.0).cast_signed();
        u64::try_from(left)
            .ok()
            .filter(|left| *left > 0)
            .map(Duration::from_millis)
    }
}

#[derive(Debug)]
pub(super) struct Record {
    /// A UUID's bytes. Other keys stand in [`Finished::others`].
    uuid: [u8; 16],
    pub(super) fingerprint: Fingerprint,
    /// Where the outcome begins, counted in bytes of all outcomes ever, and in the lowest bit
    /// whether the key is a UUID. The outcome ends where that of the next record begins.
    start: u64,
    hash: u32,
    expires: Millis,
}

impl Record {
    fn start(&self) -> u64 {
        self.start >> 1
    }

    fn is_uuid(&self) -> bool {
        self.start & 1 == 1
    }

    pub(super) fn is_expired(&self, now: Millis) -> bool {
        self.expires.left(now).is_none()
    }
}

/// Where a record stands: its number, counted from the first record ever. The hash is kept here
/// too, so that a growing index does not have to visit all records.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u32,
    hash: u32,
}

#[derive(Debug, Default)]
pub(super) struct Finished {
    records: VecDeque<Record>,
    /// The keys that are no UUIDs, each with the number of its record, in the order of these.
    others: VecDeque<(u32, CallKey)>,
    /// The outcomes of all records.
    outcomes: VecDeque<u8>,
    index: HashTable<Place>,
    /// The number of the record in front.
    first: u32,
    /// Where its outcome begins.
    first_start: u64,
}

impl Finished {
    /// The record of a call, and which it is, counted from the front.
    pub(super) fn find(&self, key: &CallKey, hash: u32) -> Option<(usize, &Record)> {
        let at = |place: &Place| place.number.wrapping_sub(self.first) as usize;
        let same = |place: &Place| place.hash == hash && self.is_of(at(place), key);
        let at = at(self.index.find(spread(hash), same)?);
        Some((at, &self.records[at]))
    }

    fn is_of(&self, at: usize, key: &CallKey) -> bool {
        let record = &self.records[at];
        match (record.is_uuid(), key) {
            (true, CallKey::Uuid(bytes)) => record.uuid == *bytes,
            (false, key) => self.other(at) == Some(key),
            (true, _) => false,
        }
    }

    /// The key of a record, if it is no UUID.
    fn other(&self, at: usize) -> Option<&CallKey> {
        let from_front = |(number, _): &(u32, CallKey)| number.wrapping_sub(self.first) as usize;
        let place = self.others.binary_search_by_key(&at, from_front).ok()?;
        Some(&self.others[place].1)
    }

    /// A record's outcome, in the two pieces that the ring may have made of it.
    pub(super) fn outcome(&self, at: usize) -> [&[u8]; 2] {
        let start = (self.records[at].start() - self.first_start) as usize;
        let end = (self.end_of(at) - self.first_start) as usize;
        let (front, back) = self.outcomes.as_slices();
        let in_front = &front[start.min(front.len())..end.min(front.len())];
        let in_back = &back[start.saturating_sub(front.len())..end.saturating_sub(front.len())];
        [in_front, in_back]
    }

    /// Where the outcome of a record ends.
    fn end_of(&self, at: usize) -> u64 {
        let end = self.first_start + self.outcomes.len() as u64;
        self.records.get(at + 1).map_or(end, Record::start)
    }

    pub(super) fn push(
        &mut self,
        key: CallKey,
        hash: u32,
        fingerprint: Fingerprint,
        outcome: &[u8],
        expires: Millis,
    ) {
        let number = self.first.wrapping_add(self.records.len() as u32);
        let start = self.first_start + self.outcomes.len() as u64;
        let uuid = match key {
            CallKey::Uuid(bytes) => Some(bytes),
            key => {
                self.others.push_back((number, key));
                None
            }
        };
        make_room(&mut self.records, 1);
        self.records.push_back(Record {
            uuid: uuid.unwrap_or_default(),
            fingerprint,
            start: start << 1 | u64::from(uuid.is_some()),
            hash,
            expires,
        });
        make_room(&mut self.outcomes, outcome.len());
        self.outcomes.extend(outcome);
        let rehash = |place: &Place| spread(place.hash);
        self.index
            .insert_unique(spread(hash), Place { number, hash }, rehash);
    }

    /// Takes away up to `at_most` expired records; how many went, and the bytes they kept.
    pub(super) fn expire(&mut self, now: Millis, at_most: usize) -> (usize, usize) {
        let (mut records, mut bytes) = (0, 0);
        while records < at_most
            && self
                .records
                .front()
                .is_some_and(|front| front.is_expired(now))
        {
            let outcome_bytes = (self.end_of(0) - self.first_start) as usize;
            let record = self.records.pop_front().expect("it was looked at just now");
            let number = self.first;
            let other = match record.is_uuid() {
                true => None,
                false => self.others.pop_front(),
            };
            let entry = self
                .index
                .find_entry(spread(record.hash), |place| place.number == number);
            entry.expect("every record is in the index").remove();
            self.outcomes.drain(..outcome_bytes);
            self.first_start += outcome_bytes as u64;
            self.first = self.first.wrapping_add(1);
            records += 1;
            bytes += outcome_bytes + other.map_or(UUID_BYTES, |(_, key)| record_bytes(&key, 0));
        }
        (records, bytes)
    }

    /// When the oldest record expires.
    pub(super) fn next_expiry(&self, now: Millis) -> Option<Duration> {
        let front = self.records.front()?;
        Some(front.expires.left(now).unwrap_or_default())
    }

    /// Gives memory back that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        let wanted = (self.records.len() * 2).max(KEEP_RECORDS);
        if self.records.capacity() > wanted * 2 {
            self.records.shrink_to(wanted);
            self.others.shrink_to(wanted.min(self.others.len() * 2));
            self.index.shrink_to(wanted, |place| spread(place.hash));
        }
        if self.outcomes.capacity() > (self.outcomes.len() * 4).max(KEEP_RECORDS * 64) {
            self.outcomes.shrink_to(self.outcomes.len() * 2);
        }
    }
}

/// Makes room for `more` without allocating far ahead.
fn make_room<T>(ring: &mut VecDeque<T>, more: usize) {
    if ring.capacity() - ring.len() < more {
        ring.reserve_exact(more.max(ring.len() / GROWTH).max(GROWTH));
    }
}

/// What a record of a UUID keeps in memory beside its outcome.
const UUID_BYTES: usize = size_of::<Record>() + BESIDE_BYTES;

/// What a record with an outcome of this length keeps in memory.
pub(super) fn record_bytes(key: &CallKey, outcome_bytes: usize) -> usize {
    let key_bytes = match key {
        CallKey::Uuid(_) => 0,
        key => size_of::<(u32, CallKey)>() + key.heap_bytes(),
    };
    UUID_BYTES + key_bytes + outcome_bytes
}

/// hashbrown picks the place by the low bits and tells neighbours apart by the top 7.
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash) | u64::from(hash) << 32
}
