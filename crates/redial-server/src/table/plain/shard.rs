//! One shard of the table: the few calls that are running, and the many that are finished.

use std::time::Instant;

use hashbrown::HashTable;
use redial_protocol::CallKey;

use super::{
    Attempt, Fingerprint, PlainKey, Waits,
    ttl::{Finished, Millis, spread},
};

/// How many expired records each call takes away. Two, so that expiry keeps ahead of insertion.
const EXPIRED_PER_STEP: usize = 2;

#[derive(Debug)]
pub(super) struct Shard<W> {
    running: HashTable<Running<W>>,
    pub(super) finished: Finished,
}

/// A call that has been taken on and has not ended: queued, delayed, or in its handler.
#[derive(Debug)]
pub(super) struct Running<W> {
    key: CallKey,
    hash: u32,
    fingerprint: Fingerprint,
    deadline: Option<Instant>,
    pub(super) waiters: Vec<W>,
}

pub(super) enum Found<'a, W> {
    Nothing,
    Running(&'a mut Running<W>),
    Finished([&'a [u8]; 2]),
    OtherCall,
}

impl<W: Waits> Running<W> {
    /// Whether as many wait as may. Those whose connection is gone make room for others.
    pub(super) fn is_crowded(&mut self, max: usize) -> bool {
        if self.waiters.len() >= max {
            self.waiters.retain(Waits::is_there);
        }
        self.waiters.len() >= max
    }
}

impl<W> Running<W> {
    /// Adds a waiter. The call may start as long as anybody still wants it to.
    pub(super) fn join(&mut self, waiter: W, deadline: Option<Instant>) {
        self.waiters.push(waiter);
        self.deadline = self
            .deadline
            .zip(deadline)
            .map(|(one, other)| one.max(other));
    }
}

impl<W> Default for Shard<W> {
    fn default() -> Self {
        Self {
            running: HashTable::new(),
            finished: Finished::default(),
        }
    }
}

impl<W> Shard<W> {
    /// Takes a few expired records away, and in any case that of this call, so that no record
    /// outlives its time because others wait in front of it. Says what was given back.
    pub(super) fn expire(&mut self, key: &PlainKey, now: Millis) -> (usize, usize) {
        let (mut records, mut bytes) = self.finished.expire(now, EXPIRED_PER_STEP);
        if self
            .finished
            .find(&key.key, key.hash)
            .is_some_and(|(_, record)| record.is_expired(now))
        {
            let more = self.finished.expire(now, usize::MAX);
            records += more.0;
            bytes += more.1;
        }
        (records, bytes)
    }

    /// What is known of the call. With a fingerprint it must be the same call.
    pub(super) fn find(
        &mut self,
        key: &PlainKey,
        fingerprint: Option<Fingerprint>,
    ) -> Found<'_, W> {
        let is_same = |found| fingerprint.is_none_or(|expected| expected == found);
        let same_key = |running: &Running<W>| running.key == key.key;
        if let Some(running) = self.running.find_mut(spread(key.hash), same_key) {
            return match is_same(running.fingerprint) {
                true => Found::Running(running),
                false => Found::OtherCall,
            };
        }
        match self.finished.find(&key.key, key.hash) {
            Some((at, record)) if is_same(record.fingerprint) => {
                Found::Finished(self.finished.outcome(at))
            }
            Some(_) => Found::OtherCall,
            None => Found::Nothing,
        }
    }

    pub(super) fn start(&mut self, key: &PlainKey, attempt: Attempt) {
        let running = Running {
            key: key.key.clone(),
            hash: key.hash,
            fingerprint: attempt.fingerprint,
            deadline: attempt.deadline,
            waiters: Vec::new(),
        };
        self.running
            .insert_unique(spread(key.hash), running, |running| spread(running.hash));
    }

    pub(super) fn finish(&mut self, key: &PlainKey, outcome: &[u8], expires: Millis) -> Vec<W> {
        let running = self.take(key);
        self.finished.push(
            running.key,
            running.hash,
            running.fingerprint,
            outcome,
            expires,
        );
        running.waiters
    }

    pub(super) fn release(&mut self, key: &PlainKey) -> Vec<W> {
        self.take(key).waiters
    }

    pub(super) fn deadline(&self, key: &PlainKey) -> Option<Instant> {
        self.running
            .find(spread(key.hash), |running| running.key == key.key)?
            .deadline
    }

    fn take(&mut self, key: &PlainKey) -> Running<W> {
        match self
            .running
            .find_entry(spread(key.hash), |running| running.key == key.key)
        {
            Ok(entry) => entry.remove().0,
            Err(_) => unreachable!("only the one execution of a call ends it, and only once"),
        }
    }
}
