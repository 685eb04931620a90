//! What a session keeps of one call.

use super::outcome::SlotOutcome;
use crate::table::call::{Attempt, Fingerprint, Interest};

#[derive(Debug)]
pub(super) enum Slot<W> {
    /// Nothing has been executed. Attempts up to this number have been refused.
    Empty {
        refused: u32,
    },
    Running(RunningSlot<W>),
    Finished {
        fingerprint: Fingerprint,
        outcome: SlotOutcome,
    },
    /// Nothing has been executed, and a caller has heard that nothing ever will be.
    Fenced,
    /// The caller has acknowledged the call.
    Acknowledged,
}

impl<W> Slot<W> {
    /// The call runs, or has an outcome.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Finished { .. })
    }
}

#[derive(Debug)]
pub(super) struct RunningSlot<W> {
    pub(super) fingerprint: Fingerprint,
    pub(super) interest: Interest<W>,
    /// The highest number of an attempt.
    pub(super) attempt: u32,
    /// The handler has started: the call can't be cancelled.
    pub(super) is_started: bool,
}

impl<W> RunningSlot<W> {
    /// After attempts up to a number have been refused.
    #[inline]
    pub(super) fn new(attempt: &Attempt<'_>, refused: u32, is_started: bool) -> Self {
        Self {
            fingerprint: attempt.fingerprint,
            interest: Interest::new(attempt.deadline),
            attempt: attempt.notable().max(refused),
            is_started,
        }
    }

    pub(super) fn join(&mut self, waiter: W, attempt: &Attempt<'_>) {
        self.interest.join(waiter, attempt.deadline);
        self.attempt = self.attempt.max(attempt.notable());
    }
}
