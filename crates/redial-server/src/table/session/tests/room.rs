//! The window, the memory, and that what was refused for want of them stays refused.

use super::*;

#[test]
fn a_call_beyond_the_window_is_refused_and_nothing_is_allocated_for_it() {
    let mut world = RecordsWorld::new();
    let last = (SLACK * WINDOW) as u64 - 1;
    assert_eq!(world.begin(last), Decision::Start(()));
    assert_eq!(world.begin(last + 1), Decision::NoSlot);
    for number in [1 << 40, SessionCall::MAX_NUMBER] {
        assert_eq!(world.begin(number), Decision::FarBeyondWindow);
        assert_eq!(world.resolve(number).0, Resolved::NoSlot);
        assert_eq!(world.cancel(number), Cancelled::NoSlot);
        assert!(!world.acknowledge(number, number + 1));
    }
    assert!(world.records.ring.len() <= SLACK * WINDOW);
    // Those in between were never seen, and may still come; but what was refused stays refused.
    let second = world.attempt("p", 2);
    assert_eq!(world.begin_with(0, second, Ok(true)).0, Decision::Start(()));
    world.acknowledge_below(1);
    let refused = Decision::RefusedBefore { up_to: 1 };
    assert_eq!(world.begin(last + 1), refused);
    assert_eq!(
        world.begin_with(last + 1, second, Ok(true)).0,
        Decision::Start(())
    );
}

#[test]
fn a_full_session_refuses_new_calls_and_replays_old_ones() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    assert_eq!(world.begin(1), Decision::Start(()));
    world.records.release(1);
    world.records.finish(0, &vec![b'x'; LIMITS.max_bytes]);
    let second = world.attempt("p", 2);
    let full = world.begin_with(1, second, Ok(true)).0;
    assert!(matches!(full, Decision::Full { .. }), "{full:?}");
    // For this one there was not even a slot.
    assert_eq!(world.begin(2), Decision::NoSlot);
    assert_eq!(world.begin(0), Decision::Replayed);
    world.acknowledge_below(1);
    let third = world.attempt("p", 3);
    for number in [1, 2] {
        assert!(matches!(
            world.begin(number),
            Decision::RefusedBefore { .. }
        ));
        assert_eq!(
            world.begin_with(number, third, Ok(true)).0,
            Decision::Start(())
        );
    }
}

/// There is a slot, and no room for an outcome. The caller may know that nothing was executed, and a
/// copy of the request may still be on its way.
#[test]
fn a_copy_of_an_attempt_for_which_there_was_no_memory_never_runs() {
    let mut world = RecordsWorld::new();
    world.run(1);
    let admit = || -> Result<Admitted<()>, &str> { panic!("there is no room for it") };
    let second = world.attempt("p", 2);
    let (records, replay) = (&mut world.records, &mut Vec::new());
    let begin = records.begin(0, &second, FULL, admit, || 7, replay);
    assert!(matches!(begin, Decision::Full { .. }), "{begin:?}");
    world.acknowledge(1, 2);
    let refused = Decision::RefusedBefore { up_to: 2 };
    for number in [1, 2, 1] {
        let copy = world.attempt("p", number);
        assert_eq!(world.begin_with(0, copy, Ok(true)).0, refused, "{number}");
    }
    let third = world.attempt("p", 3);
    assert_eq!(world.begin_with(0, third, Ok(true)).0, Decision::Start(()));
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
        let mut world = RecordsWorld::new();
        let admit = || -> Result<Admitted<()>, &str> { panic!("there is no slot for it") };
        let room = Room { is_full, ..ROOM };
        let second = world.attempt("p", 2);
        let (records, replay) = (&mut world.records, &mut Vec::new());
        let begin = records.begin(number, &second, room, admit, || 7, replay);
        assert_eq!(begin, Decision::NoSlot, "{number} {by}");
        world.acknowledge_below(number.saturating_sub(1));
        match by {
            "another" => assert_eq!(world.begin(number + 2), Decision::Start(())),
            "an acknowledgement" => assert!(world.acknowledge(number + 2, number + 3)),
            _ => {}
        }
        for attempt in [1, 2, 1] {
            let copy = world.attempt("p", attempt);
            let begin = world.begin_with(number, copy, Ok(true)).0;
            let refused = Decision::RefusedBefore { up_to: 2 };
            assert_eq!(begin, refused, "attempt {attempt} of {number} {by}");
        }
        let third = world.attempt("p", 3);
        let begin = world.begin_with(number, third, Ok(true)).0;
        assert_eq!(begin, Decision::Start(()), "{number} {by}");
    }
}

#[test]
fn slots_are_counted_too() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.cancel(3), Cancelled::Never(None));
    assert_eq!((world.records.open(), world.records.live()), (4, 0));
    assert!(world.records.bytes() >= 4 * 32);
    assert_eq!(world.records.cancel(4, FULL), Cancelled::NoSlot);
    assert_eq!(world.records.cancel(3, FULL), Cancelled::Never(None));
}

#[test]
fn a_waiter_whose_connection_is_gone_makes_room() {
    let mut world = RecordsWorld::new();
    assert_eq!(world.begin(0), Decision::Start(()));
    let attempt = world.attempt("p", 1);
    for _ in 0..LIMITS.max_joined {
        let mut nothing = Vec::new();
        let admit = || Err::<Admitted<()>, _>(());
        let joined = world
            .records
            .begin(0, &attempt, ROOM, admit, || 0, &mut nothing);
        assert_eq!(joined, Decision::Joined);
    }
    assert_eq!(world.begin(0), Decision::Joined);
    assert_eq!(world.records.finish(0, b"done"), [7]);
}
