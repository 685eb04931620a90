//! One shard of the table: the few calls that are running, and the many that are finished.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    finished::{Finished, NewRecord, record_bytes},
    key::PlainKey,
    owners::{OwnedRecords, OwnerUsage},
    running::{RunningCall, RunningCalls},
    ttl::Millis,
    usage::{Amount, LocalQuota, Usage},
};
use crate::table::call::{Attempt, Fingerprint, TableWaiter};

/// Threads that use different shards share no line of the cache.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Shard<W> {
    running: RunningCalls<W>,
    pub(super) finished: Finished,
    owned: OwnedRecords,
    pub(super) quota: LocalQuota,
}

pub(super) enum ShardLookup<'a, W> {
    Nothing,
    Running(&'a mut RunningCall<W>),
    Finished([&'a [u8]; 2]),
    OtherCall,
}

impl<W> Shard<W> {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            running: RunningCalls::default(),
            finished: Finished::new(ttl),
            owned: OwnedRecords::default(),
            quota: LocalQuota::default(),
        }
    }

    /// Removes the expired records that go without a look at them.
    pub(super) fn expire(&mut self, now: Millis, usage: &Usage) {
        let gone = self.finished.expire(now);
        if gone.records > 0 {
            self.forget_owned();
            self.quota.put(gone, usage);
        }
    }

    /// Removes all expired records. Returns what they took.
    pub(super) fn expire_all(&mut self, now: Millis, usage: &Usage) -> Amount {
        let gone = self.finished.expire_all(now);
        self.forget_owned();
        self.quota.put(gone, usage);
        gone
    }

    /// What is known of the call. With a fingerprint it must be the same call.
    pub(super) fn find(
        &mut self,
        key: &PlainKey,
        fingerprint: Option<Fingerprint>,
        now: Millis,
    ) -> ShardLookup<'_, W> {
        let is_same = |found| fingerprint.is_none_or(|expected| expected == found);
        if let Some(running) = self.running.find(key) {
            return if is_same(running.fingerprint) {
                ShardLookup::Running(running)
            } else {
                ShardLookup::OtherCall
            };
        }
        match self.finished.find(&key.key, key.short_hash(), now) {
            Some(kept) if is_same(kept.fingerprint) => ShardLookup::Finished(kept.outcome),
            Some(_) => ShardLookup::OtherCall,
            None => ShardLookup::Nothing,
        }
    }

    /// What principals have of what is gone.
    fn forget_owned(&mut self) {
        if !self.owned.is_empty() {
            let finished = &self.finished;
            self.owned.drop_gone(|number| finished.has(number));
        }
    }

    pub(super) fn start(
        &mut self,
        key: &PlainKey,
        attempt: &Attempt<'_>,
        expected_bytes: usize,
        owner: Option<Arc<OwnerUsage>>,
    ) {
        if let Some(owner) = &owner {
            owner.add(record_of(key, expected_bytes));
        }
        let running = RunningCall::new(key.clone(), attempt, expected_bytes, owner);
        self.running.add(running);
    }

    /// Records an outcome. Returns the waiters, and how many bytes were reserved for it.
    pub(super) fn finish(
        &mut self,
        key: &PlainKey,
        outcome: &[u8],
        expires: Millis,
    ) -> (Vec<W>, usize) {
        let running = self.take(key);
        let record = NewRecord {
            key: &key.key,
            hash: key.short_hash(),
            fingerprint: running.fingerprint,
            outcome,
        };
        let number = self.finished.push(&record, expires);
        if let Some(owner) = running.owner {
            owner.remove(record_of(key, running.expected_bytes));
            let taken = record_of(key, outcome.len());
            owner.add(taken);
            self.owned.push(number, taken.bytes, owner);
        }
        (running.interest.waiters, running.expected_bytes)
    }

    /// Forgets a call. Returns the waiters, and how many bytes were reserved for its outcome.
    pub(super) fn release(&mut self, key: &PlainKey) -> (Vec<W>, usize) {
        let running = self.take(key);
        if let Some(owner) = &running.owner {
            owner.remove(record_of(key, running.expected_bytes));
        }
        (running.interest.waiters, running.expected_bytes)
    }

    pub(super) fn deadline(&mut self, key: &PlainKey) -> Option<Instant> {
        self.running.find(key)?.interest.deadline
    }

    pub(super) fn is_heard(&mut self, key: &PlainKey) -> bool
    where
        W: TableWaiter,
    {
        let running = self.running.find(key);
        running.is_some_and(|running| running.interest.is_heard())
    }

    fn take(&mut self, key: &PlainKey) -> RunningCall<W> {
        let running = self.running.take(key);
        running.expect("only the one execution of a call finishes it, and only once")
    }
}

/// What a record takes whose outcome has this length.
fn record_of(key: &PlainKey, outcome_bytes: usize) -> Amount {
    Amount {
        records: 1,
        bytes: record_bytes(&key.key, outcome_bytes),
    }
}
