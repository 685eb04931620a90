//! How much the table holds, over all shards.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Records, and the bytes that they keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Amount {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Records that are running or finished, and what they keep.
#[derive(Debug, Default)]
pub(super) struct Usage {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl Usage {
    /// Takes room for a new record, if there is any.
    pub(super) fn reserve(&self, cost: usize, max: Amount) -> bool {
        let records = self.records.fetch_add(1, Relaxed);
        let bytes = self.bytes.fetch_add(cost, Relaxed);
        let fits = records < max.records && bytes + cost <= max.bytes;
        if !fits {
            self.give_back(Amount {
                records: 1,
                bytes: cost,
            });
        }
        fits
    }

    /// Takes room for an outcome, which has to be kept whether there is room or not.
    pub(super) fn take(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn give_back(&self, amount: Amount) {
        if amount.records > 0 {
            self.records.fetch_sub(amount.records, Relaxed);
            self.bytes.fetch_sub(amount.bytes, Relaxed);
        }
    }

    pub(super) fn amount(&self) -> Amount {
        Amount {
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}
