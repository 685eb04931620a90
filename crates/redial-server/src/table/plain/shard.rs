//! One shard of the table: the few calls that are running, and the many that are finished.

use std::time::{Duration, Instant};

use super::{
    Attempt, Fingerprint, PlainKey,
    finished::{Ended, Finished},
    running::{Running, RunningCalls},
    ttl::Millis,
    usage::{Amount, InHand, Usage},
};

/// Threads that use different shards share no line of the cache.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Shard<W> {
    running: RunningCalls<W>,
    pub(super) finished: Finished,
    pub(super) in_hand: InHand,
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
            in_hand: InHand::default(),
        }
    }

    /// Takes away what goes without a look at it.
    pub(super) fn expire(&mut self, now: Millis, usage: &Usage) {
        let gone = self.finished.expire(now);
        if gone.records > 0 {
            self.in_hand.put(gone, usage);
        }
    }

    /// Takes away all that has expired. Says what it kept.
    pub(super) fn expire_all(&mut self, now: Millis, usage: &Usage) -> Amount {
        let gone = self.finished.expire_all(now);
        self.in_hand.put(gone, usage);
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
