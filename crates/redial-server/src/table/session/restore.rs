//! The records of a session as a store has kept them: what they were acknowledged up to, and how they
//! come back.

use super::{
    Records,
    outcome::SlotOutcome,
    slot::{RunningSlot, Slot},
};
use crate::{
    store::Acknowledged,
    table::call::{Fingerprint, Interest, Restored, RestoredCall, TakenOver},
};

/// How far beyond the first number that is not acknowledged a record may lie: more than any window
/// allows. What is further is no record that this server has written.
const MAX_SPAN: u64 = 1 << 20;

impl<W> Records<W> {
    /// What is acknowledged by now, but for ranges above a number that is open: what each call says beside its id.
    pub(in crate::table) fn acknowledged(&self) -> Acknowledged {
        Acknowledged {
            below: self.base,
            open: self.stragglers.keys().copied().collect(),
        }
    }

    /// All that is acknowledged by now. That takes a look at each slot.
    pub(in crate::table) fn all_acknowledged(&self) -> Acknowledged {
        let is_acknowledged = |slot: &Slot<W>| matches!(slot, Slot::Acknowledged);
        let Some(last) = self.ring.iter().rposition(is_acknowledged) else {
            return self.acknowledged();
        };
        let below = (self.base..).zip(self.ring.iter().take(last));
        let open = below.filter(|(_, slot)| !is_acknowledged(slot));
        let stragglers = self.stragglers.keys().copied();
        Acknowledged {
            below: self.base + last as u64 + 1,
            open: stragglers.chain(open.map(|(number, _)| number)).collect(),
        }
    }

    /// Begins anew with what was acknowledged.
    pub(in crate::table) fn restore(&mut self, acknowledged: &Acknowledged) {
        self.base = acknowledged.below;
        let open = acknowledged.open.iter();
        self.stragglers = open
            .map(|number| (*number, Slot::Empty { refused: 0 }))
            .collect();
        self.totals.open = self.stragglers.len();
    }

    /// Restores one call.
    pub(in crate::table) fn restore_call(
        &mut self,
        number: u64,
        call: RestoredCall<'_>,
    ) -> Restored {
        if number.saturating_sub(self.base) > MAX_SPAN {
            return Restored::TooFar;
        }
        while self.end() <= number {
            self.ring.push_back(Slot::Empty { refused: 0 });
            self.totals.open += 1;
        }
        let (restored, outcome_bytes) = match call {
            RestoredCall::Finished(fingerprint, bytes) => {
                let mut outcome = SlotOutcome::default();
                outcome.fill(bytes, &mut self.totals.pool);
                (
                    Slot::Finished {
                        fingerprint,
                        outcome,
                    },
                    bytes.len(),
                )
            }
            RestoredCall::Fenced => (Slot::Fenced, 0),
            RestoredCall::Running(fingerprint) => {
                (Slot::Running(RunningSlot::resumed(fingerprint)), 0)
            }
        };
        let is_live = !matches!(restored, Slot::Fenced);
        let is_running = matches!(restored, Slot::Running(_));
        let Some(slot) = self.slot(number) else {
            return Restored::Acknowledged;
        };
        *slot = restored;
        self.totals.live += usize::from(is_live);
        self.totals.running += usize::from(is_running);
        self.totals.outcome_bytes += outcome_bytes;
        Restored::Placed
    }

    /// A call that was fenced because of a question has run elsewhere, or may run again, as the store says:
    /// any attempt may ask it.
    pub(in crate::table) fn lift_fence(&mut self, number: u64) {
        if let Some(slot @ Slot::Fenced) = self.slot(number) {
            *slot = Slot::Empty { refused: 0 };
        }
    }

    /// Has a call run again that the store knows as started at a server which is gone. Here it is new, or
    /// fenced because of a question.
    pub(in crate::table) fn take_over(
        &mut self,
        number: u64,
        fingerprint: Fingerprint,
        waiter: W,
    ) -> TakenOver<W> {
        match self.slot(number) {
            Some(slot @ (Slot::Empty { .. } | Slot::Fenced)) => {
                let mut running = RunningSlot::resumed(fingerprint);
                running.interest.waiters.push(waiter);
                *slot = Slot::Running(running);
                self.totals.live += 1;
                self.totals.running += 1;
                TakenOver::Starts
            }
            Some(Slot::Running(running)) => {
                running.interest.waiters.push(waiter);
                TakenOver::Runs
            }
            Some(Slot::Finished { outcome, .. }) => {
                let mut bytes = Vec::new();
                bytes.extend_from_slice(outcome.as_slice());
                TakenOver::Ended(waiter, bytes)
            }
            Some(Slot::Acknowledged) | None => TakenOver::Acknowledged(waiter),
        }
    }
}

impl<W> RunningSlot<W> {
    /// A call that is run again without an attempt having asked for it.
    fn resumed(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint,
            interest: Interest::new(None),
            attempt: 0,
            is_started: true,
        }
    }
}
