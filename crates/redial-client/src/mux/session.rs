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
    /// The largest frame that the server takes, in bytes.
    pub(crate) max_frame_bytes: usize,
    window: usize,
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
            max_frame_bytes: usize::try_from(max_frame_bytes).unwrap_or(usize::MAX),
            window: window.clamp(1, MAX_WINDOW) as usize,
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

    /// Finishes the retained number whose call ended first. False if there is none.
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
        self.unsent > 0 || self.watermark > self.sent_watermark
    }

    /// Whether so many acks above the watermark are unsent that they should go out now. At the end
    /// of the window every one counts.
    pub(crate) fn needs_ack_now(&self) -> bool {
        self.unsent > 0 && (self.unsent * 4 >= self.window || !self.has_room())
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
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn session(window: u64) -> Session<u32> {
        Session::new(SessionId::from_bits(7), "t".into(), window, 1000)
    }

    #[test]
    fn the_watermark_passes_what_is_finished_and_stops_at_what_is_not() {
        let mut session = session(8);
        let numbers: Vec<u64> = (0..4).map(|key| session.take(key)).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert!(session.finish(1) && session.finish(2));
        assert_eq!(session.watermark(), 0);
        assert!(session.finish(0));
        assert_eq!(session.watermark(), 3);
        assert!(
            !session.finish(0) && !session.finish(4),
            "it was, or never is"
        );
        assert_eq!((session.get(3), session.get(2)), (Some(3), None));
    }

    #[test]
    fn the_window_counts_what_is_not_acknowledged() {
        let mut session = session(4);
        (0..4).for_each(|key| assert_eq!(session.take(key), u64::from(key)));
        assert!(!session.has_room());
        session.finish(2);
        assert!(!session.has_room(), "the server doesn't know yet");
        assert!(session.needs_ack_now(), "so it must hear of it");
        assert_eq!(session.take_acks().above, [(2, 3)]);
        assert!(session.has_room());
        session.take(4);
        session.finish(0);
        assert!(
            session.has_room(),
            "a request carries the watermark by itself"
        );
        session.unsend_acks();
        assert!(!session.has_room() && session.has_unsent_acks());
    }

    #[test]
    fn a_retained_number_stays_until_its_last_token_goes() {
        let mut session = session(4);
        session.take(0);
        session.retain(0);
        assert_eq!((session.retained(), session.get(0)), (1, None));
        assert!(session.resume(0, 9));
        assert!(!session.release(0), "a call has it");
        session.retain(0);
        session.export(0);
        assert!(!session.release(0), "a token lives elsewhere");
        assert_eq!((session.retained(), session.is_unused()), (1, true));
        assert!(session.resume(0, 9) && session.finish(0));
        assert_eq!((session.retained(), session.watermark()), (0, 1));
    }

    #[test]
    fn half_a_window_of_retained_numbers_is_a_crowd() {
        let mut session = session(4);
        for key in 0..2 {
            assert!(!session.is_crowded());
            let number = session.take(key);
            session.retain(number);
        }
        assert!(session.is_crowded());
    }

    #[derive(Clone, Copy, Debug)]
    enum SessionOp {
        Take,
        Finish(usize),
        Retain(usize),
        Release(usize),
        TakeAcks,
        SendWatermark,
        UnsendAcks,
    }

    fn steps() -> impl Strategy<Value = Vec<SessionOp>> {
        let step = prop_oneof![
            4 => Just(SessionOp::Take),
            4 => any::<usize>().prop_map(SessionOp::Finish),
            1 => any::<usize>().prop_map(SessionOp::Retain),
            1 => any::<usize>().prop_map(SessionOp::Release),
            1 => Just(SessionOp::TakeAcks),
            1 => Just(SessionOp::SendWatermark),
            1 => Just(SessionOp::UnsendAcks),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// The same in sets.
    #[derive(Default)]
    struct SessionModel {
        next: u64,
        running: BTreeSet<u64>,
        retained: BTreeSet<u64>,
        /// What has been acknowledged.
        known: BTreeSet<u64>,
    }

    impl SessionModel {
        fn watermark(&self) -> u64 {
            let open = self.running.iter().chain(&self.retained);
            open.copied().min().unwrap_or(self.next)
        }

        fn finished(&self) -> BTreeSet<u64> {
            let is_finished =
                |number: &u64| !self.running.contains(number) && !self.retained.contains(number);
            (0..self.next).filter(is_finished).collect()
        }

        /// What the server can't know yet although a request carried the watermark.
        fn unacknowledged(&self) -> usize {
            let watermark = self.watermark();
            (watermark..self.next)
                .filter(|number| !self.known.contains(number))
                .count()
        }
    }

    fn pick(set: &BTreeSet<u64>, at: usize) -> Option<u64> {
        set.iter().nth(at % set.len().max(1)).copied()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn it_agrees_with_sets(steps in steps(), window in 1u64..12) {
            let (mut session, mut model) = (session(window), SessionModel::default());
            for step in steps {
                match step {
                    SessionOp::Take if session.has_room() => {
                        prop_assert_eq!(session.take(model.next as u32), model.next);
                        model.running.insert(model.next);
                        model.next += 1;
                    }
                    SessionOp::Finish(at) => if let Some(number) = pick(&model.running, at) {
                        prop_assert!(session.finish(number));
                        model.running.remove(&number);
                    },
                    SessionOp::Retain(at) => if let Some(number) = pick(&model.running, at) {
                        session.retain(number);
                        model.running.remove(&number);
                        model.retained.insert(number);
                    },
                    SessionOp::Release(at) => if let Some(number) = pick(&model.retained, at) {
                        prop_assert!(session.release(number));
                        model.retained.remove(&number);
                    },
                    SessionOp::TakeAcks => {
                        let said = session.take_acks();
                        model.known.extend(0..said.ack);
                        let above = said.above.iter().flat_map(|(from, to)| *from..*to);
                        model.known.extend(above);
                        prop_assert_eq!(&model.known, &model.finished(), "everything, and nothing else");
                        prop_assert!(!session.has_unsent_acks());
                    }
                    SessionOp::SendWatermark => model.known.extend(0..session.send_watermark()),
                    SessionOp::UnsendAcks => {
                        session.unsend_acks();
                        model.known.clear();
                    }
                    SessionOp::Take => {}
                }
                prop_assert_eq!(session.watermark(), model.watermark());
                prop_assert_eq!(session.retained(), model.retained.len());
                let calls: BTreeSet<u64> = session.calls().map(u64::from).collect();
                prop_assert_eq!(&calls, &model.running);
                let has_room = model.unacknowledged() < window as usize;
                prop_assert_eq!(session.has_room(), has_room);
                let has_unsent_acks = model.finished().difference(&model.known).next().is_some();
                prop_assert_eq!(session.has_unsent_acks(), has_unsent_acks);
            }
        }
    }
}
