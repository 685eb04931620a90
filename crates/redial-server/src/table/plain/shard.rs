//! One shard of the table: the few calls that are running, and the many that are finished.

use std::time::{Duration, Instant};

use super::{
    Attempt, Fingerprint, PlainKey,
    finished::{Ended, Finished},
    running::{Running, RunningCalls},
    ttl::Millis,
};

#[derive(Debug)]
pub(super) struct Shard<W> {
    running: RunningCalls<W>,
    pub(super) finished: Finished,
}

pub(super) enum Found<'a, W> {
    Nothing,
    Running(&'a mut Running<W>),
    Finished([&'a [u8]; 2]),
    OtherCall,
}

impl<W> Shard<W> {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            running: RunningCalls::default(),
            finished: Finished::new(ttl),
        }
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
            return match is_same(running.fingerprint) {
                true => Found::Running(running),
                false => Found::OtherCall,
            };
        }
        match self.finished.find(&key.key, key.short_hash(), now) {
            Some(kept) if is_same(kept.fingerprint) => Found::Finished(kept.outcome),
            Some(_) => Found::OtherCall,
            None => Found::Nothing,
        }
    }

    pub(super) fn start(&mut self, key: &PlainKey, attempt: Attempt) {
        self.running.add(Running::new(key.clone(), attempt));
    }

    pub(super) fn finish(&mut self, key: &PlainKey, outcome: &[u8], expires: Millis) -> Vec<W> {
        let running = self.take(key);
        let ended = Ended {
            key: &key.key,
            hash: key.short_hash(),
            fingerprint: running.fingerprint,
            outcome,
        };
        self.finished.push(&ended, expires);
        running.waiters
    }

    pub(super) fn release(&mut self, key: &PlainKey) -> Vec<W> {
        self.take(key).waiters
    }

    pub(super) fn deadline(&mut self, key: &PlainKey) -> Option<Instant> {
        self.running.find(key)?.deadline
    }

    fn take(&mut self, key: &PlainKey) -> Running<W> {
        let running = self.running.take(key);
        running.expect("only the one execution of a call ends it, and only once")
    }
}
