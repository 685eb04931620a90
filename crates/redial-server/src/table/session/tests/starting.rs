//! Calls that are asked about, cancelled or late before they start.

use super::*;

#[test]
fn what_never_arrived_is_fenced_by_a_question() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.resolve(1).0, Resolved::Never);
    assert_eq!(world.resolve(1).0, Resolved::Never);
    assert_eq!(world.begin(1), Decision::Fenced);
    assert_eq!(world.cancel(1), Cancelled::Never(None));
    // The one before it is not.
    assert_eq!(world.begin(0), Decision::Start(()));
    world.acknowledge_below(2);
    assert_eq!(world.begin(1), Decision::Acknowledged);
}

#[test]
fn a_question_about_a_running_call_waits_for_it() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    assert_eq!(world.resolve(0).0, Resolved::Joined);
    assert_eq!(world.records.finish(0, b"done"), [9]);
    assert_eq!(world.resolve(0), (Resolved::Done, b"done".to_vec()));
}

/// Its own caller has given up, and a question is no reason to run it.
#[test]
fn a_call_that_was_asked_about_and_has_no_effect_is_fenced() {
    let mut world = RecordsWorld::new();
    let hurried = Attempt {
        deadline: Some(world.now),
        ..world.attempt("p", 1)
    };
    assert_eq!(
        world.begin_with(0, hurried, Ok(false)).0,
        Decision::Start(())
    );
    assert_eq!(world.resolve(0).0, Resolved::Joined);
    let late = StartCheck::Expired(vec![9]);
    assert_eq!(world.records.check_start(0, world.now), late);
    let second = world.attempt("p", 2);
    assert_eq!(world.begin_with(0, second, Ok(true)).0, Decision::Fenced);
}

#[test]
fn a_call_is_cancelled_only_before_it_starts() {
    let mut world = RecordsWorld::new();
    let attempt = world.attempt("p", 1);
    assert_eq!(
        world.begin_with(0, attempt, Ok(false)).0,
        Decision::Start(())
    );
    assert_eq!(world.begin(0), Decision::Joined);
    assert_eq!(world.cancel(0), Cancelled::Never(Some(vec![7])));
    assert_eq!(
        world.records.check_start(0, world.now),
        StartCheck::Cancelled
    );
    assert_eq!(world.begin(0), Decision::Fenced);

    assert_eq!(
        world.begin_with(1, attempt, Ok(false)).0,
        Decision::Start(())
    );
    assert_eq!(world.records.check_start(1, world.now), StartCheck::Start);
    assert_eq!(world.cancel(1), Cancelled::Running);
    // One that starts at once can never be cancelled.
    assert_eq!(world.begin(2), Decision::Start(()));
    assert_eq!(world.cancel(2), Cancelled::Running);
    world.records.finish(2, b"done");
    assert_eq!(world.cancel(2), Cancelled::Done);
}

#[test]
fn a_call_starts_as_long_as_any_of_its_attempts_has_time() {
    let mut world = RecordsWorld::new();
    let until = |deadline, number| Attempt {
        deadline: Some(deadline),
        ..RecordsWorld::new().attempt("p", number)
    };
    let (now, later) = (world.now, world.now + Duration::from_secs(1));
    assert_eq!(
        world.begin_with(0, until(now, 1), Ok(false)).0,
        Decision::Start(())
    );
    assert_eq!(
        world.begin_with(0, until(later, 2), Ok(false)).0,
        Decision::Joined
    );
    assert_eq!(world.records.check_start(0, now), StartCheck::Start);

    assert_eq!(
        world.begin_with(1, until(now, 1), Ok(false)).0,
        Decision::Start(())
    );
    assert_eq!(
        world.begin_with(1, until(now, 2), Ok(false)).0,
        Decision::Joined
    );
    assert_eq!(
        world.records.check_start(1, now),
        StartCheck::Expired(vec![7])
    );
    // It was released, so that both attempts are refused for good.
    assert_eq!(
        world.begin_with(1, until(later, 2), Ok(true)).0,
        Decision::RefusedBefore { up_to: 2 }
    );
    assert_eq!(
        world.begin_with(1, until(later, 3), Ok(true)).0,
        Decision::Start(())
    );
}
