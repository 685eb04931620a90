//! The calls of a shard that are running.

use hashbrown::HashTable;

use super::key::PlainKey;
use crate::table::call::{Attempt, Fingerprint, Interest};

/// How many are kept in a list, which is quicker to search than hashing.
const FEW: usize = 8;

/// A call that was admitted and has not finished: queued, delayed, or in its handler.
#[derive(Debug)]
pub(super) struct RunningCall<W> {
    key: PlainKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) interest: Interest<W>,
}

/// Where calls finish as soon as they have started, there are never more than a few.
#[derive(Debug)]
pub(super) struct RunningCalls<W> {
    few: Vec<RunningCall<W>>,
    /// What came when there were more.
    many: HashTable<RunningCall<W>>,
}

impl<W> RunningCall<W> {
    pub(super) fn new(key: PlainKey, attempt: Attempt<'_>) -> Self {
        Self {
            key,
            fingerprint: attempt.fingerprint,
            interest: Interest::new(attempt.deadline),
        }
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
    pub(super) fn add(&mut self, running: RunningCall<W>) {
        if self.few.len() < FEW {
            self.few.push(running);
        } else {
            let hash = running.key.hash;
            self.many
                .insert_unique(hash, running, |running| running.key.hash);
        }
    }

    pub(super) fn find(&mut self, key: &PlainKey) -> Option<&mut RunningCall<W>> {
        match self.among_few(key) {
            Some(at) => Some(&mut self.few[at]),
            None if self.many.is_empty() => None,
            None => self.many.find_mut(key.hash, |running| running.key == *key),
        }
    }

    pub(super) fn take(&mut self, key: &PlainKey) -> Option<RunningCall<W>> {
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
