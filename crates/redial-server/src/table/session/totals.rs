//! Sums over the slots of a session, and the buffers that they have left behind.

use super::{outcome::BufferPool, slot::Slot};
use crate::table::call::AckedWaiters;

#[derive(Debug, Default)]
pub(super) struct SlotTotals {
    /// How many slots are not acknowledged.
    pub(super) open: usize,
    /// How many of them run, or have an outcome.
    pub(super) live: usize,
    /// How many of those run.
    pub(super) running: usize,
    /// How long all outcomes are.
    pub(super) outcome_bytes: usize,
    /// How long the latest outcomes were, on average.
    pub(super) mean_bytes: usize,
    pub(super) pool: BufferPool,
}

impl SlotTotals {
    /// What the outcomes take, and what those of the running calls may be expected to: many that run
    /// at once would otherwise end far beyond a limit.
    pub(super) fn expected_bytes(&self) -> usize {
        self.outcome_bytes + self.running * self.mean_bytes
    }

    /// A call that ran has an outcome of this length.
    pub(super) fn finish(&mut self, bytes: usize) {
        self.running -= 1;
        self.outcome_bytes += bytes;
        self.mean_bytes = if self.mean_bytes == 0 {
            bytes
        } else {
            self.mean_bytes - self.mean_bytes / 8 + bytes / 8
        };
    }

    /// The slot of a number goes. What it holds is taken out in place: moving a slot that is about
    /// to be dropped costs more than looking at it.
    pub(super) fn close<W>(
        &mut self,
        number: u64,
        slot: &mut Slot<W>,
        notify: &mut Option<AckedWaiters<W>>,
    ) {
        match slot {
            Slot::Acknowledged => return,
            Slot::Empty { .. } | Slot::Fenced => {}
            Slot::Running(running) => {
                self.live -= 1;
                self.running -= 1;
                let waiters = std::mem::take(&mut running.interest.waiters);
                let notify = notify.get_or_insert_default();
                if running.is_started {
                    notify.started.extend(waiters);
                } else {
                    notify.never.extend(waiters);
                    notify.queued.push(number);
                }
            }
            Slot::Finished { outcome, .. } => {
                self.live -= 1;
                self.outcome_bytes -= outcome.as_slice().len();
                self.pool.take(outcome);
            }
        }
        self.open -= 1;
    }
}
