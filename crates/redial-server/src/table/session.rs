//! The records of one session, found by counting: a ring of slots, one for each number from the
//! lowest that is not over to the highest that has been seen.
//!
//! The client says what it is done with, and that is forgotten at once. What is over below the
//! ring is known by being below it, whatever arrives late. So memory is proportional to what is
//! in flight, and there is no time window after which a duplicate would run: RIFL (Lee et al.,
//! SOSP 2015, section 4.2) has the same rule for its completion records.
//!
//! One slow call must not pin those after it: when the ring has grown to [`RING_SLOTS`] times the
//! window, the slots in front that are still open are set aside, and the others cost nothing any
//! more. Every step takes constant time, or is paid for by the steps that made it necessary; a
//! slot set aside is found in the logarithm of at most twice the window.

mod answers;
mod kept;
mod outcome;
mod slot;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use redial_protocol::SessionCall;

pub(crate) use self::answers::{Acknowledged, Cancelled, Resolved};
use self::{
    kept::Kept,
    outcome::{Outcome, Spare},
    slot::{Running, Slot},
};
use super::{Admitted, Attempt, Begin, MayStart, Waits, sessions::SessionLimits};

/// How many slots the ring has at most, in windows.
const RING_SLOTS: usize = 2;

/// How much more may be open than the window says, in windows: acknowledgements on one connection
/// may overtake requests on another.
const SLACK: usize = 2;

/// What a slot that is set aside takes: itself, its number, and its share of the tree.
const ASIDE_BYTES: usize = 128;

/// How long a client stays away whose session keeps as many bytes as it may.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Records<W> {
    /// The number of the first slot of the ring. What is below is over, if it isn't set aside.
    base: u64,
    ring: VecDeque<Slot<W>>,
    /// Slots below the ring that are still open.
    aside: BTreeMap<u64, Slot<W>>,
    kept: Kept,
    /// What was refused for want of a slot: no attempt up to the second of a number up to the
    /// first may run any more.
    turned_away: (u64, u32),
}

/// Why a number has no slot.
enum Unreached {
    /// Its caller is done with it.
    Over,
    /// It is more than the window allows, or than the memory.
    NoSlot,
}

impl<W> Default for Records<W> {
    fn default() -> Self {
        Self {
            base: 0,
            ring: VecDeque::new(),
            aside: BTreeMap::new(),
            kept: Kept::default(),
            turned_away: (0, 0),
        }
    }
}

impl<W: Waits> Records<W> {
    /// One attempt of a call arrives; see [`Table::begin`](super::Table::begin). `is_full` is
    /// whether all sessions together keep as much as they may.
    pub(super) fn begin<T, R>(
        &mut self,
        number: u64,
        attempt: Attempt,
        (limits, is_full): (&SessionLimits, bool),
        mut admit: impl FnMut() -> Result<Admitted<T>, R>,
        mut waiter: impl FnMut() -> W,
        replay: &mut Vec<u8>,
    ) -> Begin<T, R> {
        let is_full = is_full || self.bytes() >= limits.max_bytes;
        let slot = match self.reach(number, limits.window, is_full) {
            Ok(slot) => slot,
            Err(Unreached::Over) => return Begin::Stale,
            Err(Unreached::NoSlot) => {
                let (highest, refused) = self.turned_away;
                self.turned_away = (highest.max(number), refused.max(attempt.number));
                return Begin::NoSlot;
            }
        };
        match slot {
            Slot::Over => Begin::Stale,
            Slot::Fenced => Begin::Fenced,
            Slot::Running(running) if running.fingerprint != attempt.fingerprint => {
                // If it is released, a copy of this attempt must not run in its place.
                running.attempt = running.attempt.max(attempt.number);
                Begin::IdReused
            }
            Slot::Running(running) => match running.is_crowded(limits.max_joined) {
                true => Begin::TooManyJoined,
                false => {
                    running.join(waiter(), attempt);
                    Begin::Joined
                }
            },
            Slot::Finished {
                fingerprint,
                outcome,
            } => match *fingerprint == attempt.fingerprint {
                true => {
                    replay.extend_from_slice(outcome.as_slice());
                    Begin::Replayed
                }
                false => Begin::IdReused,
            },
            // A copy of a refused attempt, made on the way. Its caller may have been told that
            // nothing was executed, so nothing is.
            Slot::Empty { refused } if attempt.number <= *refused => {
                Begin::RefusedBefore { up_to: *refused }
            }
            Slot::Empty { refused } if is_full => {
                *refused = attempt.number;
                Begin::Full {
                    retry_after: RETRY_AFTER,
                }
            }
            Slot::Empty { refused } => match admit() {
                Ok(Admitted { ticket, at_once }) => {
                    *slot = Slot::Running(Running::new(attempt, at_once));
                    self.kept.live += 1;
                    Begin::Start(ticket)
                }
                Err(reason) => {
                    *refused = attempt.number;
                    Begin::Refused(reason)
                }
            },
        }
    }

    /// Somebody asks what became of a call: its outcome, or that it will never have one.
    pub(super) fn resolve(
        &mut self,
        number: u64,
        (limits, is_full): (&SessionLimits, bool),
        waiter: impl FnOnce() -> W,
        replay: &mut Vec<u8>,
    ) -> Resolved {
        let slot = match self.reach(number, limits.window, is_full) {
            Ok(slot) => slot,
            Err(Unreached::Over) => return Resolved::Stale,
            Err(Unreached::NoSlot) => return Resolved::NoSlot,
        };
        match slot {
            Slot::Over => Resolved::Stale,
            Slot::Running(running) => match running.is_crowded(limits.max_joined) {
                true => Resolved::TooManyJoined,
                false => {
                    running.waiters.push(waiter());
                    Resolved::Joined
                }
            },
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

    /// The caller takes the call back, if it has not begun.
    pub(super) fn cancel(
        &mut self,
        number: u64,
        (limits, is_full): (&SessionLimits, bool),
    ) -> Cancelled<W> {
        let slot = match self.reach(number, limits.window, is_full) {
            Ok(slot) => slot,
            Err(Unreached::Over) => return Cancelled::Stale,
            Err(Unreached::NoSlot) => return Cancelled::NoSlot,
        };
        match slot {
            Slot::Over => Cancelled::Stale,
            Slot::Finished { .. } => Cancelled::Done,
            Slot::Running(running) if running.is_started => Cancelled::Running,
            Slot::Running(running) => {
                let waiters = std::mem::take(&mut running.waiters);
                *slot = Slot::Fenced;
                self.kept.live -= 1;
                Cancelled::Never(Some(waiters))
            }
            Slot::Empty { .. } | Slot::Fenced => {
                *slot = Slot::Fenced;
                Cancelled::Never(None)
            }
        }
    }

    /// The call was not started, or had no effect. If somebody has asked what became of it, that
    /// it was not executed is the answer, and so it never will be.
    pub(super) fn release(&mut self, number: u64) -> Vec<W> {
        let Some(slot @ Slot::Running(_)) = self.slot(number) else {
            return Vec::new();
        };
        let Slot::Running(running) = std::mem::replace(slot, Slot::Fenced) else {
            unreachable!("it was looked at just now");
        };
        if !running.waiters.iter().any(Waits::asks) {
            *slot = Slot::Empty {
                refused: running.attempt,
            };
        }
        self.kept.live -= 1;
        running.waiters
    }

    /// See [`Table::may_start`](super::Table::may_start).
    pub(super) fn may_start(&mut self, number: u64, now: Instant) -> MayStart<W> {
        let Some(Slot::Running(running)) = self.slot(number) else {
            return MayStart::Cancelled;
        };
        if running.deadline.is_some_and(|deadline| deadline <= now) {
            return MayStart::Late(self.release(number));
        }
        running.is_started = true;
        MayStart::Yes
    }
}

impl<W> Records<W> {
    /// The execution ended. If its caller has meanwhile said that it is done with the call,
    /// nobody waits and nothing is recorded.
    pub(super) fn finish(&mut self, number: u64, outcome: &[u8]) -> Vec<W> {
        let Some(slot) = slot_of(number, self.base, &mut self.ring, &mut self.aside) else {
            return Vec::new();
        };
        let Slot::Running(running) = slot else {
            return Vec::new();
        };
        let waiters = std::mem::take(&mut running.waiters);
        *slot = Slot::Finished {
            fingerprint: running.fingerprint,
            outcome: Outcome::default(),
        };
        if let Slot::Finished { outcome: kept, .. } = slot {
            kept.fill(outcome, &mut self.kept.spare);
        }
        self.kept.outcome_bytes += outcome.len();
        waiters
    }

    /// The caller is done with every call below `number`, for good.
    pub(super) fn acknowledge_below(&mut self, number: u64, told: &mut Option<Acknowledged<W>>) {
        let number = number.min(SessionCall::MAX_NUMBER + 1);
        while let Some(first) = self.aside.first_entry()
            && *first.key() < number
        {
            let (at, mut slot) = first.remove_entry();
            self.kept.close(at, &mut slot, told);
        }
        while self.base < number
            && let Some(slot) = self.ring.front_mut()
        {
            self.kept.close(self.base, slot, told);
            self.ring.pop_front();
            self.base += 1;
        }
        // What was never seen can't be in the ring.
        self.base = self.base.max(number);
        self.trim();
    }

    /// The caller is done with every call from `from` to before `to`, whatever is below. False if
    /// that is further ahead than the window allows: then nothing has changed.
    pub(super) fn acknowledge(
        &mut self,
        (from, to): (u64, u64),
        limits: &SessionLimits,
        told: &mut Option<Acknowledged<W>>,
    ) -> bool {
        let to = to.min(SessionCall::MAX_NUMBER + 1);
        if from >= to {
            return true;
        }
        // Up to the range there may be numbers that have not been seen yet.
        if from > self.end() && self.reach(from - 1, limits.window, false).is_err() {
            return false;
        }
        let aside: Vec<u64> = self.aside.range(from..to).map(|(n, _)| *n).collect();
        for number in aside {
            if let Some(mut slot) = self.aside.remove(&number) {
                self.kept.close(number, &mut slot, told);
            }
        }
        for number in from.max(self.base)..to.min(self.end()) {
            let slot = &mut self.ring[(number - self.base) as usize];
            self.kept.close(number, slot, told);
            *slot = Slot::Over;
        }
        self.skip_to(to, limits.window);
        self.trim();
        true
    }

    /// Everything is forgotten. Hands out who still waits.
    pub(super) fn clear(&mut self) -> Vec<W> {
        let mut told = None;
        let all = std::mem::take(&mut self.ring).into_iter();
        for mut slot in all.chain(std::mem::take(&mut self.aside).into_values()) {
            self.kept.close(0, &mut slot, &mut told);
        }
        self.kept.spare = Spare::default();
        let Acknowledged {
            mut begun, never, ..
        } = told.unwrap_or_default();
        begun.extend(never);
        begun
    }

    /// How many calls are not over for their caller, those included that never arrived.
    pub(crate) fn open(&self) -> usize {
        self.kept.open
    }

    /// How many calls run, or have an outcome that their caller is not done with.
    pub(crate) fn live(&self) -> usize {
        self.kept.live
    }

    /// What it all takes, in bytes: outcomes and slots.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.ring.len() * size_of::<Slot<W>>() + self.aside.len() * ASIDE_BYTES;
        self.kept.outcome_bytes + slots
    }

    /// Gives memory back that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        self.ring.shrink_to(self.ring.len() * 2);
        self.kept.spare = Spare::default();
    }

    /// The slot of a number, with room made for it if it is new and there is any.
    fn reach(
        &mut self,
        number: u64,
        window: usize,
        is_full: bool,
    ) -> Result<&mut Slot<W>, Unreached> {
        if number < self.base {
            return self.aside.get_mut(&number).ok_or(Unreached::Over);
        }
        let missing = (number + 1).saturating_sub(self.end());
        if missing == 0 {
            return Ok(&mut self.ring[(number - self.base) as usize]);
        }
        let room = SLACK.saturating_mul(window).saturating_sub(self.kept.open);
        if is_full || missing > room as u64 {
            return Err(Unreached::NoSlot);
        }
        let (highest, attempt) = self.turned_away;
        let new = (self.end()..number + 1).map(|number| Slot::Empty {
            refused: if number <= highest { attempt } else { 0 },
        });
        if self.ring.len() as u64 + missing <= RING_SLOTS.saturating_mul(window) as u64 {
            self.ring.extend(new);
        } else {
            new.for_each(|slot| self.push(slot, window));
        }
        self.kept.open += missing as usize;
        Ok(&mut self.ring[(number - self.base) as usize])
    }

    /// The slot of a number that has been seen.
    fn slot(&mut self, number: u64) -> Option<&mut Slot<W>> {
        slot_of(number, self.base, &mut self.ring, &mut self.aside)
    }

    /// The number after the highest that has been seen.
    fn end(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    #[inline]
    fn push(&mut self, slot: Slot<W>, window: usize) {
        if self.ring.len() >= RING_SLOTS.saturating_mul(window) {
            self.set_front_aside();
        }
        self.ring.push_back(slot);
    }

    fn set_front_aside(&mut self) {
        if let Some(slot) = self.ring.pop_front() {
            if !matches!(slot, Slot::Over) {
                self.aside.insert(self.base, slot);
            }
            self.base += 1;
        }
    }

    /// Everything from the end of the ring to before `to` is over.
    fn skip_to(&mut self, to: u64, window: usize) {
        let missing = to.saturating_sub(self.end());
        if missing > RING_SLOTS.saturating_mul(window) as u64 {
            while !self.ring.is_empty() {
                self.set_front_aside();
            }
            self.base = to;
        } else {
            (0..missing).for_each(|_| self.push(Slot::Over, window));
        }
    }

    /// What is over in front needs no slot.
    #[inline]
    fn trim(&mut self) {
        while let Some(Slot::Over) = self.ring.front() {
            self.ring.pop_front();
            self.base += 1;
        }
    }
}

/// See [`Records::slot`].
#[inline]
fn slot_of<'a, W>(
    number: u64,
    base: u64,
    ring: &'a mut VecDeque<Slot<W>>,
    aside: &'a mut BTreeMap<u64, Slot<W>>,
) -> Option<&'a mut Slot<W>> {
    match number.checked_sub(base) {
        Some(place) => ring.get_mut(usize::try_from(place).ok()?),
        None => aside.get_mut(&number),
    }
}

#[cfg(test)]
mod tests;
