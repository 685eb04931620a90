//! The records against a model that keeps every call on its own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The state of a call, in the plainest terms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum SlotModel {
    Empty(u32),
    Running {
        attempt: u32,
        started: bool,
        asked: bool,
    },
    Finished,
    Fenced,
    Acknowledged,
}

/// All calls of a session, each on its own, none ever forgotten.
#[derive(Default)]
struct RecordsModel {
    calls: BTreeMap<u64, SlotModel>,
    acknowledged_below: u64,
}

impl RecordsModel {
    fn get(&self, number: u64) -> SlotModel {
        match self.calls.get(&number) {
            _ if number < self.acknowledged_below => SlotModel::Acknowledged,
            Some(model) => *model,
            None => SlotModel::Empty(0),
        }
    }

    fn begin(
        &mut self,
        number: u64,
        attempt: u32,
        admitted: Result<bool, &'static str>,
    ) -> SlotDecision {
        let (next, outcome) = match (self.get(number), admitted) {
            (SlotModel::Acknowledged, _) => return Decision::Acknowledged,
            (SlotModel::Fenced, _) => return Decision::Fenced,
            (SlotModel::Finished, _) => return Decision::Replayed,
            (
                SlotModel::Running {
                    attempt: before,
                    started,
                    asked,
                },
                _,
            ) => {
                let attempt = before.max(attempt);
                (
                    SlotModel::Running {
                        attempt,
                        started,
                        asked,
                    },
                    Decision::Joined,
                )
            }
            (SlotModel::Empty(refused), _) if attempt <= refused => {
                return Decision::RefusedBefore { up_to: refused };
            }
            (SlotModel::Empty(_), Err(reason)) => {
                (SlotModel::Empty(attempt), Decision::Refused(reason))
            }
            (SlotModel::Empty(_), Ok(started)) => (
                SlotModel::Running {
                    attempt,
                    started,
                    asked: false,
                },
                Decision::Start(()),
            ),
        };
        self.calls.insert(number, next);
        outcome
    }

    /// How many calls are open, from the lowest to the highest that was ever named.
    fn open(&self, highest: u64) -> usize {
        (self.acknowledged_below..=highest)
            .filter(|number| self.get(*number) != SlotModel::Acknowledged)
            .count()
    }
}

#[derive(Clone, Copy, Debug)]
enum RecordsStep {
    Decision {
        ahead: u64,
        attempt: u32,
        admitted: Result<bool, &'static str>,
    },
    StartCheck(u64),
    Finish(u64),
    Release(u64),
    Resolve(u64),
    Cancel(u64),
    AcknowledgeBelow(u64),
    Acknowledge(u64, u64),
}

fn step() -> impl Strategy<Value = RecordsStep> {
    let near = || 0u64..24;
    let admitted = prop_oneof![Just(Ok(true)), Just(Ok(false)), Just(Err("busy"))];
    prop_oneof![
        6 => (near(), 1u32..4, admitted)
            .prop_map(|(ahead, attempt, admitted)| RecordsStep::Decision { ahead, attempt, admitted }),
        2 => near().prop_map(RecordsStep::StartCheck),
        4 => near().prop_map(RecordsStep::Finish),
        1 => near().prop_map(RecordsStep::Release),
        1 => near().prop_map(RecordsStep::Resolve),
        1 => near().prop_map(RecordsStep::Cancel),
        1 => (0u64..10).prop_map(RecordsStep::AcknowledgeBelow),
        4 => (near(), 0u64..16).prop_map(|(from, count)| RecordsStep::Acknowledge(from, from + count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Numbers of a step are counted from a point that moves with the acknowledgements, so that
    /// long courses stay busy and the ring goes round many times.
    #[test]
    fn the_records_behave_like_the_naive_model(steps in prop::collection::vec(step(), 1..200)) {
        let (mut world, mut naive) = (RecordsWorld::new(), RecordsModel::default());
        let limits = SessionLimits { window: 1_000, max_joined: 1_000, ..LIMITS };
        let small = (SLACK * WINDOW) as u64;
        for step in steps {
            let from = naive.acknowledged_below.saturating_sub(small);
            match step {
                RecordsStep::Decision { ahead, attempt, admitted } => {
                    let number = from + ahead;
                    let attempt = world.attempt("p", attempt);
                    let mut replay = Vec::new();
                    let admit = || admitted.map(|starts_now| Admitted { ticket: (), starts_now });
                    let room = Room { limits: &limits, is_full: false };
                    let found = world.records.begin(number, &attempt, room, admit, || 7, &mut replay);
                    prop_assert_eq!(found, naive.begin(number, attempt.number, admitted));
                }
                RecordsStep::StartCheck(ahead) => {
                    let number = from + ahead;
                    let expected = match naive.get(number) {
                        SlotModel::Running { attempt, asked, .. } => {
                            let started = true;
                            naive.calls.insert(number, SlotModel::Running { attempt, started, asked });
                            StartCheck::Start
                        }
                        _ => StartCheck::Cancelled,
                    };
                    prop_assert_eq!(world.records.check_start(number, world.now), expected);
                }
                RecordsStep::Finish(ahead) => {
                    let number = from + ahead;
                    world.records.finish(number, b"done");
                    if let SlotModel::Running { .. } = naive.get(number) {
                        naive.calls.insert(number, SlotModel::Finished);
                    }
                }
                RecordsStep::Release(ahead) => {
                    let number = from + ahead;
                    world.records.release(number);
                    if let SlotModel::Running { attempt, asked, .. } = naive.get(number) {
                        let next = if asked { SlotModel::Fenced } else { SlotModel::Empty(attempt) };
                        naive.calls.insert(number, next);
                    }
                }
                RecordsStep::Resolve(ahead) => {
                    let number = from + ahead;
                    let expected = match naive.get(number) {
                        SlotModel::Acknowledged => Resolved::Acknowledged,
                        SlotModel::Running { attempt, started, .. } => {
                            let asked = true;
                            naive.calls.insert(number, SlotModel::Running { attempt, started, asked });
                            Resolved::Joined
                        }
                        SlotModel::Finished => Resolved::Done,
                        SlotModel::Empty(_) | SlotModel::Fenced => {
                            naive.calls.insert(number, SlotModel::Fenced);
                            Resolved::Never
                        }
                    };
                    let found = world.records.resolve(number, Room { limits: &limits, is_full: false }, || 9, &mut Vec::new());
                    prop_assert_eq!(found, expected);
                }
                RecordsStep::Cancel(ahead) => {
                    let number = from + ahead;
                    let found = world.records.cancel(number, Room { limits: &limits, is_full: false });
                    let expected = match naive.get(number) {
                        SlotModel::Acknowledged => Cancelled::Acknowledged,
                        SlotModel::Finished => Cancelled::Done,
                        SlotModel::Running { started: true, .. } => Cancelled::Running,
                        _ => {
                            naive.calls.insert(number, SlotModel::Fenced);
                            Cancelled::Never(None)
                        }
                    };
                    match (found, expected) {
                        (Cancelled::Never(_), Cancelled::Never(_)) => {}
                        (found, expected) => prop_assert_eq!(found, expected),
                    }
                }
                RecordsStep::AcknowledgeBelow(ahead) => {
                    naive.acknowledged_below += ahead / 2;
                    world.acknowledge_below(naive.acknowledged_below);
                }
                RecordsStep::Acknowledge(first, to) => {
                    let (first, to) = (from + first, from + to);
                    let mut waiters = None;
                    assert!(world.records.acknowledge(first..to, limits.window, &mut waiters));
                    for number in first..to {
                        naive.calls.insert(number, SlotModel::Acknowledged);
                    }
                }
            }
            while naive.get(naive.acknowledged_below) == SlotModel::Acknowledged {
                naive.acknowledged_below += 1;
            }
            let end = world.records.end();
            let open = if end == 0 { 0 } else { naive.open(end - 1) };
            prop_assert_eq!(world.records.open(), open);
        }
    }

    /// However small the window, stragglers are found again.
    #[test]
    fn stragglers_keep_what_they_hold(open in prop::collection::btree_set(0u64..400, 1..7)) {
        let mut world = RecordsWorld::new();
        for number in 0..400 {
            world.run(number);
            if !open.contains(&number) {
                world.acknowledge(number, number + 1);
            }
        }
        prop_assert_eq!(world.records.open(), open.len());
        for number in 0..400 {
            let expected = if open.contains(&number) { Decision::Replayed } else { Decision::Acknowledged };
            prop_assert_eq!(world.begin(number), expected);
        }
    }
}
