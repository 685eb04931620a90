//! Finished calls in the order in which they finished, which is the order in which they expire.
//!
//! All live equally long, so the oldest is always in front, and expiry never scans. It does not
//! even look at the records: those that finish within a short while of each other are a group, and
//! a group goes as a whole once the last of it has expired. Until then its expired records exist
//! and are not found. The rest of a record, the outcome and any key that is not a UUID, lies in a
//! ring of bytes in the same order, so that it costs no allocation of its own and leaves no hole.

use std::{collections::VecDeque, mem::size_of, time::Duration};

use redial_protocol::{CallKey, OwnedKey};

use super::{
    index::{Index, Live},
    ring::Ring,
    ttl::Millis,
    usage::Amount,
};
use crate::table::call::Fingerprint;

/// The memory beside a record: its part of the index, and what is allocated ahead, in bytes.
const BESIDE_BYTES: usize = 24;

/// A record may outlive its TTL, unseen, by one part in so many.
const GROUPS_PER_LIFE: u32 = 64;

/// Plain data, so that records are not dropped one by one.
#[derive(Clone, Copy, Debug)]
struct Record {
    key: ShortKey,
    fingerprint: Fingerprint,
    /// Where its bytes begin, counted in bytes of all records ever, and in the lowest bit whether
    /// the key is a UUID. They end where those of the next record begin.
    start: u64,
    hash: u32,
    expires: Millis,
}

/// A UUID's bytes, or of another key which kind it is and how long; its text lies with the outcome, and
/// before it the name of its principal.
type ShortKey = [u8; 16];

/// Records that expire together.
#[derive(Debug)]
struct Group {
    /// The number of the record behind the last.
    end: u32,
    /// When its first record expires.
    from: Millis,
    /// When its last record expires.
    to: Millis,
}

/// A call that has finished.
#[derive(Debug)]
pub(super) struct NewRecord<'a> {
    pub(super) key: &'a CallKey,
    pub(super) hash: u32,
    pub(super) fingerprint: Fingerprint,
    pub(super) outcome: &'a [u8],
}

/// The record of a call, as a look-up finds it.
#[derive(Debug)]
pub(super) struct FoundRecord<'a> {
    pub(super) fingerprint: Fingerprint,
    /// In the two pieces that the end of the ring may have made of it.
    pub(super) outcome: [&'a [u8]; 2],
}

#[derive(Debug)]
pub(super) struct Finished {
    records: Ring<Record>,
    /// The keys that are no UUIDs, and the outcomes.
    bytes: Ring<u8>,
    groups: VecDeque<Group>,
    index: Index,
    /// The number of the record in front, counted from the first ever.
    first: u32,
    /// Where its bytes begin.
    first_start: u64,
    /// How far apart the first and the last record of a group may expire, in milliseconds.
    group_ms: u32,
}

impl Finished {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            records: Ring::new(),
            bytes: Ring::new(),
            groups: VecDeque::new(),
            index: Index::default(),
            first: 0,
            first_start: 0,
            group_ms: ttl.as_millis() as u32 / GROUPS_PER_LIFE,
        }
    }

    /// The record of a call, unless it has expired.
    pub(super) fn find(&self, key: &CallKey, hash: u32, now: Millis) -> Option<FoundRecord<'_>> {
        self.index.find(hash, self.live(), |number| {
            let at = number.wrapping_sub(self.first) as usize;
            let record = self.records.get(at)?;
            let is_it = record.hash == hash && !record.expires.has_come(now);
            let outcome = is_it.then(|| self.outcome_of(at, key))??;
            Some(FoundRecord {
                fingerprint: record.fingerprint,
                outcome,
            })
        })
    }

    fn live(&self) -> Live {
        Live {
            first: self.first,
            len: self.records.len() as u32,
        }
    }

    /// The outcome of a record, if it is that of this call.
    fn outcome_of(&self, at: usize, key: &CallKey) -> Option<[&[u8]; 2]> {
        let record = self.records.get(at)?;
        let parts = parts(key);
        if record.key != parts.short || record.is_uuid() != parts.is_uuid() {
            return None;
        }
        let start = (record.start() - self.first_start) as usize;
        let mut outcome_start = start;
        let mut is_it = true;
        if let Some(owner) = parts.owner {
            is_it = self.is_at(outcome_start, owner);
            outcome_start += owner.len();
        }
        if let Some(text) = parts.text {
            is_it &= self.is_at(outcome_start, text);
            outcome_start += text.len();
        }
        is_it.then(|| self.bytes.pieces(outcome_start..self.end_of(at)))
    }

    /// Whether this text stands there.
    fn is_at(&self, start: usize, text: &[u8]) -> bool {
        let [one, other] = self.bytes.pieces(start..start + text.len());
        text.starts_with(one) && text.ends_with(other)
    }

    /// Where the bytes of a record end, counted from those that are there.
    fn end_of(&self, at: usize) -> usize {
        match self.records.get(at + 1) {
            Some(next) => (next.start() - self.first_start) as usize,
            None => self.bytes.len(),
        }
    }

    /// Whether the record of this number is there.
    pub(super) fn has(&self, number: u32) -> bool {
        self.live().has(number)
    }

    /// Gives the number of the record.
    pub(super) fn push(&mut self, new: &NewRecord<'_>, expires: Millis) -> u32 {
        let expires = self.join_group(expires);
        let parts = parts(new.key);
        let start = self.first_start + self.bytes.len() as u64;
        if !self.index.has_room(self.records.len()) {
            let hashes = self.records.iter().map(|record| record.hash);
            self.index.rebuild(self.first, hashes);
        }
        let number = self.live().end();
        self.index.insert(new.hash, self.live());
        self.records.push(Record {
            key: parts.short,
            fingerprint: new.fingerprint,
            start: start << 1 | u64::from(parts.is_uuid()),
            hash: new.hash,
            expires,
        });
        if let Some(owner) = parts.owner {
            self.bytes.extend(owner);
        }
        if let Some(text) = parts.text {
            self.bytes.extend(text);
        }
        self.bytes.extend(new.outcome);
        number
    }

    /// Finds a group for the next record. Returns when it expires: not before the one in front of it,
    /// though two threads may have read the clock the other way round.
    fn join_group(&mut self, expires: Millis) -> Millis {
        let end = self.first.wrapping_add(self.records.len() as u32 + 1);
        let latest = self.groups.back_mut();
        let expires = latest
            .as_ref()
            .map_or(expires, |group| group.to.max(expires));
        match latest {
            Some(group) if expires.millis_since(group.from) <= self.group_ms => {
                group.end = end;
                group.to = expires;
            }
            _ => self.groups.push_back(Group {
                end,
                from: expires,
                to: expires,
            }),
        }
        expires
    }

    /// Removes the groups that have expired. Returns what they took.
    pub(super) fn expire(&mut self, now: Millis) -> Amount {
        let mut end = self.first;
        while let Some(group) = self.groups.pop_front_if(|group| group.to.has_come(now)) {
            end = group.end;
        }
        self.drop_front(end.wrapping_sub(self.first) as usize)
    }

    /// Removes all records that have expired, though others of their group have not.
    pub(super) fn expire_all(&mut self, now: Millis) -> Amount {
        let whole = self.expire(now);
        let expired = self
            .records
            .partition_point(|record| record.expires.has_come(now));
        let part = self.drop_front(expired);
        if let Some((group, front)) = self.groups.front_mut().zip(self.records.get(0)) {
            group.from = front.expires;
        }
        whole.plus(part)
    }

    /// Removes the first records, without a look at them.
    fn drop_front(&mut self, records: usize) -> Amount {
        if records == 0 {
            return Amount::default();
        }
        let bytes = self.end_of(records - 1);
        self.records.drop_front(records);
        self.bytes.drop_front(bytes);
        self.first = self.first.wrapping_add(records as u32);
        self.first_start += bytes as u64;
        Amount {
            records,
            bytes: records * RECORD_BYTES + bytes,
        }
    }

    /// When the oldest record expires.
    pub(super) fn next_expiry(&self, now: Millis) -> Option<Duration> {
        Some(self.records.get(0)?.expires.left(now))
    }

    /// Returns memory that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        let len = self.records.len();
        self.records.shrink();
        self.bytes.shrink();
        if self.index.is_too_large(len) {
            let hashes = self.records.iter().map(|record| record.hash);
            self.index.rebuild(self.first, hashes);
        }
    }
}

impl Record {
    fn start(&self) -> u64 {
        self.start >> 1
    }

    fn is_uuid(&self) -> bool {
        self.start & 1 == 1
    }
}

/// What a record stores of a key.
#[derive(Clone, Copy, Debug)]
struct Parts<'k> {
    /// Inline.
    short: ShortKey,
    /// Beside the record: the name of its principal, if it has one...
    owner: Option<&'k [u8]>,
    /// ...and its text. Nothing for a UUID that has none.
    text: Option<&'k [u8]>,
}

impl Parts<'_> {
    fn is_uuid(&self) -> bool {
        self.text.is_none()
    }
}

fn parts(key: &CallKey) -> Parts<'_> {
    let (kind, text) = match key {
        CallKey::Uuid(uuid) => return uuid_parts(*uuid),
        CallKey::Session(call) => return uuid_parts(call.uuid().into_bytes()),
        CallKey::Text(text) => (0, text.as_bytes()),
        CallKey::Integer(text) => (1, text.as_bytes()),
        CallKey::Owned(owned) => return owned_parts(owned),
    };
    Parts {
        short: short(0, text, kind),
        owner: None,
        text: Some(text),
    }
}

fn uuid_parts(uuid: ShortKey) -> Parts<'static> {
    Parts {
        short: uuid,
        owner: None,
        text: None,
    }
}

#[cold]
fn owned_parts(owned: &OwnedKey) -> Parts<'_> {
    let owner = owned.principal.as_str().as_bytes();
    let (kind, text): (_, &[u8]) = match &owned.key {
        CallKey::Text(text) => (0, text.as_bytes()),
        CallKey::Integer(text) => (1, text.as_bytes()),
        CallKey::Uuid(uuid) => (2, uuid),
        // A key of a principal is a plain id's.
        CallKey::Session(_) | CallKey::Owned(_) => (3, &[]),
    };
    Parts {
        short: short(owner.len(), text, kind),
        owner: Some(owner),
        text: Some(text),
    }
}

/// What lies beside the record of a principal's id, in bytes.
#[cold]
fn owned_bytes(owned: &OwnedKey) -> usize {
    let Parts { owner, text, .. } = owned_parts(owned);
    owner.map_or(0, <[u8]>::len) + text.map_or(0, <[u8]>::len)
}

/// Which kind of key it is, and how long what lies beside the record.
fn short(owner_bytes: usize, text: &[u8], kind: u128) -> ShortKey {
    let number = (owner_bytes as u128) << 64 | (text.len() as u128) << 2 | kind;
    number.to_be_bytes()
}

/// The memory of a record without its bytes, in bytes.
const RECORD_BYTES: usize = size_of::<Record>() + BESIDE_BYTES;

/// The memory of a record with an outcome of this length, in bytes.
pub(super) fn record_bytes(key: &CallKey, outcome_bytes: usize) -> usize {
    let beside = match key {
        CallKey::Owned(owned) => owned_bytes(owned),
        key => key.heap_bytes(),
    };
    RECORD_BYTES + beside + outcome_bytes
}

#[cfg(test)]
mod tests;
