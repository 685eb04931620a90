//! The numbers of one session: which are in flight, which are finished, and which of those have
//! been acknowledged. No clock, no tokio, no ids.
//!
//! A number is finished once its outcome is in the caller's hands, or once it can never be sent
//! again. Its acknowledgement lets the server forget the record: the completion acknowledgements
//! of RIFL (Lee et al., SOSP 2015, section 4.2). How many numbers may be unacknowledged at once is
//! the window, as with the slots of NFSv4.1 (RFC 8881, section 2.10.6).

use std::collections::VecDeque;

use redial_protocol::{SessionId, rpc::AckParams};

/// When the next number is this far above the watermark, a new session is opened: each number in
/// between costs a slot here and a bit at the server.
const CROWDED_SPAN: usize = 1 << 18;

/// When the next number is this far above the watermark, none is assigned any more.
const MAX_SPAN: usize = 1 << 20;

/// A larger window, from a server, is cut to this.
const MAX_WINDOW: u64 = 1 << 16;

/// The numbers of one session. `K` identifies the call that runs under a number.
#[derive(Debug)]
pub(crate) struct Session<K> {
    pub(crate) id: SessionId,
    /// The server's table of calls that it is a session of, as an opaque text.
    pub(crate) table: Box<str>,
    /// The table's index among those that the client knows of.
    pub(crate) home: usize,
    /// The largest frame that the server takes, in bytes.
    pub(crate) max_frame_bytes: usize,
    window: usize,
    /// Only servers that shut down know it: nothing more is sent under it.
    pub(crate) is_left: bool,
    /// Every number below it is finished.
    watermark: u64,
    /// The numbers from the watermark on.
    ring: VecDeque<Slot<K>>,
    running: usize,
    retained: usize,
    /// Numbers in [`Slot::Exported`].
    exported: usize,
    /// Retained and exported numbers in the order in which their calls ended, and former ones.
    kept: VecDeque<u64>,
    /// Numbers in [`Slot::Acked`].
    acked: usize,
    /// Numbers in [`Slot::Unsent`].
    unsent: usize,
    /// These numbers, and some that the watermark has passed since.
    unsent_numbers: Vec<u64>,
    sent_watermark: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot<K> {
    /// A call runs under it.
    Running(K),
    /// The call ended without an outcome, and a token of it lives in this process.
    Retained,
    /// Tokens of it live outside this process alone.
    Exported,
    /// Finished, and the ack is still to be sent.
    Unsent,
    /// Finished, and the ack was sent: no longer in the server's window.
    Acked,
}

impl<K: Copy> Session<K> {
    pub(crate) fn new(id: SessionId, table: Box<str>, window: u64, max_frame_bytes: u64) -> Self {
        Self {
            id,
            table,
            home: 0,
            max_frame_bytes: usize::try_from(max_frame_bytes).unwrap_or(usize::MAX),
            window: window.clamp(1, MAX_WINDOW) as usize,
            is_left: false,
            watermark: 0,
            ring: VecDeque::new(),
            running: 0,
            retained: 0,
            exported: 0,
            kept: VecDeque::new(),
            acked: 0,
            unsent: 0,
            unsent_numbers: Vec::new(),
            sent_watermark: 0,
        }
    }

    /// The same session, of the table with this index.
    pub(crate) fn at_home(self, home: usize) -> Self {
        Self { home, ..self }
    }

    /// How many numbers may be unacknowledged at once.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Every number below this is finished.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Numbers of ended calls that a token keeps from being acknowledged.
    pub(crate) fn retained(&self) -> usize {
        self.retained + self.exported
    }

    /// Whether another number may be assigned.
    pub(crate) fn has_room(&self) -> bool {
        self.ring.len() - self.acked < self.window && self.ring.len() < MAX_SPAN
    }

    /// Whether so many numbers are retained that new calls should get a new session.
    pub(crate) fn is_crowded(&self) -> bool {
        self.retained() * 2 >= self.window.max(2) || self.ring.len() >= CROWDED_SPAN
    }

    /// Whether no call and no token of this process uses a number of it.
    pub(crate) fn is_unused(&self) -> bool {
        self.running + self.retained == 0
    }

    /// Whether no call of it is needed any more, here or elsewhere.
    pub(crate) fn is_over(&self) -> bool {
        self.running + self.retained() == 0
    }

    /// Assigns the next number to a call. There must be room.
    pub(crate) fn take(&mut self, key: K) -> u64 {
        debug_assert!(self.has_room());
        self.running += 1;
        self.ring.push_back(Slot::Running(key));
        self.watermark + self.ring.len() as u64 - 1
    }

    /// The call that runs under the number.
    pub(crate) fn get(&self, number: u64) -> Option<K> {
        match self.ring.get(self.index(number)?) {
            Some(Slot::Running(key)) => Some(*key),
            _ => None,
        }
    }

    /// All calls that run under a number.
    pub(crate) fn calls(&self) -> impl Iterator<Item = K> {
        self.ring.iter().filter_map(|slot| match slot {
            Slot::Running(key) => Some(*key),
            _ => None,
        })
    }

    /// A call runs under a retained or exported number again. False if the number is neither.
    pub(crate) fn resume(&mut self, number: u64, key: K) -> bool {
        self.change(number, Slot::Running(key), |slot| {
            matches!(slot, Slot::Retained | Slot::Exported)
        })
    }

    /// The number was only reserved for a call, which is still to come.
    pub(crate) fn reserve(&mut self, number: u64) {
        let is_running = |old: &Slot<K>| matches!(old, Slot::Running(_));
        self.change(number, Slot::Retained, is_running);
    }

    /// The number's call ended, and a token of it lives.
    pub(crate) fn retain(&mut self, number: u64) {
        self.reserve(number);
        self.keep(number);
    }

    fn keep(&mut self, number: u64) {
        self.kept.push_back(number);
        if self.kept.len() > 2 * self.retained() + 64 {
            let (ring, watermark) = (&self.ring, self.watermark);
            self.kept.retain(|number| {
                let index = number.checked_sub(watermark);
                let slot = index.and_then(|index| ring.get(index as usize));
                matches!(slot, Some(Slot::Retained | Slot::Exported))
            });
        }
    }

    /// Finishes the retained number whose call ended first. False if no number is retained.
    pub(crate) fn let_go_oldest(&mut self) -> bool {
        while let Some(number) = self.kept.pop_front() {
            if matches!(self.slot(number), Some(Slot::Retained | Slot::Exported)) {
                return self.finish(number);
            }
        }
        false
    }

    /// Whether retained numbers leave new calls less than a quarter of the window.
    pub(crate) fn is_cramped(&self) -> bool {
        self.retained() * 4 > self.window * 3
    }

    /// This process dropped its last token of a retained number, and other processes have one.
    pub(crate) fn export(&mut self, number: u64) {
        if self.change(number, Slot::Exported, |old| matches!(old, Slot::Retained)) {
            self.keep(number);
        }
    }

    /// The last token of a retained number is gone. False if the number is not retained.
    pub(crate) fn release(&mut self, number: u64) -> bool {
        let is_retained = matches!(self.slot(number), Some(Slot::Retained));
        is_retained && self.finish(number)
    }

    /// The number is finished, for good. False if it was before.
    pub(crate) fn finish(&mut self, number: u64) -> bool {
        let was_not = |slot: &Slot<K>| !matches!(slot, Slot::Unsent | Slot::Acked);
        if !self.change(number, Slot::Unsent, was_not) {
            return false;
        }
        if number == self.watermark {
            self.advance();
        } else {
            self.unsent_numbers.push(number);
        }
        if self.unsent_numbers.len() > 2 * self.unsent + 64 {
            let watermark = self.watermark;
            self.unsent_numbers.retain(|number| *number >= watermark);
        }
        true
    }

    /// Whether some finished number is yet to be acknowledged.
    pub(crate) fn has_unsent_acks(&self) -> bool {
        !self.is_left && (self.unsent > 0 || self.watermark > self.sent_watermark)
    }

    /// Whether so many acks above the watermark are unsent that they should go out now. At the end
    /// of the window every one counts.
    pub(crate) fn needs_ack_now(&self) -> bool {
        !self.is_left && self.unsent > 0 && (self.unsent * 4 >= self.window || !self.has_room())
    }

    /// The watermark, which goes out with a request.
    pub(crate) fn send_watermark(&mut self) -> u64 {
        self.sent_watermark = self.watermark;
        self.watermark
    }

    /// The request that carried the watermark was withdrawn.
    pub(crate) fn unsend_watermark(&mut self) {
        self.sent_watermark = 0;
    }

    /// All unsent acks, which count as sent from now on.
    pub(crate) fn take_acks(&mut self) -> AckParams {
        let mut numbers = std::mem::take(&mut self.unsent_numbers);
        numbers.retain(|number| *number >= self.watermark);
        numbers.sort_unstable();
        let mut above: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match above.last_mut() {
                Some((_, end)) if *end == number => *end += 1,
                _ => above.push((number, number + 1)),
            }
            self.change(number, Slot::Acked, |slot| matches!(slot, Slot::Unsent));
        }
        AckParams {
            session: self.id,
            ack: self.send_watermark(),
            above,
        }
    }

    /// The acks that were sent may not have arrived.
    pub(crate) fn unsend_acks(&mut self) {
        self.sent_watermark = 0;
        if self.acked > 0 {
            let slots = self.ring.iter_mut().zip(self.watermark..);
            for (slot, number) in slots.filter(|(slot, _)| matches!(slot, Slot::Acked)) {
                *slot = Slot::Unsent;
                self.unsent_numbers.push(number);
            }
            self.unsent += std::mem::take(&mut self.acked);
        }
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.watermark)?).ok()
    }

    fn slot(&self, number: u64) -> Option<&Slot<K>> {
        self.ring.get(self.index(number)?)
    }

    /// Puts `new` in the number's slot, if that `fits`, and keeps count.
    fn change(&mut self, number: u64, new: Slot<K>, fits: impl FnOnce(&Slot<K>) -> bool) -> bool {
        let index = self.index(number);
        let Some(slot) = index.and_then(|index| self.ring.get_mut(index)) else {
            return false;
        };
        if !fits(slot) {
            return false;
        }
        let old = std::mem::replace(slot, new);
        *self.count(&old) -= 1;
        *self.count(&new) += 1;
        true
    }

    fn count(&mut self, slot: &Slot<K>) -> &mut usize {
        match slot {
            Slot::Running(_) => &mut self.running,
            Slot::Retained => &mut self.retained,
            Slot::Exported => &mut self.exported,
            Slot::Unsent => &mut self.unsent,
            Slot::Acked => &mut self.acked,
        }
    }

    fn advance(&mut self) {
        while let Some(slot @ (Slot::Unsent | Slot::Acked)) = self.ring.front().copied() {
            self.ring.pop_front();
            self.watermark += 1;
            *self.count(&slot) -= 1;
        }
        if self.unsent == 0 {
            self.unsent_numbers.clear();
        }
    }
}

#[cfg(test)]
mod tests;
