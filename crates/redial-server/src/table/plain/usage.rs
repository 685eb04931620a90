//! How much the table holds, over all shards, and how a shard asks whether it may hold more.
//!
//! A shard asks for more than it needs and keeps what it gives back, so that a call seldom touches
//! what all threads share. Near a bound a shard asks for no more than it needs, and before a call
//! is refused what the others have in hand is gathered.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::SHARDS;

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

/// What all shards hold or have in hand.
#[derive(Debug)]
pub(super) struct Usage {
    records: AtomicUsize,
    bytes: AtomicUsize,
    max: Amount,
}

/// What a shard has in hand: it may hold so much more.
#[derive(Debug, Default)]
pub(super) struct InHand(Amount);

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

    /// Takes an amount if that leaves as much as `left` free.
    fn try_take(&self, amount: Amount, left: Amount) -> bool {
        let taken = self.take(amount);
        let fits = taken.plus(left).fits_into(self.max);
        if !fits {
            self.give_back(amount);
        }
        fits
    }

    /// Says what is taken from then on.
    fn take(&self, amount: Amount) -> Amount {
        let before = Amount {
            records: self.records.fetch_add(amount.records, Relaxed),
            bytes: self.bytes.fetch_add(amount.bytes, Relaxed),
        };
        before.plus(amount)
    }

    fn give_back(&self, amount: Amount) {
        self.records.fetch_sub(amount.records, Relaxed);
        self.bytes.fetch_sub(amount.bytes, Relaxed);
    }
}

impl InHand {
    /// Takes room for a new record, if there is any.
    pub(super) fn reserve(&mut self, new: Amount, usage: &Usage) -> bool {
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
        let left = Amount {
            records: SHARDS * PORTION.records,
            bytes: SHARDS * PORTION.bytes,
        };
        let mut asked = [(most, left), (least, Amount::default())].into_iter();
        let got = asked.find(|(amount, left)| usage.try_take(*amount, *left));
        self.0 = got.map_or(self.0, |(amount, _)| self.0.plus(amount));
        got.is_some()
    }

    /// Room that is not needed any more. What is too much for a hand goes back.
    pub(super) fn put(&mut self, amount: Amount, usage: &Usage) {
        self.0 = self.0.plus(amount);
        let too_much = Amount {
            records: surplus(self.0.records, PORTION.records),
            bytes: surplus(self.0.bytes, PORTION.bytes),
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

/// All above one portion, once there are two.
fn surplus(in_hand: usize, portion: usize) -> usize {
    match in_hand > 2 * portion {
        true => in_hand - portion,
        false => 0,
    }
}

#[cfg(test)]
mod tests;
