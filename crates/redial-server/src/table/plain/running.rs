//! The calls of a shard that are running.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{key::PlainKey, owners::OwnerUsage};
use crate::table::call::{Attempt, Fingerprint, Interest};

/// A call that was admitted and has not finished: queued, delayed, or in its handler.
#[derive(Debug)]
pub(super) struct RunningCall<W> {
    key: PlainKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) interest: Interest<W>,
    /// How many bytes are reserved for its outcome.
    pub(super) expected_bytes: usize,
    /// What its principal has, if it has one.
    pub(super) owner: Option<Arc<OwnerUsage>>,
}

#[derive(Debug)]
pub(super) struct RunningCalls<W>(HashTable<RunningCall<W>>);

impl<W> RunningCall<W> {
    pub(super) fn new(
        key: PlainKey,
        attempt: &Attempt<'_>,
        expected_bytes: usize,
        owner: Option<Arc<OwnerUsage>>,
    ) -> Self {
        Self {
            key,
            fingerprint: attempt.fingerprint,
            interest: Interest::new(attempt.deadline),
            expected_bytes,
            owner,
        }
    }
}

impl<W> Default for RunningCalls<W> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

impl<W> RunningCalls<W> {
    pub(super) fn add(&mut self, running: RunningCall<W>) {
        let hash = running.key.hash;
        self.0
            .insert_unique(hash, running, |running| running.key.hash);
    }

    pub(super) fn find(&mut self, key: &PlainKey) -> Option<&mut RunningCall<W>> {
        self.0.find_mut(key.hash, |running| running.key == *key)
    }

    pub(super) fn take(&mut self, key: &PlainKey) -> Option<RunningCall<W>> {
        let entry = self.0.find_entry(key.hash, |running| running.key == *key);
        Some(entry.ok()?.remove().0)
    }
}
