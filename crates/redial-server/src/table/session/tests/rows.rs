//! Every row of the table of `GUARANTEES.md` for the calls of a session.

use super::*;

#[test]
fn absent_starts_once_and_running_joins() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    assert_eq!(world.begin(0), Decision::Joined);
    assert_eq!(world.begin(0), Decision::Joined);
    assert_eq!(world.begin(0), Decision::TooManyJoined);
    assert_eq!(world.records.finish(0, b"done"), [7, 7]);
}

#[test]
fn finished_replays_the_recorded_bytes_for_as_long_as_it_is_not_acknowledged() {
    let mut world = RecordsWorld::new();
    world.run(0);
    world.now += Duration::from_secs(1_000_000);
    for _ in 0..3 {
        let attempt = world.attempt("p", 2);
        let (begin, replay) = world.begin_with(0, attempt, Err("never asked"));
        assert_eq!((begin, &*replay), (Decision::Replayed, &b"done"[..]));
    }
}

#[test]
fn another_fingerprint_is_another_call_and_leaves_the_entry_untouched() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    let other = world.attempt("q", 1);
    assert_eq!(world.begin_with(0, other, Ok(true)).0, Decision::IdReused);
    world.records.finish(0, b"done");
    assert_eq!(world.begin_with(0, other, Ok(true)).0, Decision::IdReused);
    assert_eq!(world.begin(0), Decision::Replayed);
}

#[test]
fn a_refused_attempt_stays_refused_and_the_next_one_does_not() {
    let mut world = RecordsWorld::new();
    let first = world.attempt("p", 1);
    assert_eq!(
        world.begin_with(0, first, Err("busy")).0,
        Decision::Refused("busy")
    );
    let refused = Decision::RefusedBefore { up_to: 1 };
    assert_eq!(world.begin_with(0, first, Ok(true)).0, refused);
    let second = world.attempt("p", 2);
    assert_eq!(world.begin_with(0, second, Ok(true)).0, Decision::Start(()));
    // Its handler says that it had no effect.
    assert_eq!(world.records.release(0), Vec::<u32>::new());
    assert_eq!(
        world.begin_with(0, second, Ok(true)).0,
        Decision::RefusedBefore { up_to: 2 }
    );
    let third = world.attempt("p", 3);
    assert_eq!(world.begin_with(0, third, Ok(true)).0, Decision::Start(()));
}

#[test]
fn a_copy_of_an_attempt_that_was_another_call_does_not_run_in_its_place() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    let other = world.attempt("q", 2);
    assert_eq!(world.begin_with(0, other, Ok(true)).0, Decision::IdReused);
    world.records.release(0);
    let refused = Decision::RefusedBefore { up_to: 2 };
    assert_eq!(world.begin_with(0, other, Ok(true)).0, refused);
}
