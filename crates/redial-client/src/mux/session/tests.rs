//! The numbers of a session against a naive model, and one case at a time.

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
