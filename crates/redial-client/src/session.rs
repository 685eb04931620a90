//! The client's side of a session: which of its calls are under way, which are done with, and
//! how much of that the server has been told. No clock, no tokio, no ids: only numbers.
//!
//! A number is done with once its outcome is in the caller's hands, or once it can never be sent
//! again. Telling the server so is what lets it forget the record: the completion
//! acknowledgements of RIFL (Lee et al., SOSP 2015, section 4.2). How many numbers may be
//! unacknowledged at once is the window, as with the slots of NFSv4.1 (RFC 8881, section 2.10.6).

use std::collections::VecDeque;

use redial_protocol::{SessionId, rpc::AckParams};

/// From this distance of the next number to the watermark on, a new session is opened: each
/// number in between costs a place here and a bit at the server.
const CROWDED_SPAN: usize = 1 << 18;

/// At this distance no further number is given, if no new session was to be had.
const MAX_SPAN: usize = 1 << 20;

/// The largest window that is believed.
const MAX_WINDOW: u64 = 1 << 16;

/// The numbers of one session, each running one taken by a call that is known by a `K`.
#[derive(Debug)]
pub(crate) struct Session<K> {
    pub(crate) id: SessionId,
    /// The largest frame that the server takes, in bytes.
    pub(crate) max_frame_bytes: usize,
    window: usize,
    /// The watermark: every number below it is done with.
    watermark: u64,
    /// The numbers from the watermark on.
    ring: VecDeque<Place<K>>,
    running: usize,
    held: usize,
    /// Numbers that are held for somebody outside this process.
    left: usize,
    /// Done with above the watermark, and the server was told: no longer in its window.
    told: usize,
    /// Done with above the watermark, and the server was not told.
    fresh: usize,
    /// Those, and some that the watermark has passed since.
    fresh_numbers: Vec<u64>,
    told_watermark: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<K> {
    /// A call has it.
    Running(K),
    /// The call ended without an outcome, and its token lives.
    Held,
    /// The token lives outside this process.
    Left,
    /// Done with, and the server was not told.
    Fresh,
    /// Done with, and the server was told.
    Told,
}

impl<K: Copy> Session<K> {
    pub(crate) fn new(id: SessionId, window: u64, max_frame_bytes: u64) -> Self {
        Self {
            id,
            max_frame_bytes: usize::try_from(max_frame_bytes).unwrap_or(usize::MAX),
            window: window.clamp(1, MAX_WINDOW) as usize,
            watermark: 0,
            ring: VecDeque::new(),
            running: 0,
            held: 0,
            left: 0,
            told: 0,
            fresh: 0,
            fresh_numbers: Vec::new(),
            told_watermark: 0,
        }
    }

    /// How many numbers may be unacknowledged at once.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Every number below this is done with.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Numbers whose calls have ended without an outcome that anybody was given.
    pub(crate) fn held(&self) -> usize {
        self.held + self.left
    }

    /// Whether another number may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.ring.len() - self.told < self.window && self.ring.len() < MAX_SPAN
    }

    /// Whether so much is held back that new calls had better have a new session.
    pub(crate) fn is_crowded(&self) -> bool {
        self.held() * 2 >= self.window.max(2) || self.ring.len() >= CROWDED_SPAN
    }

    /// Whether no call and no token of this process is left in it.
    pub(crate) fn is_deserted(&self) -> bool {
        self.running + self.held == 0
    }

    /// The next number, for a call. There must be room.
    pub(crate) fn take(&mut self, key: K) -> u64 {
        debug_assert!(self.has_room());
        self.running += 1;
        self.ring.push_back(Place::Running(key));
        self.watermark + self.ring.len() as u64 - 1
    }

    /// The call that has the number.
    pub(crate) fn get(&self, number: u64) -> Option<K> {
        match self.ring.get(self.index(number)?) {
            Some(Place::Running(key)) => Some(*key),
            _ => None,
        }
    }

    /// All calls that have a number.
    pub(crate) fn calls(&self) -> impl Iterator<Item = K> {
        self.ring.iter().filter_map(|place| match place {
            Place::Running(key) => Some(*key),
            _ => None,
        })
    }

    /// A call takes a number that was held or left. False if it is neither.
    pub(crate) fn resume(&mut self, number: u64, key: K) -> bool {
        self.change(number, Place::Running(key), |place| {
            matches!(place, Place::Held | Place::Left)
        })
    }

    /// The call that has the number ended without an outcome, and its token lives.
    pub(crate) fn hold(&mut self, number: u64) {
        self.change(number, Place::Held, |place| {
            matches!(place, Place::Running(_))
        });
    }

    /// The last token of a held number that this process had is gone, and others live elsewhere.
    pub(crate) fn leave(&mut self, number: u64) {
        self.change(number, Place::Left, |place| matches!(place, Place::Held));
    }

    /// The last token of a held number is gone. False if it is held no longer anyway.
    pub(crate) fn release(&mut self, number: u64) -> bool {
        let is_held = matches!(self.place(number), Some(Place::Held));
        is_held && self.done(number)
    }

    /// The number is done with, for good. False if it was before.
    pub(crate) fn done(&mut self, number: u64) -> bool {
        let was_not = |place: &Place<K>| !matches!(place, Place::Fresh | Place::Told);
        if !self.change(number, Place::Fresh, was_not) {
            return false;
        }
        if number == self.watermark {
            self.advance();
        } else {
            self.fresh_numbers.push(number);
        }
        if self.fresh_numbers.len() > 2 * self.fresh + 64 {
            let watermark = self.watermark;
            self.fresh_numbers.retain(|number| *number >= watermark);
        }
        true
    }

    /// Whether the server has not been told of everything that is done with.
    pub(crate) fn is_untold(&self) -> bool {
        self.fresh > 0 || self.watermark > self.told_watermark
    }

    /// Whether so much above the watermark is untold that it had better be said now. At the end
    /// of the window every bit counts.
    pub(crate) fn is_urgent(&self) -> bool {
        self.fresh > 0 && (self.fresh * 4 >= self.window || !self.has_room())
    }

    /// A request says the watermark.
    pub(crate) fn tell_watermark(&mut self) -> u64 {
        self.told_watermark = self.watermark;
        self.watermark
    }

    /// What said the watermark was taken back.
    pub(crate) fn doubt_watermark(&mut self) {
        self.told_watermark = 0;
    }

    /// All that is untold, to be said now.
    pub(crate) fn tell(&mut self) -> AckParams {
        let mut numbers = std::mem::take(&mut self.fresh_numbers);
        numbers.retain(|number| *number >= self.watermark);
        numbers.sort_unstable();
        let mut above: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match above.last_mut() {
                Some((_, end)) if *end == number => *end += 1,
                _ => above.push((number, number + 1)),
            }
            self.change(number, Place::Told, |place| matches!(place, Place::Fresh));
        }
        AckParams {
            session: self.id,
            ack: self.tell_watermark(),
            above,
        }
    }

    /// What was told may not have arrived.
    pub(crate) fn forget_told(&mut self) {
        self.told_watermark = 0;
        if self.told > 0 {
            let places = self.ring.iter_mut().zip(self.watermark..);
            for (place, number) in places.filter(|(place, _)| matches!(place, Place::Told)) {
                *place = Place::Fresh;
                self.fresh_numbers.push(number);
            }
            self.fresh += std::mem::take(&mut self.told);
        }
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.watermark)?).ok()
    }

    fn place(&self, number: u64) -> Option<&Place<K>> {
        self.ring.get(self.index(number)?)
    }

    /// Puts `new` in the number's place, if that `fits`, and keeps count.
    fn change(&mut self, number: u64, new: Place<K>, fits: impl FnOnce(&Place<K>) -> bool) -> bool {
        let index = self.index(number);
        let Some(place) = index.and_then(|index| self.ring.get_mut(index)) else {
            return false;
        };
        if !fits(place) {
            return false;
        }
        let old = std::mem::replace(place, new);
        *self.count(&old) -= 1;
        *self.count(&new) += 1;
        true
    }

    fn count(&mut self, place: &Place<K>) -> &mut usize {
        match place {
            Place::Running(_) => &mut self.running,
            Place::Held => &mut self.held,
            Place::Left => &mut self.left,
            Place::Fresh => &mut self.fresh,
            Place::Told => &mut self.told,
        }
    }

    fn advance(&mut self) {
        while let Some(place @ (Place::Fresh | Place::Told)) = self.ring.front().copied() {
            self.ring.pop_front();
            self.watermark += 1;
            *self.count(&place) -= 1;
        }
        if self.fresh == 0 {
            self.fresh_numbers.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn session(window: u64) -> Session<u32> {
        Session::new(SessionId::from_bits(7), window, 1000)
    }

    #[test]
    fn the_watermark_passes_what_is_done_and_stops_at_what_is_not() {
        let mut session = session(8);
        let numbers: Vec<u64> = (0..4).map(|key| session.take(key)).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert!(session.done(1) && session.done(2));
        assert_eq!(session.watermark(), 0);
        assert!(session.done(0));
        assert_eq!(session.watermark(), 3);
        assert!(!session.done(0) && !session.done(4), "it was, or never is");
        assert_eq!((session.get(3), session.get(2)), (Some(3), None));
    }

    #[test]
    fn the_window_counts_what_the_server_has_not_been_told() {
        let mut session = session(4);
        (0..4).for_each(|key| assert_eq!(session.take(key), u64::from(key)));
        assert!(!session.has_room());
        session.done(2);
        assert!(!session.has_room(), "the server doesn't know yet");
        assert!(session.is_urgent(), "so it must be told");
        assert_eq!(session.tell().above, [(2, 3)]);
        assert!(session.has_room());
        session.take(4);
        session.done(0);
        assert!(session.has_room(), "a request says the watermark by itself");
        session.forget_told();
        assert!(!session.has_room() && session.is_untold());
    }

    #[test]
    fn a_held_number_stays_until_its_last_token_goes() {
        let mut session = session(4);
        session.take(0);
        session.hold(0);
        assert_eq!((session.held(), session.get(0)), (1, None));
        assert!(session.resume(0, 9));
        assert!(!session.release(0), "a call has it");
        session.hold(0);
        session.leave(0);
        assert!(!session.release(0), "a token lives elsewhere");
        assert_eq!((session.held(), session.is_deserted()), (1, true));
        assert!(session.resume(0, 9) && session.done(0));
        assert_eq!((session.held(), session.watermark()), (0, 1));
    }

    #[test]
    fn half_a_window_of_held_numbers_is_a_crowd() {
        let mut session = session(4);
        for key in 0..2 {
            assert!(!session.is_crowded());
            let number = session.take(key);
            session.hold(number);
        }
        assert!(session.is_crowded());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Take,
        Done(usize),
        Hold(usize),
        Release(usize),
        Tell,
        SayWatermark,
        Forget,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Take),
            4 => any::<usize>().prop_map(Step::Done),
            1 => any::<usize>().prop_map(Step::Hold),
            1 => any::<usize>().prop_map(Step::Release),
            1 => Just(Step::Tell),
            1 => Just(Step::SayWatermark),
            1 => Just(Step::Forget),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// The same in sets, as one would say it.
    #[derive(Default)]
    struct Model {
        next: u64,
        running: BTreeSet<u64>,
        held: BTreeSet<u64>,
        /// What the server knows to be done with.
        known: BTreeSet<u64>,
    }

    impl Model {
        fn watermark(&self) -> u64 {
            let open = self.running.iter().chain(&self.held);
            open.copied().min().unwrap_or(self.next)
        }

        fn done(&self) -> BTreeSet<u64> {
            let is_done =
                |number: &u64| !self.running.contains(number) && !self.held.contains(number);
            (0..self.next).filter(is_done).collect()
        }

        /// What the server can't know yet although a request told it the watermark.
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
            let (mut session, mut model) = (session(window), Model::default());
            for step in steps {
                match step {
                    Step::Take if session.has_room() => {
                        prop_assert_eq!(session.take(model.next as u32), model.next);
                        model.running.insert(model.next);
                        model.next += 1;
                    }
                    Step::Done(at) => if let Some(number) = pick(&model.running, at) {
                        prop_assert!(session.done(number));
                        model.running.remove(&number);
                    },
                    Step::Hold(at) => if let Some(number) = pick(&model.running, at) {
                        session.hold(number);
                        model.running.remove(&number);
                        model.held.insert(number);
                    },
                    Step::Release(at) => if let Some(number) = pick(&model.held, at) {
                        prop_assert!(session.release(number));
                        model.held.remove(&number);
                    },
                    Step::Tell => {
                        let said = session.tell();
                        model.known.extend(0..said.ack);
                        let above = said.above.iter().flat_map(|(from, to)| *from..*to);
                        model.known.extend(above);
                        prop_assert_eq!(&model.known, &model.done(), "everything, and nothing else");
                        prop_assert!(!session.is_untold());
                    }
                    Step::SayWatermark => model.known.extend(0..session.tell_watermark()),
                    Step::Forget => {
                        session.forget_told();
                        model.known.clear();
                    }
                    Step::Take => {}
                }
                prop_assert_eq!(session.watermark(), model.watermark());
                prop_assert_eq!(session.held(), model.held.len());
                let calls: BTreeSet<u64> = session.calls().map(u64::from).collect();
                prop_assert_eq!(&calls, &model.running);
                let has_room = model.unacknowledged() < window as usize;
                prop_assert_eq!(session.has_room(), has_room);
                let is_untold = model.done().difference(&model.known).next().is_some();
                prop_assert_eq!(session.is_untold(), is_untold);
            }
        }
    }
}
