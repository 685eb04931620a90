//! What each principal has of the records: none of them may have all that there are. Calls of callers
//! without a principal cost nothing here.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use hashbrown::HashMap;
use redial_protocol::Principal;

use super::usage::Amount;
use crate::{share::Share, table::call::lock};

/// What the records of one principal may take of what others leave.
const KEPT: Share = Share::all_but_one_in(16);

/// How many principals are remembered before it is looked which of them have nothing left.
const LOOK_AT: usize = 64;

/// What the records of one principal take.
#[derive(Debug, Default)]
pub(super) struct OwnerUsage {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<KnownOwners>);

#[derive(Debug, Default)]
struct KnownOwners {
    by_name: HashMap<Principal, Arc<OwnerUsage>, std::hash::RandomState>,
    look_at: usize,
}

/// The finished calls of a shard that are a principal's, in their order.
#[derive(Debug, Default)]
pub(super) struct OwnedRecords(VecDeque<OwnedRecord>);

#[derive(Debug)]
struct OwnedRecord {
    /// The number of the record.
    number: u32,
    bytes: u32,
    owner: Arc<OwnerUsage>,
}

impl OwnerUsage {
    pub(super) fn add(&self, amount: Amount) {
        self.records.fetch_add(amount.records, Relaxed);
        self.bytes.fetch_add(amount.bytes, Relaxed);
    }

    pub(super) fn remove(&self, amount: Amount) {
        self.records.fetch_sub(amount.records, Relaxed);
        self.bytes.fetch_sub(amount.bytes, Relaxed);
    }

    /// Whether it may take another record while so much is free.
    pub(super) fn may_take(&self, free: Amount) -> bool {
        KEPT.allows(self.records.load(Relaxed), free.records)
            && KEPT.allows(self.bytes.load(Relaxed), free.bytes)
    }
}

impl Owners {
    pub(super) fn usage(&self, principal: &Principal) -> Arc<OwnerUsage> {
        let mut known = lock(&self.0);
        if let Some(usage) = known.by_name.get(principal) {
            return Arc::clone(usage);
        }
        if known.by_name.len() >= known.look_at {
            // What has records, or runs, holds on to it.
            known
                .by_name
                .retain(|_, usage| Arc::strong_count(usage) > 1);
            known.look_at = LOOK_AT.max(2 * known.by_name.len());
        }
        let usage = Arc::<OwnerUsage>::default();
        known.by_name.insert(principal.clone(), Arc::clone(&usage));
        usage
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.0).by_name.len()
    }
}

impl OwnedRecords {
    /// The record of this number was made, and takes so many bytes.
    pub(super) fn push(&mut self, number: u32, bytes: usize, owner: Arc<OwnerUsage>) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.0.push_back(OwnedRecord {
            number,
            bytes,
            owner,
        });
    }

    /// The records that are not among these any more are gone.
    pub(super) fn drop_gone(&mut self, is_there: impl Fn(u32) -> bool) {
        while let Some(gone) = self.0.pop_front_if(|first| !is_there(first.number)) {
            gone.owner.remove(Amount {
                records: 1,
                bytes: gone.bytes as usize,
            });
        }
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use redial_protocol::CallKey;

    use super::*;
    use crate::{
        clock,
        table::{
            call::{Attempt, Decision, Fingerprint},
            plain::{PlainKey, PlainLimits, PlainTable},
        },
    };

    const TTL: Duration = Duration::from_secs(1);

    fn table(max_records: usize, now: Instant) -> PlainTable<u32> {
        let limits = PlainLimits {
            ttl: TTL,
            max_records,
            max_bytes: 1 << 20,
            max_joined: 2,
        };
        PlainTable::new(limits, now)
    }

    fn key(table: &PlainTable<u32>, owner: &str, number: usize) -> PlainKey {
        let owner = Principal::new(owner).unwrap();
        let key = CallKey::of_string(&format!("call {number}")).owned_by(&owner);
        table.key(key)
    }

    fn begin(table: &PlainTable<u32>, key: &PlainKey, now: Instant) -> Decision<(), ()> {
        let attempt = Attempt {
            fingerprint: Fingerprint::new(1, ""),
            deadline: None,
            now,
            number: 1,
            is_numbered: true,
            ack: None,
            deferred: None,
        };
        let look = || {
            table.set_horizon(now);
            now
        };
        table.begin(key, &attempt, || Ok(()), || 7, look, &mut Vec::new())
    }

    fn held(table: &PlainTable<u32>, owner: &str) -> (usize, usize) {
        let usage = table.owners.usage(&Principal::new(owner).unwrap());
        (usage.records.load(Relaxed), usage.bytes.load(Relaxed))
    }

    /// What is counted twice, or never given back, locks its principal out at last.
    #[test]
    fn a_principal_has_what_its_records_take_and_nothing_when_they_are_gone() {
        let now = clock::now();
        let table = table(10_000, now);
        let mut bytes = 0;
        for number in 0..300 {
            let key = key(&table, "one", number);
            assert_eq!(begin(&table, &key, now), Decision::Start(()));
            match number % 3 {
                0 => drop(table.release(&key)),
                _ => drop(table.finish(&key, &vec![7; number], now)),
            }
            bytes += if number % 3 == 0 { 0 } else { number };
        }
        let (records, taken) = held(&table, "one");
        assert!(records == 200 && taken > bytes, "{records} {taken}");
        assert_eq!(taken, table.bytes());
        assert_eq!(held(&table, "two"), (0, 0));
        table.set_horizon(now + 2 * TTL);
        assert_eq!(table.expire(), 200);
        assert_eq!(held(&table, "one"), (0, 0));
    }

    /// A name that is used once is not remembered for ever.
    #[test]
    fn principals_without_records_are_forgotten() {
        let now = clock::now();
        let table = table(10_000, now);
        for number in 0..1_000 {
            let key = key(&table, &format!("name {number}"), 1);
            begin(&table, &key, now);
            if number < 10 {
                table.finish(&key, b"1", now);
            } else {
                table.release(&key);
            }
        }
        assert!(table.owners.len() <= LOOK_AT, "{}", table.owners.len());
        assert_eq!(held(&table, "name 3").0, 1);
    }
}
