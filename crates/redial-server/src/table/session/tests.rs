//! Every row of the table's contract for the calls of a session, and the records against a naive
//! model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::table::Fingerprint;

const WINDOW: usize = 4;
const LIMITS: SessionLimits = SessionLimits {
    lease: Duration::from_secs(1),
    window: WINDOW,
    max_sessions: 10,
    max_bytes: 100_000,
    max_total_bytes: 1_000_000,
    max_joined: 2,
};

const ROOM: (&SessionLimits, bool) = (&LIMITS, false);

type Outcome = Begin<(), &'static str>;

/// Records with a clock that is moved by hand. A waiter is a number; 0 is one that is gone.
struct World {
    records: Records<u32>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            records: Records::default(),
            now: clock::now(),
        }
    }

    fn attempt(&self, params: &str, number: u32) -> Attempt {
        Attempt {
            fingerprint: Fingerprint::new(1, params),
            deadline: None,
            now: self.now,
            number,
            ack: None,
        }
    }

    fn begin_with(
        &mut self,
        number: u64,
        attempt: Attempt,
        admitted: Result<bool, &'static str>,
    ) -> (Outcome, Vec<u8>) {
        let mut replay = Vec::new();
        let admit = || {
            admitted.map(|at_once| Admitted {
                ticket: (),
                at_once,
            })
        };
        let begin = self
            .records
            .begin(number, attempt, ROOM, admit, || 7, &mut replay);
        (begin, replay)
    }

    fn begin(&mut self, number: u64) -> Outcome {
        let attempt = self.attempt("p", 1);
        self.begin_with(number, attempt, Ok(true)).0
    }

    fn run(&mut self, number: u64) {
        assert_eq!(self.begin(number), Begin::Start(()));
        assert_eq!(self.records.finish(number, b"done"), Vec::<u32>::new());
    }

    fn acknowledge_below(&mut self, number: u64) -> Acknowledged<u32> {
        let mut told = None;
        self.records.acknowledge_below(number, &mut told);
        told.unwrap_or_default()
    }

    fn acknowledge(&mut self, from: u64, to: u64) -> bool {
        let mut told = None;
        self.records.acknowledge((from, to), &LIMITS, &mut told)
    }

    fn resolve(&mut self, number: u64) -> (Resolved, Vec<u8>) {
        let mut replay = Vec::new();
        let resolved = self.records.resolve(number, ROOM, || 9, &mut replay);
        (resolved, replay)
    }

    fn cancel(&mut self, number: u64) -> Cancelled<u32> {
        self.records.cancel(number, ROOM)
    }
}

#[test]
fn absent_starts_once_and_running_joins() {
    let mut world = World::new();
    assert_eq!(world.begin(0), Begin::Start(()));
    assert_eq!(world.begin(0), Begin::Joined);
    assert_eq!(world.begin(0), Begin::Joined);
    assert_eq!(world.begin(0), Begin::TooManyJoined);
    assert_eq!(world.records.finish(0, b"done"), [7, 7]);
}

#[test]
fn finished_replays_the_recorded_bytes_for_as_long_as_nobody_acknowledges_it() {
    let mut world = World::new();
    world.run(0);
    world.now += Duration::from_secs(1_000_000);
    for _ in 0..3 {
        let attempt = world.attempt("p", 2);
        let (begin, replay) = world.begin_with(0, attempt, Err("never asked"));
        assert_eq!((begin, &*replay), (Begin::Replayed, &b"done"[..]));
    }
}

#[test]
fn another_fingerprint_is_another_call_and_leaves_the_entry_untouched() {
    let mut world = World::new();
    assert_eq!(world.begin(0), Begin::Start(()));
    let other = world.attempt("q", 1);
    assert_eq!(world.begin_with(0, other, Ok(true)).0, Begin::IdReused);
    world.records.finish(0, b"done");
    assert_eq!(world.begin_with(0, other, Ok(true)).0, Begin::IdReused);
    assert_eq!(world.begin(0), Begin::Replayed);
}

#[test]
fn acknowledged_is_stale_whatever_it_was() {
    let mut world = World::new();
    world.run(0);
    assert_eq!(world.begin(1), Begin::Start(()));
    assert_eq!(world.begin(1), Begin::Joined);
    // 2 was never sent; 3 is beyond all that was seen.
    let told = world.acknowledge_below(4);
    assert_eq!((told.begun, told.never), (vec![7], vec![]));
    for number in 0..4 {
        assert_eq!(world.begin(number), Begin::Stale, "{number}");
        assert_eq!(world.resolve(number).0, Resolved::Stale, "{number}");
        assert_eq!(world.cancel(number), Cancelled::Stale, "{number}");
    }
    // The one that ran ends, and nobody is told.
    assert_eq!(world.records.finish(1, b"late"), Vec::<u32>::new());
    assert_eq!(
        (
            world.records.open(),
            world.records.live(),
            world.records.bytes()
        ),
        (0, 0, 0)
    );
    assert_eq!(world.begin(4), Begin::Start(()));
}

#[test]
fn an_acknowledgement_that_comes_twice_or_late_changes_nothing() {
    let mut world = World::new();
    world.run(0);
    world.run(1);
    world.acknowledge_below(2);
    world.run(2);
    world.acknowledge_below(1);
    world.acknowledge(0, 2);
    assert_eq!(world.begin(2), Begin::Replayed);
    assert_eq!(world.begin(1), Begin::Stale);
}

#[test]
fn one_slow_call_does_not_pin_those_after_it() {
    let mut world = World::new();
    assert_eq!(world.begin(0), Begin::Start(()));
    for number in 1..10_000 {
        world.run(number);
        world.acknowledge(1, number + 1);
        assert_eq!(world.records.open(), 1);
        assert!(world.records.ring.len() <= RING_SLOTS * WINDOW);
        assert!(world.records.aside.len() <= 1);
    }
    assert_eq!(world.begin(5_000), Begin::Stale);
    assert_eq!(world.begin(0), Begin::Joined);
    assert_eq!(world.records.finish(0, b"at last"), [7]);
    assert_eq!(world.resolve(0), (Resolved::Done, b"at last".to_vec()));
    world.acknowledge_below(10_000);
    assert_eq!(
        (
            world.records.open(),
            world.records.live(),
            world.records.bytes()
        ),
        (0, 0, 0)
    );
}

#[test]
fn a_call_beyond_the_window_is_refused_and_nothing_is_allocated_for_it() {
    let mut world = World::new();
    let last = (SLACK * WINDOW) as u64 - 1;
    assert_eq!(world.begin(last), Begin::Start(()));
    assert_eq!(world.begin(last + 1), Begin::NoSlot);
    for number in [1 << 40, SessionCall::MAX_NUMBER] {
        assert_eq!(world.begin(number), Begin::NoSlot);
        assert_eq!(world.resolve(number).0, Resolved::NoSlot);
        assert_eq!(world.cancel(number), Cancelled::NoSlot);
        assert!(!world.acknowledge(number, number + 1));
    }
    assert!(world.records.ring.len() <= SLACK * WINDOW);
    // Those in between were never seen, and may still come; but what was refused stays refused.
    let second = world.attempt("p", 2);
    assert_eq!(world.begin_with(0, second, Ok(true)).0, Begin::Start(()));
    world.acknowledge_below(1);
    let refused = Begin::RefusedBefore { up_to: 1 };
    assert_eq!(world.begin(last + 1), refused);
    assert_eq!(
        world.begin_with(last + 1, second, Ok(true)).0,
        Begin::Start(())
    );
}

#[test]
fn an_acknowledgement_of_everything_ends_the_session_and_not_the_server() {
    let mut world = World::new();
    world.run(0);
    world.acknowledge(0, u64::MAX);
    assert_eq!(world.begin(SessionCall::MAX_NUMBER), Begin::Stale);
    world.acknowledge_below(u64::MAX);
    assert_eq!(world.begin(SessionCall::MAX_NUMBER), Begin::Stale);
    assert_eq!(world.records.open(), 0);
}

#[test]
fn a_refused_attempt_stays_refused_and_the_next_one_does_not() {
    let mut world = World::new();
    let first = world.attempt("p", 1);
    assert_eq!(
        world.begin_with(0, first, Err("busy")).0,
        Begin::Refused("busy")
    );
    let refused = Begin::RefusedBefore { up_to: 1 };
    assert_eq!(world.begin_with(0, first, Ok(true)).0, refused);
    let second = world.attempt("p", 2);
    assert_eq!(world.begin_with(0, second, Ok(true)).0, Begin::Start(()));
    // Its handler says that it had no effect.
    assert_eq!(world.records.release(0), Vec::<u32>::new());
    assert_eq!(
        world.begin_with(0, second, Ok(true)).0,
        Begin::RefusedBefore { up_to: 2 }
    );
    let third = world.attempt("p", 3);
    assert_eq!(world.begin_with(0, third, Ok(true)).0, Begin::Start(()));
}

#[test]
fn a_full_session_refuses_new_calls_and_replays_old_ones() {
    let mut world = World::new();
    assert_eq!(world.begin(0), Begin::Start(()));
    assert_eq!(world.begin(1), Begin::Start(()));
    world.records.release(1);
    world.records.finish(0, &vec![b'x'; LIMITS.max_bytes]);
    let second = world.attempt("p", 2);
    let full = world.begin_with(1, second, Ok(true)).0;
    assert!(matches!(full, Begin::Full { .. }), "{full:?}");
    // For this one there was not even a slot.
    assert_eq!(world.begin(2), Begin::NoSlot);
    assert_eq!(world.begin(0), Begin::Replayed);
    world.acknowledge_below(1);
    let third = world.attempt("p", 3);
    for number in [1, 2] {
        assert!(matches!(world.begin(number), Begin::RefusedBefore { .. }));
        assert_eq!(
            world.begin_with(number, third, Ok(true)).0,
            Begin::Start(())
        );
    }
}

/// There is a slot, and no room for an outcome. Whoever was told so may have told its caller that
/// nothing was executed, and a copy of the request may still be on its way.
#[test]
fn a_copy_of_an_attempt_for_which_there_was_no_memory_never_runs() {
    let mut world = World::new();
    world.run(1);
    let admit = || -> Result<Admitted<()>, &str> { panic!("there is no room for it") };
    let (full, second) = ((&LIMITS, true), world.attempt("p", 2));
    let (records, replay) = (&mut world.records, &mut Vec::new());
    let begin = records.begin(0, second, full, admit, || 7, replay);
    assert!(matches!(begin, Begin::Full { .. }), "{begin:?}");
    world.acknowledge(1, 2);
    let refused = Begin::RefusedBefore { up_to: 2 };
    for number in [1, 2, 1] {
        let copy = world.attempt("p", number);
        assert_eq!(world.begin_with(0, copy, Ok(true)).0, refused, "{number}");
    }
    let third = world.attempt("p", 3);
    assert_eq!(world.begin_with(0, third, Ok(true)).0, Begin::Start(()));
}

/// The same without a slot, be it the window that ends or the memory: the number and the attempt
/// are remembered, also when the slots are made by another call or by an acknowledgement.
#[test]
fn a_copy_of_an_attempt_for_which_there_was_no_slot_never_runs() {
    let beyond = (SLACK * WINDOW) as u64;
    for (is_full, number, by) in [
        (true, 0, "itself"),
        (true, 3, "itself"),
        (true, 3, "another"),
        (false, beyond, "itself"),
        (false, beyond, "another"),
        (false, beyond, "an acknowledgement"),
    ] {
        let mut world = World::new();
        let admit = || -> Result<Admitted<()>, &str> { panic!("there is no slot for it") };
        let (full, second) = ((&LIMITS, is_full), world.attempt("p", 2));
        let (records, replay) = (&mut world.records, &mut Vec::new());
        let begin = records.begin(number, second, full, admit, || 7, replay);
        assert_eq!(begin, Begin::NoSlot, "{number} {by}");
        world.acknowledge_below(number.saturating_sub(1));
        match by {
            "another" => assert_eq!(world.begin(number + 2), Begin::Start(())),
            "an acknowledgement" => assert!(world.acknowledge(number + 2, number + 3)),
            _ => {}
        }
        for attempt in [1, 2, 1] {
            let copy = world.attempt("p", attempt);
            let begin = world.begin_with(number, copy, Ok(true)).0;
            let refused = Begin::RefusedBefore { up_to: 2 };
            assert_eq!(begin, refused, "attempt {attempt} of {number} {by}");
        }
        let third = world.attempt("p", 3);
        let begin = world.begin_with(number, third, Ok(true)).0;
        assert_eq!(begin, Begin::Start(()), "{number} {by}");
    }
}

#[test]
fn slots_are_counted_too() {
    let mut world = World::new();
    assert_eq!(world.cancel(3), Cancelled::Never(None));
    assert_eq!((world.records.open(), world.records.live()), (4, 0));
    assert!(world.records.bytes() >= 4 * 32);
    let full = (&LIMITS, true);
    assert_eq!(world.records.cancel(4, full), Cancelled::NoSlot);
    assert_eq!(world.records.cancel(3, full), Cancelled::Never(None));
}

#[test]
fn what_never_arrived_is_fenced_when_somebody_asks() {
    let mut world = World::new();
    assert_eq!(world.resolve(1).0, Resolved::Never);
    assert_eq!(world.resolve(1).0, Resolved::Never);
    assert_eq!(world.begin(1), Begin::Fenced);
    assert_eq!(world.cancel(1), Cancelled::Never(None));
    // The one before it is not.
    assert_eq!(world.begin(0), Begin::Start(()));
    world.acknowledge_below(2);
    assert_eq!(world.begin(1), Begin::Stale);
}

#[test]
fn whoever_asks_about_a_running_call_waits_for_it() {
    let mut world = World::new();
    assert_eq!(world.begin(0), Begin::Start(()));
    assert_eq!(world.resolve(0).0, Resolved::Joined);
    assert_eq!(world.records.finish(0, b"done"), [9]);
    assert_eq!(world.resolve(0), (Resolved::Done, b"done".to_vec()));
}

/// Its own caller has given up, and a question is no reason to run it.
#[test]
fn a_call_that_somebody_asks_about_and_that_comes_to_nothing_is_fenced() {
    let mut world = World::new();
    let hurried = Attempt {
        deadline: Some(world.now),
        ..world.attempt("p", 1)
    };
    assert_eq!(world.begin_with(0, hurried, Ok(false)).0, Begin::Start(()));
    assert_eq!(world.resolve(0).0, Resolved::Joined);
    let late = MayStart::Late(vec![9]);
    assert_eq!(world.records.may_start(0, world.now), late);
    let second = world.attempt("p", 2);
    assert_eq!(world.begin_with(0, second, Ok(true)).0, Begin::Fenced);
}

#[test]
fn those_who_wait_for_what_is_acknowledged_are_told_whether_it_has_begun() {
    let mut world = World::new();
    let attempt = world.attempt("p", 1);
    assert_eq!(world.begin_with(0, attempt, Ok(true)).0, Begin::Start(()));
    assert_eq!(world.begin_with(1, attempt, Ok(false)).0, Begin::Start(()));
    for number in [0, 1, 1] {
        assert_eq!(world.begin(number), Begin::Joined);
    }
    let expected = Acknowledged {
        begun: vec![7],
        never: vec![7, 7],
        waiting: vec![1],
    };
    assert_eq!(world.acknowledge_below(2), expected);
    assert_eq!(world.records.may_start(1, world.now), MayStart::Cancelled);
}

#[test]
fn a_copy_of_an_attempt_that_was_another_call_does_not_run_in_its_place() {
    let mut world = World::new();
    assert_eq!(world.begin(0), Begin::Start(()));
    let other = world.attempt("q", 2);
    assert_eq!(world.begin_with(0, other, Ok(true)).0, Begin::IdReused);
    world.records.release(0);
    let refused = Begin::RefusedBefore { up_to: 2 };
    assert_eq!(world.begin_with(0, other, Ok(true)).0, refused);
}

#[test]
fn a_call_is_taken_back_only_before_it_starts() {
    let mut world = World::new();
    let attempt = world.attempt("p", 1);
    assert_eq!(world.begin_with(0, attempt, Ok(false)).0, Begin::Start(()));
    assert_eq!(world.begin(0), Begin::Joined);
    assert_eq!(world.cancel(0), Cancelled::Never(Some(vec![7])));
    assert_eq!(world.records.may_start(0, world.now), MayStart::Cancelled);
    assert_eq!(world.begin(0), Begin::Fenced);

    assert_eq!(world.begin_with(1, attempt, Ok(false)).0, Begin::Start(()));
    assert_eq!(world.records.may_start(1, world.now), MayStart::Yes);
    assert_eq!(world.cancel(1), Cancelled::Running);
    // One that begins at once was never to be taken back.
    assert_eq!(world.begin(2), Begin::Start(()));
    assert_eq!(world.cancel(2), Cancelled::Running);
    world.records.finish(2, b"done");
    assert_eq!(world.cancel(2), Cancelled::Done);
}

#[test]
fn a_call_starts_as_long_as_any_of_its_attempts_has_time() {
    let mut world = World::new();
    let until = |deadline, number| Attempt {
        deadline: Some(deadline),
        ..World::new().attempt("p", number)
    };
    let (now, later) = (world.now, world.now + Duration::from_secs(1));
    assert_eq!(
        world.begin_with(0, until(now, 1), Ok(false)).0,
        Begin::Start(())
    );
    assert_eq!(
        world.begin_with(0, until(later, 2), Ok(false)).0,
        Begin::Joined
    );
    assert_eq!(world.records.may_start(0, now), MayStart::Yes);

    assert_eq!(
        world.begin_with(1, until(now, 1), Ok(false)).0,
        Begin::Start(())
    );
    assert_eq!(
        world.begin_with(1, until(now, 2), Ok(false)).0,
        Begin::Joined
    );
    assert_eq!(world.records.may_start(1, now), MayStart::Late(vec![7]));
    // It was released, so that both attempts are refused for good.
    assert_eq!(
        world.begin_with(1, until(later, 2), Ok(true)).0,
        Begin::RefusedBefore { up_to: 2 }
    );
    assert_eq!(
        world.begin_with(1, until(later, 3), Ok(true)).0,
        Begin::Start(())
    );
}

#[test]
fn a_waiter_whose_connection_is_gone_makes_room() {
    let mut world = World::new();
    assert_eq!(world.begin(0), Begin::Start(()));
    let attempt = world.attempt("p", 1);
    for _ in 0..LIMITS.max_joined {
        let mut nothing = Vec::new();
        let admit = || Err::<Admitted<()>, _>(());
        let joined = world
            .records
            .begin(0, attempt, ROOM, admit, || 0, &mut nothing);
        assert_eq!(joined, Begin::Joined);
    }
    assert_eq!(world.begin(0), Begin::Joined);
    assert_eq!(world.records.finish(0, b"done"), [7]);
}

/// What a call is, in the plainest terms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Model {
    Empty(u32),
    Running {
        attempt: u32,
        started: bool,
        asked: bool,
    },
    Finished,
    Fenced,
    Over,
}

/// All calls of a session, each on its own, none ever forgotten.
#[derive(Default)]
struct Naive {
    calls: BTreeMap<u64, Model>,
    over_below: u64,
}

impl Naive {
    fn get(&self, number: u64) -> Model {
        match self.calls.get(&number) {
            _ if number < self.over_below => Model::Over,
            Some(model) => *model,
            None => Model::Empty(0),
        }
    }

    fn begin(
        &mut self,
        number: u64,
        attempt: u32,
        admitted: Result<bool, &'static str>,
    ) -> Outcome {
        let (next, outcome) = match (self.get(number), admitted) {
            (Model::Over, _) => return Begin::Stale,
            (Model::Fenced, _) => return Begin::Fenced,
            (Model::Finished, _) => return Begin::Replayed,
            (
                Model::Running {
                    attempt: before,
                    started,
                    asked,
                },
                _,
            ) => {
                let attempt = before.max(attempt);
                (
                    Model::Running {
                        attempt,
                        started,
                        asked,
                    },
                    Begin::Joined,
                )
            }
            (Model::Empty(refused), _) if attempt <= refused => {
                return Begin::RefusedBefore { up_to: refused };
            }
            (Model::Empty(_), Err(reason)) => (Model::Empty(attempt), Begin::Refused(reason)),
            (Model::Empty(_), Ok(started)) => (
                Model::Running {
                    attempt,
                    started,
                    asked: false,
                },
                Begin::Start(()),
            ),
        };
        self.calls.insert(number, next);
        outcome
    }

    /// How many calls from the lowest that is not over to the highest that was ever named.
    fn open(&self, highest: u64) -> usize {
        (self.over_below..=highest)
            .filter(|number| self.get(*number) != Model::Over)
            .count()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin {
        ahead: u64,
        attempt: u32,
        admitted: Result<bool, &'static str>,
    },
    MayStart(u64),
    Finish(u64),
    Release(u64),
    Resolve(u64),
    Cancel(u64),
    AcknowledgeBelow(u64),
    Acknowledge(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let near = || 0u64..24;
    let admitted = prop_oneof![Just(Ok(true)), Just(Ok(false)), Just(Err("busy"))];
    prop_oneof![
        6 => (near(), 1u32..4, admitted)
            .prop_map(|(ahead, attempt, admitted)| Step::Begin { ahead, attempt, admitted }),
        2 => near().prop_map(Step::MayStart),
        4 => near().prop_map(Step::Finish),
        1 => near().prop_map(Step::Release),
        1 => near().prop_map(Step::Resolve),
        1 => near().prop_map(Step::Cancel),
        1 => (0u64..10).prop_map(Step::AcknowledgeBelow),
        4 => (near(), 0u64..16).prop_map(|(from, count)| Step::Acknowledge(from, from + count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Numbers of a step are counted from a point that moves with the acknowledgements, so that
    /// long courses stay busy and the ring goes round many times.
    #[test]
    fn the_records_behave_like_the_naive_model(steps in prop::collection::vec(step(), 1..200)) {
        let (mut world, mut naive) = (World::new(), Naive::default());
        let limits = SessionLimits { window: 1_000, max_joined: 1_000, ..LIMITS };
        let small = (SLACK * WINDOW) as u64;
        for step in steps {
            let from = naive.over_below.saturating_sub(small);
            match step {
                Step::Begin { ahead, attempt, admitted } => {
                    let number = from + ahead;
                    let attempt = world.attempt("p", attempt);
                    let mut replay = Vec::new();
                    let admit = || admitted.map(|at_once| Admitted { ticket: (), at_once });
                    let room = (&limits, false);
                    let found = world.records.begin(number, attempt, room, admit, || 7, &mut replay);
                    prop_assert_eq!(found, naive.begin(number, attempt.number, admitted));
                }
                Step::MayStart(ahead) => {
                    let number = from + ahead;
                    let expected = match naive.get(number) {
                        Model::Running { attempt, asked, .. } => {
                            let started = true;
                            naive.calls.insert(number, Model::Running { attempt, started, asked });
                            MayStart::Yes
                        }
                        _ => MayStart::Cancelled,
                    };
                    prop_assert_eq!(world.records.may_start(number, world.now), expected);
                }
                Step::Finish(ahead) => {
                    let number = from + ahead;
                    world.records.finish(number, b"done");
                    if let Model::Running { .. } = naive.get(number) {
                        naive.calls.insert(number, Model::Finished);
                    }
                }
                Step::Release(ahead) => {
                    let number = from + ahead;
                    world.records.release(number);
                    if let Model::Running { attempt, asked, .. } = naive.get(number) {
                        let next = if asked { Model::Fenced } else { Model::Empty(attempt) };
                        naive.calls.insert(number, next);
                    }
                }
                Step::Resolve(ahead) => {
                    let number = from + ahead;
                    let expected = match naive.get(number) {
                        Model::Over => Resolved::Stale,
                        Model::Running { attempt, started, .. } => {
                            let asked = true;
                            naive.calls.insert(number, Model::Running { attempt, started, asked });
                            Resolved::Joined
                        }
                        Model::Finished => Resolved::Done,
                        Model::Empty(_) | Model::Fenced => {
                            naive.calls.insert(number, Model::Fenced);
                            Resolved::Never
                        }
                    };
                    let found = world.records.resolve(number, (&limits, false), || 9, &mut Vec::new());
                    prop_assert_eq!(found, expected);
                }
                Step::Cancel(ahead) => {
                    let number = from + ahead;
                    let found = world.records.cancel(number, (&limits, false));
                    let expected = match naive.get(number) {
                        Model::Over => Cancelled::Stale,
                        Model::Finished => Cancelled::Done,
                        Model::Running { started: true, .. } => Cancelled::Running,
                        _ => {
                            naive.calls.insert(number, Model::Fenced);
                            Cancelled::Never(None)
                        }
                    };
                    match (found, expected) {
                        (Cancelled::Never(_), Cancelled::Never(_)) => {}
                        (found, expected) => prop_assert_eq!(found, expected),
                    }
                }
                Step::AcknowledgeBelow(ahead) => {
                    naive.over_below += ahead / 2;
                    world.acknowledge_below(naive.over_below);
                }
                Step::Acknowledge(first, to) => {
                    let (first, to) = (from + first, from + to);
                    let mut told = None;
                    assert!(world.records.acknowledge((first, to), &limits, &mut told));
                    for number in first..to {
                        naive.calls.insert(number, Model::Over);
                    }
                }
            }
            while naive.get(naive.over_below) == Model::Over {
                naive.over_below += 1;
            }
            let end = world.records.end();
            let open = if end == 0 { 0 } else { naive.open(end - 1) };
            prop_assert_eq!(world.records.open(), open);
        }
    }

    /// However small the window, what is set aside is found again.
    #[test]
    fn slots_set_aside_keep_what_they_hold(open in prop::collection::btree_set(0u64..400, 1..7)) {
        let mut world = World::new();
        for number in 0..400 {
            world.run(number);
            if !open.contains(&number) {
                world.acknowledge(number, number + 1);
            }
        }
        prop_assert_eq!(world.records.open(), open.len());
        for number in 0..400 {
            let expected = if open.contains(&number) { Begin::Replayed } else { Begin::Stale };
            prop_assert_eq!(world.begin(number), expected);
        }
    }
}
