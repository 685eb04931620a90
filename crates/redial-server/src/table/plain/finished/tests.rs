//! Records that go in groups, what they keep, and what is allocated for it.

use std::time::Instant;

use proptest::prelude::*;
use redial_protocol::Principal;

use super::*;

const TTL: Duration = Duration::from_millis(6_400);
const GROUP_MS: u64 = 100;

fn fingerprint() -> Fingerprint {
    Fingerprint::new(5, "6")
}

/// Records with a clock that is moved by hand, in milliseconds.
struct FinishedWorld {
    finished: Finished,
    epoch: Instant,
}

impl FinishedWorld {
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary moment to count from"
    )]
    fn new() -> Self {
        Self {
            finished: Finished::new(TTL),
            epoch: Instant::now(),
        }
    }

    fn at(&self, ms: u64) -> Millis {
        Millis::since(self.epoch, self.epoch + Duration::from_millis(ms))
    }

    fn push(&mut self, key: &CallKey, outcome: &[u8], expires: u64) {
        let ended = NewRecord {
            key,
            hash: hash_of(key),
            fingerprint: fingerprint(),
            outcome,
        };
        self.finished.push(&ended, self.at(expires));
    }

    fn outcome(&self, key: &CallKey, now: u64) -> Option<Vec<u8>> {
        let kept = self.finished.find(key, hash_of(key), self.at(now))?;
        assert_eq!(kept.fingerprint, fingerprint());
        Some(kept.outcome.concat())
    }

    fn allocated(&self) -> usize {
        let Finished { records, bytes, .. } = &self.finished;
        records.allocated_bytes() + bytes.allocated_bytes() + self.finished.index.allocated_bytes()
    }
}

/// As the table's hash: whatever it is, the same key has the same. Some meet.
fn hash_of(key: &CallKey) -> u32 {
    let bytes: &[u8] = match key {
        CallKey::Uuid(uuid) => uuid,
        CallKey::Text(text) | CallKey::Integer(text) => text.as_bytes(),
        CallKey::Owned(owned) => return hash_of(&owned.key),
        CallKey::Session(_) => &[],
    };
    let all = bytes.iter().fold(7, |all: u32, byte| {
        all.wrapping_mul(31).wrapping_add((*byte).into())
    });
    all.wrapping_mul(0x9e37_79b9)
}

fn owned(key: CallKey, name: &str) -> CallKey {
    key.owned_by(&Principal::new(name).unwrap())
}

fn uuid(number: u64) -> CallKey {
    CallKey::Uuid(u128::from(number).to_be_bytes())
}

#[test]
fn a_group_goes_when_its_last_record_has_expired_and_an_expired_one_is_not_found_before() {
    let mut world = FinishedWorld::new();
    for ms in 0..=GROUP_MS {
        world.push(&uuid(ms), b"x", 1_000 + ms);
    }
    let in_the_middle = 1_000 + GROUP_MS / 2;
    assert_eq!(world.finished.expire(world.at(in_the_middle)).records, 0);
    for ms in 0..=GROUP_MS {
        let is_live = 1_000 + ms > in_the_middle;
        assert_eq!(
            world.outcome(&uuid(ms), in_the_middle).is_some(),
            is_live,
            "{ms}"
        );
    }
    let at_the_end = world.at(1_000 + GROUP_MS);
    assert_eq!(
        world.finished.expire(at_the_end).records,
        GROUP_MS as usize + 1
    );
}

#[test]
fn those_that_expire_later_are_another_group() {
    let mut world = FinishedWorld::new();
    world.push(&uuid(1), b"x", 1_000);
    world.push(&uuid(2), b"x", 1_000 + GROUP_MS + 1);
    assert_eq!(world.finished.expire(world.at(1_000)).records, 1);
    assert!(world.outcome(&uuid(2), 1_000).is_some());
}

#[test]
fn all_that_has_expired_goes_when_room_is_needed() {
    let mut world = FinishedWorld::new();
    for ms in 0..=GROUP_MS {
        world.push(&uuid(ms), b"abc", 1_000 + ms);
    }
    let gone = world.finished.expire_all(world.at(1_009));
    let bytes = 10 * record_bytes(&uuid(0), 3);
    assert_eq!(gone, Amount { records: 10, bytes });
    assert_eq!(
        world.finished.next_expiry(world.at(1_009)),
        Some(Duration::from_millis(1))
    );
    assert_eq!(world.outcome(&uuid(10), 1_009), Some(b"abc".to_vec()));
    let rest = world.finished.expire(world.at(1_000 + GROUP_MS));
    assert_eq!(rest.records, GROUP_MS as usize - 9);
}

#[test]
fn nothing_goes_early_though_clocks_disagree() {
    let mut world = FinishedWorld::new();
    world.push(&uuid(1), b"1", 1_050);
    world.push(&uuid(2), b"2", 1_020);
    world.push(&uuid(3), b"3", 1_030);
    assert_eq!(world.finished.expire_all(world.at(1_049)).records, 0);
    assert!((1..=3).all(|number| world.outcome(&uuid(number), 1_049).is_some()));
    assert_eq!(world.finished.expire_all(world.at(1_050)).records, 3);
}

#[test]
fn a_call_whose_record_waits_for_others_may_have_another_record() {
    let mut world = FinishedWorld::new();
    world.push(&uuid(1), b"old", 1_000);
    world.push(&uuid(2), b"x", 1_050);
    world.push(&uuid(1), b"new", 1_060);
    assert_eq!(world.outcome(&uuid(1), 1_001), Some(b"new".to_vec()));
}

#[test]
fn keys_that_are_no_uuids_lie_with_their_outcomes_and_go_with_them() {
    let mut world = FinishedWorld::new();
    let text = |text: &str| CallKey::Text(text.into());
    let keys = [
        text("12"),
        CallKey::Integer("12".into()),
        text("1"),
        text(&"k".repeat(128)),
        uuid(12),
        // What a short text would look like if it were taken for a UUID.
        CallKey::Uuid(8_u128.to_be_bytes()),
        text("é"),
        // The same bytes beside the record, or the same id.
        owned(text("12"), "a"),
        owned(text("12"), "a1"),
        owned(text("112"), "a"),
        owned(CallKey::Integer("12".into()), "a"),
        owned(uuid(12), "a"),
        owned(uuid(12), &"n".repeat(256)),
    ];
    let mut kept = 0;
    // Often enough to have the ring's end in the middle of each.
    for round in 0..3_000_u64 {
        let now = round * 200;
        for (number, key) in keys.iter().enumerate() {
            let outcome = format!("{number} of {round}");
            assert_eq!(world.outcome(key, now), None);
            world.push(key, outcome.as_bytes(), now + 150);
            kept += record_bytes(key, outcome.len());
        }
        for (number, key) in keys.iter().enumerate() {
            let outcome = format!("{number} of {round}").into_bytes();
            assert_eq!(world.outcome(key, now), Some(outcome), "{key:?}");
        }
        assert_eq!(world.outcome(&text("2 of"), now), None);
        if round % 8 == 7 {
            let gone = world.finished.expire(world.at(now + 150));
            assert_eq!((gone.records, gone.bytes), (8 * keys.len(), kept));
            kept = 0;
        }
    }
}

#[test]
fn numbers_may_go_round() {
    let mut world = FinishedWorld::new();
    world.finished.first = u32::MAX - 1_000;
    for number in 0..3_000 {
        world.push(&uuid(number), &number.to_be_bytes(), 1_000 + number);
        let earlier = number.saturating_sub(500);
        let outcome = earlier.to_be_bytes().to_vec();
        assert_eq!(world.outcome(&uuid(earlier), number), Some(outcome));
        if number > 1_000 {
            world.finished.expire(world.at(number));
        }
    }
    let left = world.finished.records.len();
    assert!((1_000..=1_200).contains(&left), "{left}");
    assert_eq!(world.finished.expire_all(world.at(9_000)).records, left);
}

#[test]
fn a_record_of_a_hundred_bytes_is_counted_as_what_is_allocated_for_it() {
    let mut world = FinishedWorld::new();
    let counted = record_bytes(&uuid(0), 100);
    for number in 1..=62_500 {
        world.push(&uuid(number), &[0; 100], 1_000);
        let most = number as usize * counted + 16 * 1024;
        assert!(world.allocated() <= most, "{} > {most}", world.allocated());
    }
}

#[test]
fn memory_falls_back() {
    let mut world = FinishedWorld::new();
    for number in 0..40_000 {
        world.push(&uuid(number), &[0; 100], 1_000 + number / 39_000 * 1_000);
    }
    world.finished.expire(world.at(1_000));
    world.finished.shrink();
    assert!(world.allocated() < 1_000 * 800);
    assert!((39_000..40_000).all(|number| world.outcome(&uuid(number), 1_000).is_some()));
    world.finished.expire(world.at(2_000));
    world.finished.shrink();
    assert!(world.allocated() < 32 * 1024, "{}", world.allocated());
}

#[derive(Clone, Debug)]
enum FinishedStep {
    /// So many, from a name on, their clock so much ahead of that of the others.
    Push {
        name: u16,
        count: u16,
        ahead: u64,
    },
    Pass(u64),
    Expire,
    ExpireAll,
    Shrink,
}

fn steps() -> impl Strategy<Value = Vec<FinishedStep>> {
    let push = (0u16..900, 1u16..200, 0u64..4);
    let step = prop_oneof![
        6 => push.prop_map(|(name, count, ahead)| FinishedStep::Push { name, count, ahead }),
        4 => prop_oneof![0u64..30, 0u64..3_000, Just(GROUP_MS), Just(6_401)].prop_map(FinishedStep::Pass),
        2 => Just(FinishedStep::Expire),
        1 => Just(FinishedStep::ExpireAll),
        1 => Just(FinishedStep::Shrink),
    ];
    prop::collection::vec(step, 1..40)
}

/// A third of them are texts, of which some are long, and a third integers; some are a principal's; of
/// few hashes, or of many.
fn named(name: u16, hashes: u32) -> (CallKey, u32) {
    let key = match name % 3 {
        0 => uuid(name.into()),
        1 => CallKey::Integer(name.to_string().into()),
        _ => CallKey::Text("k".repeat((name / 3 % 128 + 1).into()).into()),
    };
    let key = match name % 5 {
        0 => owned(key, "k"),
        1 => owned(key, "token:kk"),
        _ => key,
    };
    let hash = (u32::from(name) % hashes).wrapping_mul(0x9e37_79b9);
    (key, hash)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Against a list of all there is: none goes early, none is found late, none is another's.
    #[test]
    fn it_finds_what_a_list_finds(
        steps in steps(),
        first in prop_oneof![Just(0), (u32::MAX - 2_000)..=u32::MAX],
        hashes in prop::sample::select(vec![1, 2, 7, 1_000]),
    ) {
        let mut world = FinishedWorld::new();
        world.finished.first = first;
        let (mut now, mut known, mut kept) = (0, std::collections::BTreeMap::new(), 0);
        let mut latest = 0;
        for (number, step) in steps.into_iter().enumerate() {
            let mut gone = Amount::default();
            match step {
                FinishedStep::Push { name, count, ahead } => {
                    for name in (name..name + count).map(|name| name % 381) {
                        let (key, hash) = named(name, hashes);
                        let moment = world.at(now);
                        let found = world.finished.find(&key, hash, moment).is_some();
                        prop_assert_eq!(found, known.contains_key(&name), "{}", name);
                        if found {
                            continue;
                        }
                        let outcome = vec![number as u8; usize::from(name % 50)];
                        let expires = now + 6_401 + ahead;
                        let ended = NewRecord { key: &key, hash, fingerprint: fingerprint(), outcome: &outcome };
                        let moment = world.at(expires);
                        world.finished.push(&ended, moment);
                        kept += 1;
                        // No earlier than those in front of it.
                        latest = expires.max(latest);
                        known.insert(name, (outcome, latest));
                    }
                }
                FinishedStep::Pass(ms) => now += ms,
                FinishedStep::Expire => gone = world.finished.expire(world.at(now)),
                FinishedStep::ExpireAll => gone = world.finished.expire_all(world.at(now)),
                FinishedStep::Shrink => world.finished.shrink(),
            }
            kept -= gone.records;
            known.retain(|_, (_, expires)| *expires > now);
            prop_assert!(kept >= known.len() && kept == world.finished.records.len());
            let left = known.values().map(|(_, expires)| expires - now).min();
            if kept == known.len() {
                let next = world.finished.next_expiry(world.at(now));
                prop_assert_eq!(next, left.map(Duration::from_millis));
            }
            // Every name in four steps: all of them in each would take most of the time.
            for name in (number as u16 % 4..381).step_by(4) {
                let (key, hash) = named(name, hashes);
                let found = world.finished.find(&key, hash, world.at(now));
                let found = found.map(|found| found.outcome.concat());
                prop_assert_eq!(found.as_ref(), known.get(&name).map(|(outcome, _)| outcome));
            }
        }
    }
}
