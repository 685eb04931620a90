//! The records of one session, found by counting: a ring of slots, one for each number from the
//! lowest that is not acknowledged to the highest that has been seen.
//!
//! The client acknowledges what it has heard, and that is forgotten at once. A number below the
//! ring is known to be acknowledged by being below it, whatever arrives late. So memory is
//! proportional to what is in flight, and there is no time window after which a duplicate would
//! run: RIFL (Lee et al., SOSP 2015, section 4.2) has the same rule for its completion records.
//!
//! One slow call must not pin those after it: when the ring has grown to [`RING_SLOTS`] times the
//! window, the slots in front that are still open move to the stragglers, and the others cost
//! nothing any more. Every step takes constant time, or is paid for by the steps that made it
//! necessary; a straggler is found in the logarithm of at most twice the window.

mod outcome;
mod restore;
mod slot;
mod slots;
mod totals;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use self::{
    outcome::SlotOutcome,
    slot::{RunningSlot, Slot},
    totals::SlotTotals,
};
use super::call::{Admitted, Attempt, Cancelled, Decision, Resolved, StartCheck, TableWaiter};

/// How many slots the ring has at most, in windows.
const RING_SLOTS: usize = 2;

/// How many calls may be open, in windows: acknowledgements on one connection may be overtaken by
/// requests on another.
const SLACK: usize = 2;

/// How far beyond the end of the ring a refused number is noted, in windows: a client that counts its
/// window is never further ahead, and what is noted holds for all numbers up to that one.
const NOTABLE: usize = 4;

/// What a straggler takes: its slot, its number, and its share of the tree.
const STRAGGLER_BYTES: usize = 128;

/// How long a client stays away whose session keeps as many bytes as it may.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The bounds of sessions; see `Config` for what they mean to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    pub(crate) lease: Duration,
    pub(crate) window: usize,
    pub(crate) max_sessions: usize,
    /// Of the outcomes of one session.
    pub(crate) max_bytes: usize,
    /// Of the outcomes of all sessions.
    pub(crate) max_total_bytes: usize,
    pub(crate) max_joined: usize,
    /// Sessions are shared with other servers by a store: what is forgotten here is found again, and is
    /// not forgotten while a call runs.
    pub(crate) is_shared: bool,
}

/// What limits a step on one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<'a> {
    pub(super) limits: &'a SessionLimits,
    /// All sessions together keep as many bytes as they may, or those of one peer its share.
    pub(super) is_full: bool,
}

#[derive(Debug)]
pub(crate) struct Records<W> {
    /// The number of the first slot of the ring. What is below is acknowledged, unless it is a
    /// straggler.
    base: u64,
    ring: VecDeque<Slot<W>>,
    /// Slots below the ring that are still open.
    stragglers: BTreeMap<u64, Slot<W>>,
    totals: SlotTotals,
    refused_without_slot: RefusedWithoutSlot,
}

/// What was refused for want of a slot to note it in: up to the number `highest`, no attempt up to
/// `attempt` may run any more.
#[derive(Clone, Copy, Debug, Default)]
struct RefusedWithoutSlot {
    highest: u64,
    attempt: u32,
}

/// Why a number has no slot.
enum NoSlot {
    /// Its caller has acknowledged it.
    Acknowledged,
    /// It is beyond the window, or the memory.
    OutOfRoom,
}

impl<W> Default for Records<W> {
    fn default() -> Self {
        Self {
            base: 0,
            ring: VecDeque::new(),
            stragglers: BTreeMap::new(),
            totals: SlotTotals::default(),
            refused_without_slot: RefusedWithoutSlot::default(),
        }
    }
}

impl<W: TableWaiter> Records<W> {
    /// One attempt of a call arrives; see [`Table::begin`](super::Table::begin).
    pub(super) fn begin<T, R>(
        &mut self,
        number: u64,
        attempt: &Attempt<'_>,
        room: Room<'_>,
        admit: impl FnMut() -> Result<Admitted<T>, R>,
        waiter: impl FnMut() -> W,
        replay: &mut Vec<u8>,
    ) -> Decision<T, R> {
        let is_full = room.is_full || self.bytes() >= room.limits.max_bytes;
        let slot = match self.slot_or_insert(number, room.limits.window, is_full) {
            Ok(slot) => slot,
            Err(NoSlot::Acknowledged) => return Decision::Acknowledged,
            Err(NoSlot::OutOfRoom) => {
                let notable = NOTABLE.saturating_mul(room.limits.window) as u64;
                if number - self.end() >= notable {
                    return Decision::FarBeyondWindow;
                }
                self.refused_without_slot.add(number, attempt.notable());
                return Decision::NoSlot;
            }
        };
        match slot {
            Slot::Acknowledged => Decision::Acknowledged,
            Slot::Fenced => Decision::Fenced,
            Slot::Running(running) => running.begin(attempt, room.limits.max_joined, waiter),
            Slot::Finished {
                fingerprint,
                outcome,
            } => {
                if *fingerprint != attempt.fingerprint {
                    return Decision::IdReused;
                }
                replay.extend_from_slice(outcome.as_slice());
                Decision::Replayed
            }
            // A copy of a refused attempt, made on the way. Its caller may know that nothing was
            // executed, so nothing is.
            Slot::Empty { refused } if attempt.is_numbered && attempt.number <= *refused => {
                Decision::RefusedBefore { up_to: *refused }
            }
            Slot::Empty { .. } => {
                let decision = slot.start(attempt, is_full, admit);
                let started = usize::from(matches!(decision, Decision::Start(_)));
                self.totals.live += started;
                self.totals.running += started;
                decision
            }
        }
    }

    /// Finds the outcome of a call, or makes sure that it will never have one.
    pub(super) fn resolve(
        &mut self,
        number: u64,
        room: Room<'_>,
        waiter: impl FnOnce() -> W,
        replay: &mut Vec<u8>,
    ) -> Resolved {
        let slot = match self.slot_or_insert(number, room.limits.window, room.is_full) {
            Ok(slot) => slot,
            Err(NoSlot::Acknowledged) => return Resolved::Acknowledged,
            Err(NoSlot::OutOfRoom) => return Resolved::NoSlot,
        };
        match slot {
            Slot::Acknowledged => Resolved::Acknowledged,
            Slot::Running(running) => {
                if running.interest.is_crowded(room.limits.max_joined) {
                    return Resolved::TooManyJoined;
                }
                // A question has no deadline of its own, and changes that of the call as little.
                running.interest.waiters.push(waiter());
                Resolved::Joined
            }
            Slot::Finished { outcome, .. } => {
                replay.extend_from_slice(outcome.as_slice());
                Resolved::Done
            }
            Slot::Empty { .. } | Slot::Fenced => {
                *slot = Slot::Fenced;
                Resolved::Never
            }
        }
    }

    /// Cancels the call, if it has not started.
    pub(super) fn cancel(&mut self, number: u64, room: Room<'_>) -> Cancelled<W> {
        let slot = match self.slot_or_insert(number, room.limits.window, room.is_full) {
            Ok(slot) => slot,
            Err(NoSlot::Acknowledged) => return Cancelled::Acknowledged,
            Err(NoSlot::OutOfRoom) => return Cancelled::NoSlot,
        };
        match slot {
            Slot::Acknowledged => Cancelled::Acknowledged,
            Slot::Finished { .. } => Cancelled::Done,
            Slot::Running(running) if running.is_started => Cancelled::Running,
            Slot::Running(running) => {
                let waiters = std::mem::take(&mut running.interest.waiters);
                *slot = Slot::Fenced;
                self.totals.live -= 1;
                self.totals.running -= 1;
                Cancelled::Never(Some(waiters))
            }
            Slot::Empty { .. } | Slot::Fenced => {
                *slot = Slot::Fenced;
                Cancelled::Never(None)
            }
        }
    }

    /// The call did not start, or had no effect. If its outcome was asked for, the answer is that
    /// it was not executed, and so it never will be.
    pub(super) fn release(&mut self, number: u64) -> Vec<W> {
        let Some(slot @ Slot::Running(_)) = self.slot(number) else {
            return Vec::new();
        };
        let Slot::Running(running) = std::mem::replace(slot, Slot::Fenced) else {
            unreachable!("the slot was matched in the line above");
        };
        let waiters = running.interest.waiters;
        if !waiters.iter().any(TableWaiter::is_question) {
            *slot = Slot::Empty {
                refused: running.attempt,
            };
        }
        self.totals.live -= 1;
        self.totals.running -= 1;
        waiters
    }

    /// The call may have been executed, and the store will say so when it is asked again: any attempt may
    /// ask it. Returns the waiters.
    pub(super) fn reopen(&mut self, number: u64) -> Vec<W> {
        let Some(slot @ Slot::Running(_)) = self.slot(number) else {
            return Vec::new();
        };
        let Slot::Running(running) = std::mem::replace(slot, Slot::Empty { refused: 0 }) else {
            unreachable!("the slot was matched in the line above");
        };
        self.totals.live -= 1;
        self.totals.running -= 1;
        running.interest.waiters
    }

    /// See [`Table::check_start`](super::Table::check_start).
    pub(super) fn check_start(&mut self, number: u64, now: Instant) -> StartCheck<W> {
        let Some(Slot::Running(running)) = self.slot(number) else {
            return StartCheck::Cancelled;
        };
        let deadline = running.interest.deadline;
        if deadline.is_some_and(|deadline| deadline <= now) {
            return StartCheck::Expired(self.release(number));
        }
        running.is_started = true;
        StartCheck::Start
    }

    /// See [`Table::check_queued`](super::Table::check_queued).
    pub(super) fn check_queued(&mut self, number: u64, now: Instant) -> StartCheck<W> {
        let Some(Slot::Running(running)) = self.slot(number) else {
            return StartCheck::Cancelled;
        };
        match running.interest.deadline {
            Some(deadline) if deadline <= now => StartCheck::Expired(self.release(number)),
            _ => StartCheck::Start,
        }
    }

    /// Releases a call that has not started, if none of those who have joined it has a connection any more.
    pub(super) fn release_unheard(&mut self, number: u64) -> Option<Vec<W>> {
        match self.slot(number) {
            Some(Slot::Running(running)) if running.is_started || running.interest.is_heard() => {
                None
            }
            Some(Slot::Running(_)) => Some(self.release(number)),
            _ => None,
        }
    }
}

impl<W> Records<W> {
    /// The execution finished. If its caller has acknowledged the call meanwhile, there are no
    /// waiters and nothing is recorded.
    pub(super) fn finish(&mut self, number: u64, outcome: &[u8]) -> Vec<W> {
        // Not by `self.slot`: the pool is needed while the slot is borrowed.
        let (ring, stragglers) = (&mut self.ring, &mut self.stragglers);
        let Some(slot) = slots::find(number, self.base, ring, stragglers) else {
            return Vec::new();
        };
        let Slot::Running(running) = slot else {
            return Vec::new();
        };
        let waiters = std::mem::take(&mut running.interest.waiters);
        *slot = Slot::Finished {
            fingerprint: running.fingerprint,
            outcome: SlotOutcome::default(),
        };
        if let Slot::Finished {
            outcome: stored, ..
        } = slot
        {
            stored.fill(outcome, &mut self.totals.pool);
        }
        self.totals.finish(outcome.len());
        waiters
    }

    /// How many calls are not acknowledged, including those that never arrived.
    pub(crate) fn open(&self) -> usize {
        self.totals.open
    }

    /// How many calls run, or have an outcome that is not acknowledged.
    pub(crate) fn live(&self) -> usize {
        self.totals.live
    }

    /// How many of those run.
    pub(crate) fn running(&self) -> usize {
        self.totals.running
    }

    /// The numbers of the calls that run, or have an outcome that is not acknowledged, in ascending
    /// ranges.
    pub(super) fn known(&self) -> Vec<(u64, u64)> {
        let stragglers = self.stragglers.iter().map(|(number, slot)| (*number, slot));
        let slots = stragglers.chain((self.base..).zip(&self.ring));
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (number, _) in slots.filter(|(_, slot)| slot.is_live()) {
            match ranges.last_mut() {
                Some((_, end)) if *end == number => *end += 1,
                _ => ranges.push((number, number + 1)),
            }
        }
        ranges
    }

    /// What it all takes, in bytes: outcomes and slots.
    pub(crate) fn bytes(&self) -> usize {
        self.totals.outcome_bytes + self.slot_bytes()
    }

    /// What it all takes once the running calls have ended, as far as can be known, in bytes.
    pub(super) fn claimed_bytes(&self) -> usize {
        self.totals.expected_bytes() + self.slot_bytes()
    }

    fn slot_bytes(&self) -> usize {
        let ring = self.ring.len() * size_of::<Slot<W>>();
        ring + self.stragglers.len() * STRAGGLER_BYTES
    }
}

impl<W: TableWaiter> RunningSlot<W> {
    fn begin<T, R>(
        &mut self,
        attempt: &Attempt<'_>,
        max_joined: usize,
        mut waiter: impl FnMut() -> W,
    ) -> Decision<T, R> {
        if self.fingerprint != attempt.fingerprint {
            // If the call is released, a copy of this attempt must not run in its place.
            self.attempt = self.attempt.max(attempt.notable());
            return Decision::IdReused;
        }
        if self.interest.is_crowded(max_joined) {
            return Decision::TooManyJoined;
        }
        self.join(waiter(), attempt);
        Decision::Joined
    }
}

impl<W> Slot<W> {
    /// Lets an empty slot's call start, or notes that this attempt of it was refused.
    fn start<T, R>(
        &mut self,
        attempt: &Attempt<'_>,
        is_full: bool,
        mut admit: impl FnMut() -> Result<Admitted<T>, R>,
    ) -> Decision<T, R> {
        if is_full {
            self.note_refused(attempt);
            let retry_after = RETRY_AFTER;
            return Decision::Full { retry_after };
        }
        match admit() {
            Ok(Admitted { ticket, starts_now }) => {
                let refused = match self {
                    Self::Empty { refused } => *refused,
                    _ => 0,
                };
                *self = Self::Running(RunningSlot::new(attempt, refused, starts_now));
                Decision::Start(ticket)
            }
            Err(reason) => {
                self.note_refused(attempt);
                Decision::Refused(reason)
            }
        }
    }

    fn note_refused(&mut self, attempt: &Attempt<'_>) {
        if let Self::Empty { refused } = self {
            *refused = attempt.notable().max(*refused);
        }
    }
}

impl RefusedWithoutSlot {
    fn add(&mut self, number: u64, attempt: u32) {
        self.highest = self.highest.max(number);
        self.attempt = self.attempt.max(attempt);
    }

    /// Up to which attempt of a number none may run.
    fn attempt_of(self, number: u64) -> u32 {
        if number <= self.highest {
            self.attempt
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests;
