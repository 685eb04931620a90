//! The calls of a shard that are running.

use std::time::Instant;

use hashbrown::HashTable;

use super::{Attempt, Fingerprint, PlainKey, Waits};

/// How many are kept where looking at all of them is quicker than hashing.
const FEW: usize = 8;

/// A call that has been taken on and has not ended: queued, delayed, or in its handler.
#[derive(Debug)]
pub(super) struct Running<W> {
    key: PlainKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) deadline: Option<Instant>,
    pub(super) waiters: Vec<W>,
}

/// Where calls end as soon as they have begun, there are never more than a few.
#[derive(Debug)]
pub(super) struct RunningCalls<W> {
    few: Vec<Running<W>>,
    /// What came when there were more.
    many: HashTable<Running<W>>,
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
    pub(super) fn new(key: PlainKey, attempt: Attempt) -> Self {
        Self {
            key,
            fingerprint: attempt.fingerprint,
            deadline: attempt.deadline,
            waiters: Vec::new(),
        }
    }

    /// Adds a waiter. The call may start as long as anybody still wants it to.
    pub(super) fn join(&mut self, waiter: W, deadline: Option<Instant>) {
        self.waiters.push(waiter);
        self.deadline = self
            .deadline
            .zip(deadline)
            .map(|(one, other)| one.max(other));
    }
}

impl<W> Default for RunningCalls<W> {
    fn default() -> Self {
        Self {
            few: Vec::new(),
            many: HashTable::new(),
        }
    }
}

impl<W> RunningCalls<W> {
    pub(super) fn add(&mut self, running: Running<W>) {
        match self.few.len() < FEW {
            true => self.few.push(running),
            false => {
                let hash = running.key.hash;
                self.many
                    .insert_unique(hash, running, |running| running.key.hash);
            }
        }
    }

    pub(super) fn find(&mut self, key: &PlainKey) -> Option<&mut Running<W>> {
        match self.among_few(key) {
            Some(at) => Some(&mut self.few[at]),
            None if self.many.is_empty() => None,
            None => self.many.find_mut(key.hash, |running| running.key == *key),
        }
    }

    pub(super) fn take(&mut self, key: &PlainKey) -> Option<Running<W>> {
        if let Some(at) = self.among_few(key) {
            return Some(self.few.swap_remove(at));
        }
        let entry = self
            .many
            .find_entry(key.hash, |running| running.key == *key);
        Some(entry.ok()?.remove().0)
    }

    fn among_few(&self, key: &PlainKey) -> Option<usize> {
        self.few.iter().position(|running| running.key == *key)
    }
}
