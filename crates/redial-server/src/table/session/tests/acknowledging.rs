//! What an acknowledgement forgets, and that it forgets for good.

use super::*;

#[test]
fn an_acknowledged_call_stays_so_whatever_it_was() {
    let mut world = RecordsWorld::new();
    world.run(0);
    assert_eq!(world.begin(1), Decision::Start(()));
    assert_eq!(world.begin(1), Decision::Joined);
    // 2 was never sent; 3 is beyond all that was seen.
    let waiters = world.acknowledge_below(4);
    assert_eq!((waiters.started, waiters.never), (vec![7], vec![]));
    for number in 0..4 {
        assert_eq!(world.begin(number), Decision::Acknowledged, "{number}");
        assert_eq!(world.resolve(number).0, Resolved::Acknowledged, "{number}");
        assert_eq!(world.cancel(number), Cancelled::Acknowledged, "{number}");
    }
    // The one that ran finishes, and no one hears of it.
    assert_eq!(world.records.finish(1, b"late"), Vec::<u32>::new());
    assert_eq!(
        (
            world.records.open(),
            world.records.live(),
            world.records.bytes()
        ),
        (0, 0, 0)
    );
    assert_eq!(world.begin(4), Decision::Start(()));
}

#[test]
fn an_acknowledgement_that_comes_twice_or_late_changes_nothing() {
    let mut world = RecordsWorld::new();
    world.run(0);
    world.run(1);
    world.acknowledge_below(2);
    world.run(2);
    world.acknowledge_below(1);
    world.acknowledge(0, 2);
    assert_eq!(world.begin(2), Decision::Replayed);
    assert_eq!(world.begin(1), Decision::Acknowledged);
}

#[test]
fn one_slow_call_does_not_pin_those_after_it() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    for number in 1..10_000 {
        world.run(number);
        world.acknowledge(1, number + 1);
        assert_eq!(world.records.open(), 1);
        assert!(world.records.ring.len() <= RING_SLOTS * WINDOW);
        assert!(world.records.stragglers.len() <= 1);
    }
    assert_eq!(world.begin(5_000), Decision::Acknowledged);
    assert_eq!(world.begin(0), Decision::Joined);
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
fn an_acknowledgement_of_everything_ends_the_session_and_not_the_server() {
    let mut world = RecordsWorld::new();
    world.run(0);
    world.acknowledge(0, u64::MAX);
    assert_eq!(world.begin(SessionCall::MAX_NUMBER), Decision::Acknowledged);
    world.acknowledge_below(u64::MAX);
    assert_eq!(world.begin(SessionCall::MAX_NUMBER), Decision::Acknowledged);
    assert_eq!(world.records.open(), 0);
}

#[test]
fn waiters_of_an_acknowledged_call_hear_whether_it_has_started() {
    let mut world = RecordsWorld::new();
    let attempt = world.attempt("p", 1);
    assert_eq!(
        world.begin_with(0, attempt, Ok(true)).0,
        Decision::Start(())
    );
    assert_eq!(
        world.begin_with(1, attempt, Ok(false)).0,
        Decision::Start(())
    );
    for number in [0, 1, 1] {
        assert_eq!(world.begin(number), Decision::Joined);
    }
    let expected = AckedWaiters {
        started: vec![7],
        never: vec![7, 7],
        queued: vec![1],
    };
    assert_eq!(world.acknowledge_below(2), expected);
    assert_eq!(
        world.records.check_start(1, world.now),
        StartCheck::Cancelled
    );
}

/// Kind: what a caller has said holds until the server ends. Instance: ranges above a number that was still open, which
/// did not reach the store. A late copy of a call that was refused, and that its client had given up, ran after a restart, or
/// at another server.
#[test]
fn ranges_above_an_open_number_hold_after_the_server() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    world.run(1);
    world.run(2);
    world.acknowledge(1, 3);
    world.run(5);
    world.acknowledge(5, 6);
    world.run(7);
    let all = world.records.all_acknowledged();
    assert_eq!((all.below, &*all.open), (6, &[0, 3, 4][..]));
    let mut after = RecordsWorld::new();
    after.records.restore(&all);
    for number in [1, 2, 5] {
        assert_eq!(after.begin(number), Decision::Acknowledged, "{number}");
    }
    for number in [0, 3, 4, 6, 7] {
        assert_eq!(after.begin(number), Decision::Start(()), "{number}");
    }
    assert_eq!(after.records.open(), 5);
    world.acknowledge_below(6);
    assert_eq!(
        world.records.all_acknowledged(),
        world.records.acknowledged()
    );
}
