//! How much the table holds, over all shards, and how a shard asks whether it may hold more.
//!
//! A shard asks for more than it needs and keeps what it gives back, so that a call seldom touches
//! what all threads share. Near a bound a shard asks for no more than it needs and keeps nothing,
//! and before a call is refused what the others have in hand is gathered.

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

/// What a shard asks for at once.
const PORTION: Amount = Amount {
    records: 64,
    bytes: 16 * 1024,
};

/// A portion for every shard: where less is left, a bound is near.
const NEAR: Amount = Amount {
    records: SHARDS * PORTION.records,
    bytes: SHARDS * PORTION.bytes,
};

/// What all shards hold or have in hand.
#[derive(Debug)]
pub(super) struct Usage {
    records: AtomicUsize,
    bytes: AtomicUsize,
    max: Amount,
}

/// What a shard has in hand: it may hold so much more.
#[derive(Debug, Default)]
pub(super) struct LocalQuota(Amount);

impl Amount {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Nothing where that would be less.
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
        }
    }

    pub(super) fn taken(&self) -> Amount {
        Amount {
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    /// Whether outcomes, which are kept in any case, have taken more than there is.
    fn is_over(&self) -> bool {
        self.bytes.load(Relaxed) > self.max.bytes
    }

    fn is_near(&self) -> bool {
        !self.has_room(NEAR)
    }

    fn has_room(&self, amount: Amount) -> bool {
        self.taken().plus(amount).fits_into(self.max)
    }

    /// Takes an amount if there is room for it. Where there is none, nobody else is kept from room
    /// that is there, not even for a moment.
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

    fn give_back(&self, amount: Amount) {
        self.records.fetch_sub(amount.records, Relaxed);
        self.bytes.fetch_sub(amount.bytes, Relaxed);
    }
}

impl LocalQuota {
    /// Takes room for a new record, if there is any.
    pub(super) fn reserve(&mut self, new: Amount, usage: &Usage) -> bool {
        if usage.is_over() {
            // What is in hand is not there then.
            self.give_back(usage);
        }
        let fits = self.get(new, usage);
        if fits {
            self.0 = self.0.less(new);
        }
        fits
    }

    /// Takes room for an outcome, which has to be kept whether there is room or not.
    pub(super) fn take(&mut self, bytes: usize, usage: &Usage) {
        let outcome = Amount { records: 0, bytes };
        if !self.get(outcome, usage) {
            let missing = outcome.less(self.0);
            usage.take(missing);
            self.0 = self.0.plus(missing);
        }
        self.0 = self.0.less(outcome);
    }

    /// Gets at least so much into the hand. Says whether it could.
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

    /// Room that is not needed any more. What is too much for a hand goes back.
    pub(super) fn put(&mut self, amount: Amount, usage: &Usage) {
        self.0 = self.0.plus(amount);
        let too_much = match usage.is_near() {
            true => self.0,
            false => Amount {
                records: surplus(self.0.records, PORTION.records),
                bytes: surplus(self.0.bytes, PORTION.bytes),
            },
        };
        if too_much != Amount::default() {
            self.0 = self.0.less(too_much);
            usage.give_back(too_much);
        }
    }

    /// Everything in hand goes back. Says how much.
    pub(super) fn give_back(&mut self, usage: &Usage) -> Amount {
        let amount = std::mem::take(&mut self.0);
        usage.give_back(amount);
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
    match quota > 2 * portion {
        true => quota - portion,
        false => 0,
    }
}

#[cfg(test)]
mod tests;
