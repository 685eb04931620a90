//! What the slots of a session keep, added up, and what they have left behind.

use super::{answers::Acknowledged, outcome::Spare, slot::Slot};

#[derive(Debug, Default)]
pub(super) struct Kept {
    /// How many slots are not over.
    pub(super) open: usize,
    /// How many of them have something to tell: they run, or have an outcome.
    pub(super) live: usize,
    /// How long all outcomes are.
    pub(super) outcome_bytes: usize,
    pub(super) spare: Spare,
}

impl Kept {
    /// The slot of a number goes. What it holds is taken from where it is: moving a slot that is
    /// about to be dropped costs more than looking at it.
    pub(super) fn close<W>(
        &mut self,
        number: u64,
        slot: &mut Slot<W>,
        told: &mut Option<Acknowledged<W>>,
    ) {
        match slot {
            Slot::Over => return,
            Slot::Empty { .. } | Slot::Fenced => {}
            Slot::Running(running) => {
                self.live -= 1;
                let waiters = std::mem::take(&mut running.waiters);
                let told = told.get_or_insert_default();
                match running.is_started {
                    true => told.begun.extend(waiters),
                    false => {
                        told.never.extend(waiters);
                        told.waiting.push(number);
                    }
                }
            }
            Slot::Finished { outcome, .. } => {
                self.live -= 1;
                self.outcome_bytes -= outcome.as_slice().len();
                self.spare.take(outcome);
            }
        }
        self.open -= 1;
    }
}
