//! One shard of the table: the few calls that are running, and the many that are finished.

use std::time::{Duration, Instant};

use super::{
    finished::{Finished, NewRecord},
    key::PlainKey,
    running::{RunningCall, RunningCalls},
    ttl::Millis,
    usage::{Amount, LocalQuota, Usage},
};
use crate::table::call::{Attempt, Fingerprint};

/// Threads that use different shards share no line of the cache.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Shard<W> {
    running: RunningCalls<W>,
    pub(super) finished: Finished,
    pub(super) quota: LocalQuota,
}

pub(super) enum Found<'a, W> {
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
            quota: LocalQuota::default(),
        }
    }

    /// Removes the expired records that go without a look at them.
    pub(super) fn expire(&mut self, now: Millis, usage: &Usage) {
        let gone = self.finished.expire(now);
        if gone.records > 0 {
            self.quota.put(gone, usage);
        }
    }

    /// Removes all expired records. Returns what they took.
    pub(super) fn expire_all(&mut self, now: Millis, usage: &Usage) -> Amount {
        let gone = self.finished.expire_all(now);
        self.quota.put(gone, usage);
        gone
    }

    /// What is known of the call. With a fingerprint it must be the same call.
    pub(super) fn find(
        &mut self,
        key: &PlainKey,
        fingerprint: Option<Fingerprint>,
        now: Millis,
    ) -> Found<'_, W> {
        let is_same = |found| fingerprint.is_none_or(|expected| expected == found);
        if let Some(running) = self.running.find(key) {
            return if is_same(running.fingerprint) {
                Found::Running(running)
            } else {
                Found::OtherCall
            };
        }
        match self.finished.find(&key.key, key.short_hash(), now) {
            Some(kept) if is_same(kept.fingerprint) => Found::Finished(kept.outcome),
            Some(_) => Found::OtherCall,
            None => Found::Nothing,
        }
    }

    pub(super) fn start(&mut self, key: &PlainKey, attempt: &Attempt<'_>, expected_bytes: usize) {
        let running = RunningCall::new(key.clone(), attempt, expected_bytes);
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
        self.finished.push(&record, expires);
        (running.interest.waiters, running.expected_bytes)
    }

    /// Forgets a call. Returns the waiters, and how many bytes were reserved for its outcome.
    pub(super) fn release(&mut self, key: &PlainKey) -> (Vec<W>, usize) {
        let running = self.take(key);
        (running.interest.waiters, running.expected_bytes)
    }

    pub(super) fn deadline(&mut self, key: &PlainKey) -> Option<Instant> {
        self.running.find(key)?.interest.deadline
    }

    fn take(&mut self, key: &PlainKey) -> RunningCall<W> {
        let running = self.running.take(key);
        running.expect("only the one execution of a call finishes it, and only once")
    }
}
