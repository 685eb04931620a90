//! Every row of the table's contract, and the table against a naive model.

use proptest::prelude::*;

use super::*;
use crate::table::call::Fingerprint;

const TTL: Duration = Duration::from_millis(1_000);
const LIMITS: PlainLimits = PlainLimits {
    ttl: TTL,
    max_records: 1_000,
    max_bytes: 1 << 20,
    max_joined: 2,
};

/// Waiter 0 has lost its connection, and 9 is a question.
impl TableWaiter for u32 {
    fn is_connected(&self) -> bool {
        *self != 0
    }

    fn is_question(&self) -> bool {
        *self == 9
    }
}

/// A table with a clock that is moved by hand.
struct PlainWorld {
    table: PlainTable<u32>,
    now: Instant,
}

type PlainDecision = Decision<(), &'static str>;

impl PlainWorld {
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary moment to count from"
    )]
    fn new(limits: PlainLimits) -> Self {
        let now = Instant::now();
        Self {
            table: PlainTable::new(limits, now),
            now,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn key(&self, name: u32) -> PlainKey {
        self.table.key(match name % 2 {
            0 => CallKey::Text(name.to_string().into()),
            _ => CallKey::Uuid(u128::from(name).to_be_bytes()),
        })
    }

    fn begin(&self, name: u32, params: &str) -> (PlainDecision, Vec<u8>) {
        self.attempt(name, params, None, Ok(()), 7)
    }

    fn attempt(
        &self,
        name: u32,
        params: &str,
        deadline: Option<Instant>,
        admitted: Result<(), &'static str>,
        waiter: u32,
    ) -> (PlainDecision, Vec<u8>) {
        let fingerprint = Fingerprint::new(1, params);
        let attempt = Attempt {
            fingerprint,
            deadline,
            now: self.now,
            number: 1,
            is_numbered: true,
            ack: None,
            deferred: None,
        };
        let mut replay = Vec::new();
        let begin = self.table.begin(
            &self.key(name),
            &attempt,
            || admitted,
            || waiter,
            || self.look(),
            &mut replay,
        );
        (begin, replay)
    }

    /// Nothing is unread.
    fn look(&self) -> Instant {
        self.table.set_horizon(self.now);
        self.now
    }

    fn expire(&self) -> usize {
        self.look();
        self.table.expire()
    }

    fn finish(&self, name: u32, outcome: &[u8]) -> Vec<u32> {
        self.table.finish(&self.key(name), outcome, self.now)
    }
}

#[test]
fn absent_starts_once_and_running_joins() {
    let world = PlainWorld::new(LIMITS);
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    assert_eq!(world.attempt(1, "p", None, Ok(()), 11).0, Decision::Joined);
    assert_eq!(world.attempt(1, "p", None, Ok(()), 12).0, Decision::Joined);
    assert_eq!(world.finish(1, b"done"), [11, 12]);
}

/// More than a shard looks at one by one.
#[test]
fn many_calls_may_run_at_once_and_end_in_any_order() {
    let world = PlainWorld::new(LIMITS);
    for name in 0..1_000 {
        assert_eq!(world.begin(name, "p").0, Decision::Start(()));
    }
    for name in 0..1_000 {
        assert_eq!(world.begin(name, "q").0, Decision::IdReused);
        let joined = world.attempt(name, "p", None, Ok(()), name + 1);
        assert_eq!(joined.0, Decision::Joined);
    }
    for name in (0..1_000).map(|at| at * 7 % 1_000) {
        assert_eq!(world.finish(name, b"done"), [name + 1]);
    }
}

#[test]
fn finished_replays_the_recorded_bytes() {
    let world = PlainWorld::new(LIMITS);
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    assert_eq!(world.finish(1, b"done"), Vec::<u32>::new());
    for _ in 0..3 {
        assert_eq!(world.begin(1, "p"), (Decision::Replayed, b"done".to_vec()));
    }
}

#[test]
fn another_fingerprint_is_another_call_and_leaves_the_entry_untouched() {
    let world = PlainWorld::new(LIMITS);
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    assert_eq!(world.begin(1, "q").0, Decision::IdReused);
    assert_eq!(world.finish(1, b"done"), Vec::<u32>::new());
    assert_eq!(world.begin(1, "q").0, Decision::IdReused);
    assert_eq!(world.begin(1, "p"), (Decision::Replayed, b"done".to_vec()));
}

#[test]
fn the_method_is_part_of_the_fingerprint() {
    let (inc, dec) = (Fingerprint::seed("inc"), Fingerprint::seed("dec"));
    assert_ne!(Fingerprint::new(inc, "{}"), Fingerprint::new(dec, "{}"));
    assert_ne!(Fingerprint::new(inc, "{}"), Fingerprint::new(inc, "{ }"));
}

#[test]
fn a_running_call_takes_only_so_many_waiters() {
    let world = PlainWorld::new(LIMITS);
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    assert_eq!(world.begin(1, "p").0, Decision::Joined);
    assert_eq!(world.begin(1, "p").0, Decision::Joined);
    assert_eq!(world.begin(1, "p").0, Decision::TooManyJoined);
}

#[test]
fn those_whose_connection_is_gone_make_room() {
    let world = PlainWorld::new(LIMITS);
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    for gone in [0, 0] {
        assert_eq!(
            world.attempt(1, "p", None, Ok(()), gone).0,
            Decision::Joined
        );
    }
    assert_eq!(world.attempt(1, "p", None, Ok(()), 5).0, Decision::Joined);
    assert_eq!(world.finish(1, b"done"), [5]);
}

#[test]
fn a_refused_call_leaves_nothing_behind() {
    let world = PlainWorld::new(LIMITS);
    assert_eq!(
        world.attempt(1, "p", None, Err("busy"), 7).0,
        Decision::Refused("busy")
    );
    assert_eq!((world.table.records(), world.table.bytes()), (0, 0));
    assert_eq!(world.begin(1, "q").0, Decision::Start(()));
}

#[test]
fn a_released_call_is_as_good_as_new_and_its_waiters_are_handed_out() {
    let world = PlainWorld::new(LIMITS);
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    assert_eq!(world.attempt(1, "p", None, Ok(()), 11).0, Decision::Joined);
    assert_eq!(world.table.release(&world.key(1)), [11]);
    assert_eq!((world.table.records(), world.table.bytes()), (0, 0));
    assert_eq!(world.begin(1, "q").0, Decision::Start(()));
}

#[test]
fn a_record_lives_for_the_ttl_from_its_end_and_then_goes() {
    let mut world = PlainWorld::new(LIMITS);
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    world.pass(TTL * 5);
    assert_eq!(
        world.begin(1, "p").0,
        Decision::Joined,
        "a running call does not expire"
    );
    world.finish(1, b"done");
    world.pass(TTL);
    assert_eq!(
        world.begin(1, "p").0,
        Decision::Replayed,
        "the TTL counts from completion"
    );
    world.pass(Duration::from_millis(2));
    assert_eq!(
        world.begin(1, "q").0,
        Decision::Start(()),
        "an expired id is as good as new"
    );
}

#[test]
fn a_full_table_refuses_and_evicts_nothing() {
    let mut world = PlainWorld::new(PlainLimits {
        max_records: 3,
        ..LIMITS
    });
    for name in 0..3 {
        assert_eq!(world.begin(name, "p").0, Decision::Start(()));
        world.finish(name, b"done");
        world.pass(Duration::from_millis(100));
    }
    let refused = Decision::Full {
        retry_after: Duration::from_millis(701),
    };
    assert_eq!(world.begin(3, "p").0, refused);
    for name in 0..3 {
        assert_eq!(
            world.begin(name, "p").0,
            Decision::Replayed,
            "{name} was evicted"
        );
    }
    world.pass(Duration::from_millis(701));
    assert_eq!(
        world.begin(3, "p").0,
        Decision::Start(()),
        "the oldest has made room"
    );
}

#[test]
fn a_table_takes_its_last_record_though_shards_have_room_in_hand() {
    let world = PlainWorld::new(PlainLimits {
        max_records: 10_000,
        max_bytes: 1 << 30,
        ..LIMITS
    });
    for name in 0..10_000 {
        assert_eq!(world.begin(name, "p").0, Decision::Start(()), "{name}");
        assert_eq!(world.table.records(), name as usize + 1);
    }
    assert!(matches!(world.begin(10_000, "p").0, Decision::Full { .. }));
    assert_eq!(world.table.release(&world.key(7)), Vec::<u32>::new());
    assert_eq!(world.begin(10_001, "p").0, Decision::Start(()));
}

#[test]
fn the_table_is_bounded_by_bytes_too() {
    let world = PlainWorld::new(PlainLimits {
        max_bytes: 1_000,
        ..LIMITS
    });
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    world.finish(1, &[b'x'; 900]);
    assert!(matches!(world.begin(2, "p").0, Decision::Full { .. }));
    assert_eq!(world.begin(1, "p").1.len(), 900);
}

#[test]
fn the_latest_deadline_of_all_attempts_counts_and_none_is_for_ever() {
    let world = PlainWorld::new(LIMITS);
    let at = |ms| world.now + Duration::from_millis(ms);
    let late_at = |ms| world.table.release_if_expired(&world.key(1), at(ms));
    world.attempt(1, "p", Some(at(50)), Ok(()), 1);
    assert_eq!(late_at(49), None);
    world.attempt(1, "p", Some(at(80)), Ok(()), 2);
    assert_eq!(late_at(50), None);
    assert_eq!(late_at(80), Some(vec![2]));
    world.attempt(1, "p", Some(at(50)), Ok(()), 1);
    world.attempt(1, "p", None, Ok(()), 3);
    assert_eq!(late_at(1_000_000), None);
}

#[test]
fn a_record_that_waits_behind_others_does_not_outlive_its_time() {
    let mut world = PlainWorld::new(PlainLimits {
        max_records: 10_000,
        ..LIMITS
    });
    for name in 0..1_000 {
        assert_eq!(world.begin(name, "p").0, Decision::Start(()));
        world.finish(name, b"done");
    }
    world.pass(TTL + Duration::from_millis(2));
    assert_eq!(world.begin(999, "q").0, Decision::Start(()));
}

#[test]
fn a_table_does_not_refuse_because_of_records_that_have_expired() {
    let mut world = PlainWorld::new(PlainLimits {
        max_records: 100,
        ..LIMITS
    });
    for name in 0..100 {
        assert_eq!(world.begin(name, "p").0, Decision::Start(()));
        world.finish(name, b"done");
        world.pass(Duration::from_micros(100));
    }
    // Half of them are gone, and the others go together with them as a rule.
    world.pass(TTL - Duration::from_millis(4));
    let before = world.table.records();
    let started = (1_000..1_100).filter(|name| world.begin(*name, "p").0 == Decision::Start(()));
    assert!((40..=60).contains(&started.count()));
    assert_eq!((before, world.table.records()), (100, 100));
    assert_eq!(world.begin(99, "p").0, Decision::Replayed);
}

/// Long enough for every shard's ring of outcomes to go round several times.
#[test]
fn outcomes_are_replayed_whole_wherever_the_ring_begins() {
    let mut world = PlainWorld::new(PlainLimits {
        max_records: 100_000,
        max_bytes: 1 << 30,
        ..LIMITS
    });
    let outcome = |name: u32| vec![name as u8; (name % 97) as usize];
    for name in 0..60_000 {
        assert_eq!(world.begin(name, "p").0, Decision::Start(()));
        world.finish(name, &outcome(name));
        if name % 10 == 0 {
            world.pass(Duration::from_millis(1));
        }
        let earlier = name - name.min(7_919) * 7 / 8;
        assert_eq!(
            world.begin(earlier, "p"),
            (Decision::Replayed, outcome(earlier)),
            "{earlier}"
        );
    }
}

#[test]
fn a_record_of_a_reply_of_100_bytes_takes_180_at_most() {
    let key = CallKey::Uuid([7; 16]);
    assert!(record_bytes(&key, 100) <= 180);
}

#[test]
fn an_idle_table_falls_back_to_nothing() {
    let mut world = PlainWorld::new(PlainLimits {
        max_records: 100_000,
        ..LIMITS
    });
    for name in 0..3_000 {
        assert_eq!(world.begin(name, "p").0, Decision::Start(()));
        world.finish(name, b"done");
    }
    world.pass(TTL + Duration::from_millis(2));
    assert_eq!(world.expire(), 3_000);
    assert_eq!((world.table.records(), world.table.bytes()), (0, 0));
}

#[derive(Clone, Debug)]
enum PlainStep {
    Decision { name: u32, params: u8 },
    Finish(u32),
    Release(u32),
    Pass(u64),
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<PlainStep>> {
    let step = prop_oneof![
        6 => (0u32..6, 0u8..2).prop_map(|(name, params)| PlainStep::Decision { name, params }),
        4 => (0u32..6).prop_map(PlainStep::Finish),
        1 => (0u32..6).prop_map(PlainStep::Release),
        2 => (0u64..700).prop_map(PlainStep::Pass),
        1 => Just(PlainStep::Expire),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a table should be, without any thought of speed.
#[derive(Clone)]
enum PlainModel {
    Running {
        params: u8,
        waiters: Vec<u32>,
    },
    Finished {
        params: u8,
        outcome: Vec<u8>,
        ended: Instant,
    },
}

fn expected(model: Option<&mut PlainModel>, params: u8, waiter: u32) -> PlainDecision {
    match model {
        None => Decision::Start(()),
        Some(
            PlainModel::Running { params: known, .. } | PlainModel::Finished { params: known, .. },
        ) if *known != params => Decision::IdReused,
        Some(PlainModel::Running { waiters, .. }) if waiters.len() == 2 => Decision::TooManyJoined,
        Some(PlainModel::Running { waiters, .. }) => {
            waiters.push(waiter);
            Decision::Joined
        }
        Some(PlainModel::Finished { .. }) => Decision::Replayed,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_table_does_what_the_model_does(steps in steps()) {
        let mut world = PlainWorld::new(LIMITS);
        let mut model = std::collections::BTreeMap::<u32, PlainModel>::new();
        for (number, step) in steps.into_iter().enumerate() {
            // A record may live up to 2 ms longer than its TTL, never shorter; keep off the edge.
            model.retain(|_, call| !matches!(call,
                PlainModel::Finished { ended, .. } if world.now > *ended + TTL + Duration::from_millis(2)));
            let doubtful = |call: &PlainModel| matches!(call,
                PlainModel::Finished { ended, .. } if world.now > *ended + TTL);
            match step {
                PlainStep::Decision { name, .. } if model.get(&name).is_some_and(doubtful) => {}
                PlainStep::Decision { name, params } => {
                    let waiter = number as u32 + 1;
                    let should = expected(model.get_mut(&name), params, waiter);
                    let text = params.to_string();
                    let (did, replay) = world.attempt(name, &text, None, Ok(()), waiter);
                    prop_assert_eq!(&did, &should);
                    match (did, model.get(&name)) {
                        (Decision::Start(()), _) => {
                            model.insert(name, PlainModel::Running { params, waiters: vec![] });
                        }
                        (Decision::Replayed, Some(PlainModel::Finished { outcome, .. })) => {
                            prop_assert_eq!(&replay, outcome);
                        }
                        _ => prop_assert!(replay.is_empty()),
                    }
                }
                PlainStep::Finish(name) => {
                    if let Some(PlainModel::Running { params, waiters }) = model.get(&name).cloned() {
                        let outcome = number.to_string().into_bytes();
                        prop_assert_eq!(world.finish(name, &outcome), waiters);
                        model.insert(name, PlainModel::Finished { params, outcome, ended: world.now });
                    }
                }
                PlainStep::Release(name) => {
                    if let Some(PlainModel::Running { waiters, .. }) = model.get(&name).cloned() {
                        prop_assert_eq!(world.table.release(&world.key(name)), waiters);
                        model.remove(&name);
                    }
                }
                PlainStep::Pass(ms) => world.pass(Duration::from_millis(ms)),
                PlainStep::Expire => { world.expire(); }
            }
        }
    }
}

#[test]
fn a_ttl_with_a_part_of_a_millisecond_is_not_cut_short() {
    let ttl = Duration::from_micros(1_900);
    let mut world = PlainWorld::new(PlainLimits { ttl, ..LIMITS });
    world.pass(Duration::from_micros(900));
    assert_eq!(world.begin(1, "p").0, Decision::Start(()));
    world.finish(1, b"done");
    world.pass(ttl);
    assert_eq!(world.begin(1, "p").0, Decision::Replayed);
}

mod exact;
mod threads;
