//! Where the slots of a session lie: how numbers find theirs, how the ring grows and moves on, and
//! what an acknowledgement takes out of it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use redial_protocol::SessionCall;

use super::{NoSlot, RING_SLOTS, Records, SLACK, outcome::BufferPool, slot::Slot};
use crate::table::call::AckedWaiters;

impl<W> Records<W> {
    /// The caller acknowledges every call below `number`, for good.
    pub(in crate::table) fn acknowledge_below(
        &mut self,
        number: u64,
        notify: &mut Option<AckedWaiters<W>>,
    ) {
        let number = number.min(SessionCall::MAX_NUMBER + 1);
        while let Some(first) = self.stragglers.first_entry()
            && *first.key() < number
        {
            let (at, mut slot) = first.remove_entry();
            self.totals.close(at, &mut slot, notify);
        }
        while self.base < number
            && let Some(slot) = self.ring.front_mut()
        {
            self.totals.close(self.base, slot, notify);
            self.ring.pop_front();
            self.base += 1;
        }
        // What was never seen can't be in the ring.
        self.base = self.base.max(number);
        self.trim();
    }

    /// The caller acknowledges every call in the range, whatever is below it. False if that is
    /// further ahead than the window allows: then nothing has changed.
    pub(in crate::table) fn acknowledge(
        &mut self,
        range: Range<u64>,
        window: usize,
        notify: &mut Option<AckedWaiters<W>>,
    ) -> bool {
        let (from, to) = (range.start, range.end.min(SessionCall::MAX_NUMBER + 1));
        if from >= to {
            return true;
        }
        // Below the range there may be numbers that have not been seen yet.
        if from > self.end() && self.slot_or_insert(from - 1, window, false).is_err() {
            return false;
        }
        let stragglers: Vec<u64> = self.stragglers.range(from..to).map(|(n, _)| *n).collect();
        for number in stragglers {
            if let Some(mut slot) = self.stragglers.remove(&number) {
                self.totals.close(number, &mut slot, notify);
            }
        }
        for number in from.max(self.base)..to.min(self.end()) {
            let slot = &mut self.ring[(number - self.base) as usize];
            self.totals.close(number, slot, notify);
            *slot = Slot::Acknowledged;
        }
        self.skip_to(to, window);
        self.trim();
        true
    }

    /// Forgets everything. Returns those who still wait.
    pub(in crate::table) fn clear(&mut self) -> Vec<W> {
        let mut notify = None;
        let all = std::mem::take(&mut self.ring).into_iter();
        for mut slot in all.chain(std::mem::take(&mut self.stragglers).into_values()) {
            self.totals.close(0, &mut slot, &mut notify);
        }
        self.totals.pool = BufferPool::default();
        let AckedWaiters {
            mut started, never, ..
        } = notify.unwrap_or_default();
        started.extend(never);
        started
    }

    /// Returns memory that a busier time has left behind.
    pub(in crate::table) fn shrink(&mut self) {
        self.ring.shrink_to(self.ring.len() * 2);
        self.totals.pool = BufferPool::default();
    }

    /// The slot of a number; a new one is inserted if there is room for it.
    pub(super) fn slot_or_insert(
        &mut self,
        number: u64,
        window: usize,
        is_full: bool,
    ) -> Result<&mut Slot<W>, NoSlot> {
        if number < self.base {
            let straggler = self.stragglers.get_mut(&number);
            return straggler.ok_or(NoSlot::Acknowledged);
        }
        let missing = (number + 1).saturating_sub(self.end());
        if missing == 0 {
            return Ok(&mut self.ring[(number - self.base) as usize]);
        }
        let room = SLACK
            .saturating_mul(window)
            .saturating_sub(self.totals.open);
        if is_full || missing > room as u64 {
            return Err(NoSlot::OutOfRoom);
        }
        let refused = self.refused_without_slot;
        let new = (self.end()..number + 1).map(|number| Slot::Empty {
            refused: refused.attempt_of(number),
        });
        if self.ring.len() as u64 + missing <= RING_SLOTS.saturating_mul(window) as u64 {
            self.ring.extend(new);
        } else {
            new.for_each(|slot| self.push(slot, window));
        }
        self.totals.open += missing as usize;
        Ok(&mut self.ring[(number - self.base) as usize])
    }

    /// The slot of a number that has been seen.
    pub(super) fn slot(&mut self, number: u64) -> Option<&mut Slot<W>> {
        find(number, self.base, &mut self.ring, &mut self.stragglers)
    }

    /// The number after the highest that has been seen.
    pub(super) fn end(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    fn push(&mut self, slot: Slot<W>, window: usize) {
        if self.ring.len() >= RING_SLOTS.saturating_mul(window) {
            self.retire_front();
        }
        self.ring.push_back(slot);
    }

    /// Takes the first slot out of the ring; one that is still open becomes a straggler.
    fn retire_front(&mut self) {
        if let Some(slot) = self.ring.pop_front() {
            if !matches!(slot, Slot::Acknowledged) {
                self.stragglers.insert(self.base, slot);
            }
            self.base += 1;
        }
    }

    /// Everything from the end of the ring to before `to` is acknowledged.
    fn skip_to(&mut self, to: u64, window: usize) {
        let missing = to.saturating_sub(self.end());
        if missing > RING_SLOTS.saturating_mul(window) as u64 {
            while !self.ring.is_empty() {
                self.retire_front();
            }
            self.base = to;
        } else {
            (0..missing).for_each(|_| self.push(Slot::Acknowledged, window));
        }
    }

    /// Acknowledged slots in front are not needed.
    fn trim(&mut self) {
        while let Some(Slot::Acknowledged) = self.ring.front() {
            self.ring.pop_front();
            self.base += 1;
        }
    }
}

/// See [`Records::slot`].
#[inline]
pub(super) fn find<'a, W>(
    number: u64,
    base: u64,
    ring: &'a mut VecDeque<Slot<W>>,
    stragglers: &'a mut BTreeMap<u64, Slot<W>>,
) -> Option<&'a mut Slot<W>> {
    match number.checked_sub(base) {
        Some(at) => ring.get_mut(usize::try_from(at).ok()?),
        None => stragglers.get_mut(&number),
    }
}
