//! How much the table holds, over all shards, and how a shard asks whether it may hold more.
//!
//! A shard takes quota in portions and keeps what it frees, so that a call seldom touches what all
//! threads share. Near a bound a shard takes no more than it needs and keeps nothing, and before a
//! call is refused the quotas of the other shards are reclaimed.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Enough that two threads rarely contend and that a shard grows in steps too small to be felt, and
/// few enough that the spare capacity of all of them fits into a cache.
pub(super) const SHARDS: usize = 32;

/// Records, and the bytes that they keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// What a shard takes at once.
const PORTION: Amount = Amount {
    records: 64,
    bytes: 16 * 1024,
};

/// A portion for every shard: where less than this is left, a bound is near.
const NEAR: Amount = Amount {
    records: SHARDS * PORTION.records,
    bytes: SHARDS * PORTION.bytes,
};

/// From which length on outcomes are expected to be of the same length again.
const LARGE_BYTES: usize = 4096;

/// What all shards hold, together with their unused quotas.
#[derive(Debug)]
pub(super) struct Usage {
    records: AtomicUsize,
    bytes: AtomicUsize,
    max: Amount,
    /// How long the latest outcomes were, on average, if they are large.
    large_bytes: AtomicUsize,
}

/// How much more a shard may hold without asking.
#[derive(Debug, Default)]
pub(super) struct LocalQuota(Amount);

impl Amount {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// The difference; zero where it would be negative.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn fits_into(self, other: Self) -> bool {
        self.records <= other.records && self.bytes <= other.bytes
    }
}

impl Usage {
    pub(super) fn new(max: Amount) -> Self {
        Self {
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max,
            large_bytes: AtomicUsize::new(0),
        }
    }

    /// What a call reserves for its outcome: nothing where outcomes are small, as most are. Large ones
    /// of calls that run at once would otherwise end far beyond the bound.
    pub(super) fn expected_outcome(&self) -> usize {
        self.large_bytes.load(Relaxed)
    }

    fn note_outcome(&self, bytes: usize) {
        let mean = self.large_bytes.load(Relaxed);
        if mean == 0 && bytes < LARGE_BYTES {
            return;
        }
        let mean = if mean == 0 {
            bytes
        } else {
            mean - mean / 8 + bytes / 8
        };
        let mean = if mean < LARGE_BYTES { 0 } else { mean };
        self.large_bytes.store(mean, Relaxed);
    }

    pub(super) fn taken(&self) -> Amount {
        Amount {
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    /// What none has taken.
    pub(super) fn free(&self) -> Amount {
        self.max.less(self.taken())
    }

    /// Whether outcomes, which are kept in any case, have taken more than there is.
    fn is_exceeded(&self) -> bool {
        self.bytes.load(Relaxed) > self.max.bytes
    }

    fn is_near(&self) -> bool {
        !self.has_room(NEAR)
    }

    fn has_room(&self, amount: Amount) -> bool {
        self.taken().plus(amount).fits_into(self.max)
    }

    /// Takes an amount if there is room for it. If there isn't, no other shard is kept from the room
    /// that there is, not even for a moment.
    fn try_take(&self, amount: Amount) -> bool {
        let (max, Amount { records, bytes }) = (self.max, amount);
        if !self.has_room(amount) || !try_add(&self.records, records, max.records) {
            return false;
        }
        let fits = try_add(&self.bytes, bytes, max.bytes);
        if !fits {
            self.records.fetch_sub(records, Relaxed);
        }
        fits
    }

    fn take(&self, amount: Amount) {
        self.records.fetch_add(amount.records, Relaxed);
        self.bytes.fetch_add(amount.bytes, Relaxed);
    }

    fn release(&self, amount: Amount) {
        self.records.fetch_sub(amount.records, Relaxed);
        self.bytes.fetch_sub(amount.bytes, Relaxed);
    }
}

impl LocalQuota {
    /// Takes room for a new record, if there is any.
    pub(super) fn reserve(&mut self, new: Amount, usage: &Usage) -> bool {
        if usage.is_exceeded() {
            // The quota is not backed by room then.
            self.return_all(usage);
        }
        let fits = self.get(new, usage);
        if fits {
            self.0 = self.0.less(new);
        }
        fits
    }

    /// Takes room for an outcome in place of what was reserved for it.
    pub(super) fn settle(&mut self, expected_bytes: usize, bytes: usize, usage: &Usage) {
        usage.note_outcome(bytes);
        self.0.bytes += expected_bytes;
        self.take(bytes, usage);
        if expected_bytes > 0 {
            self.put(Amount::default(), usage);
        }
    }

    /// Takes room for an outcome, which is stored whether there is room or not.
    pub(super) fn take(&mut self, bytes: usize, usage: &Usage) {
        self.take_all(Amount { records: 0, bytes }, usage);
    }

    /// Takes an amount whether there is room or not.
    pub(super) fn take_all(&mut self, outcome: Amount, usage: &Usage) {
        if !self.get(outcome, usage) {
            let missing = outcome.less(self.0);
            usage.take(missing);
            self.0 = self.0.plus(missing);
        }
        self.0 = self.0.less(outcome);
    }

    /// Makes sure of at least so much quota. Returns whether that was possible.
    fn get(&mut self, wanted: Amount, usage: &Usage) -> bool {
        wanted.fits_into(self.0) || self.ask(wanted, usage)
    }

    #[cold]
    fn ask(&mut self, wanted: Amount, usage: &Usage) -> bool {
        let least = wanted.less(self.0);
        // A portion more, if that leaves as much for every other shard.
        let most = least.plus(PORTION);
        let most = Some(most).filter(|most| usage.has_room(most.plus(NEAR)));
        let mut asked = most.into_iter().chain([least]);
        let got = asked.find(|amount| usage.try_take(*amount));
        self.0 = got.map_or(self.0, |amount| self.0.plus(amount));
        got.is_some()
    }

    /// Returns room that was freed. What is too much for one shard is returned to all.
    pub(super) fn put(&mut self, amount: Amount, usage: &Usage) {
        self.0 = self.0.plus(amount);
        let too_much = if usage.is_near() {
            self.0
        } else {
            Amount {
                records: surplus(self.0.records, PORTION.records),
                bytes: surplus(self.0.bytes, PORTION.bytes),
            }
        };
        if too_much != Amount::default() {
            self.0 = self.0.less(too_much);
            usage.release(too_much);
        }
    }

    /// Returns the whole quota to all shards. Returns how much that was.
    pub(super) fn return_all(&mut self, usage: &Usage) -> Amount {
        let amount = std::mem::take(&mut self.0);
        usage.release(amount);
        amount
    }

    pub(super) fn amount(&self) -> Amount {
        self.0
    }
}

/// Adds to a total if it stays within a bound.
fn try_add(total: &AtomicUsize, more: usize, max: usize) -> bool {
    let within = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= max);
    total.fetch_update(Relaxed, Relaxed, within).is_ok()
}

/// All above one portion, once there are two.
fn surplus(quota: usize, portion: usize) -> usize {
    if quota > 2 * portion {
        quota - portion
    } else {
        0
    }
}

#[cfg(test)]
mod tests;
