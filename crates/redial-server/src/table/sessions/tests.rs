//! Leases, room for sessions, and what is unknown for ever.

use rand::SeedableRng;

use super::*;
use crate::{
    clock,
    table::{Admitted, Attempt, Begin, Fingerprint},
};

const LEASE: Duration = Duration::from_secs(60);
const LIMITS: SessionLimits = SessionLimits {
    lease: LEASE,
    window: 4,
    max_sessions: 3,
    max_bytes: 1_000,
    max_total_bytes: 10_000,
    max_joined: 2,
};

fn sessions(seed: u64) -> (Sessions<u32>, Instant) {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    (Sessions::new(LIMITS, rng), clock::now())
}

/// A call of the session was executed and is not acknowledged.
fn run(session: &Session<u32>) {
    session.with(|records| {
        let attempt = Attempt {
            fingerprint: Fingerprint::new(1, "p"),
            deadline: None,
            now: clock::now(),
            number: 1,
            ack: None,
        };
        let admit = || {
            Ok::<_, ()>(Admitted {
                ticket: (),
                at_once: true,
            })
        };
        let mut replay = Vec::new();
        let begin = records.begin(0, attempt, (&LIMITS, false), admit, || 1, &mut replay);
        assert_eq!(begin, Begin::Start(()));
        records.finish(0, b"done");
    });
}

#[test]
fn a_session_lives_as_long_as_a_connection_and_then_its_lease() {
    let (sessions, now) = sessions(1);
    let session = sessions.open(now).unwrap();
    let much_later = now + LEASE * 100;
    let again = sessions.attach(session.id(), much_later).unwrap();
    sessions.detach(&session, much_later);
    assert_eq!(sessions.expire(much_later + LEASE * 2, 10), (0, vec![]));
    let gone = much_later + LEASE * 3;
    sessions.detach(&again, gone);
    // A moment before the end it is known, and the lease begins anew.
    let before_end = gone + LEASE - Duration::from_millis(1);
    let third = sessions.attach(session.id(), before_end).unwrap();
    sessions.detach(&third, before_end);
    assert!(sessions.attach(session.id(), before_end + LEASE).is_none());
}

/// Its calls have been sent again under another session, as whoever asked was told that they can't
/// have been executed. Connections don't agree on the time to the microsecond.
#[test]
fn a_session_that_was_unknown_once_stays_so_at_an_earlier_time() {
    let (sessions, now) = sessions(10);
    let session = sessions.open(now).unwrap();
    sessions.detach(&session, now);
    let end = now + LEASE;
    assert!(sessions.attach(session.id(), end).is_none());
    let just_before = end - Duration::from_micros(1);
    assert!(sessions.attach(session.id(), just_before).is_none());
    assert_eq!(sessions.expire(end, 10).0, 1);
}

#[test]
fn the_sweep_forgets_what_has_ended_and_nothing_else() {
    let (sessions, now) = sessions(2);
    let (one, other) = (sessions.open(now).unwrap(), sessions.open(now).unwrap());
    run(&one);
    sessions.detach(&one, now);
    sessions.detach(&other, now);
    let half = now + LEASE / 2;
    let other = sessions.attach(other.id(), half).unwrap();
    sessions.detach(&other, half);
    sessions.expire(now + LEASE, 10);
    assert_eq!((sessions.len(), sessions.usage().0), (1, 0));
    assert!(sessions.attach(one.id(), now + LEASE).is_none());
    sessions.expire(half + LEASE, 10);
    assert_eq!(sessions.len(), 0);
}

#[test]
fn a_session_that_is_attached_to_again_is_not_swept_with_its_old_lease() {
    let (sessions, now) = sessions(3);
    let session = sessions.open(now).unwrap();
    sessions.detach(&session, now);
    let _attached = sessions.attach(session.id(), now + LEASE / 2).unwrap();
    sessions.expire(now + LEASE * 10, 10);
    assert_eq!(sessions.len(), 1);
}

#[test]
fn room_is_made_only_by_sessions_that_nobody_can_ask_for_anything() {
    let (sessions, now) = sessions(4);
    let [connected, unacknowledged, idle] = [0; 3].map(|_| sessions.open(now).unwrap());
    assert!(sessions.open(now).is_none());
    run(&unacknowledged);
    sessions.detach(&unacknowledged, now);
    assert!(sessions.open(now).is_none());
    sessions.detach(&idle, now);
    // It is about to come back.
    assert!(sessions.open(now).is_none());
    let now = now + GRACE;
    assert!(sessions.open(now).is_some());
    assert!(sessions.open(now).is_none());
    assert!(sessions.attach(idle.id(), now).is_none());
    assert!(sessions.attach(connected.id(), now).is_some());
    assert!(sessions.attach(unacknowledged.id(), now).is_some());
}

#[test]
fn room_is_made_however_many_others_have_come_back_or_left_something_behind() {
    let limits = SessionLimits {
        max_sessions: 201,
        ..LIMITS
    };
    let sessions = Sessions::<u32>::new(limits, ChaCha8Rng::seed_from_u64(8));
    let now = clock::now();
    let opened: Vec<_> = (0..201).map(|_| sessions.open(now).unwrap()).collect();
    for session in &opened[..100] {
        sessions.detach(session, now);
        sessions.attach(session.id(), now).unwrap();
    }
    for session in &opened[100..] {
        run(session);
        sessions.detach(session, now);
    }
    assert!(sessions.open(now).is_none());
    sessions.detach(&opened[0], now);
    assert!(sessions.open(now + GRACE).is_some());
    // One whose lease has ended makes room, whatever it holds.
    assert!(sessions.open(now + LEASE).is_some());
}

#[test]
fn a_session_that_comes_and_goes_is_forgotten_when_its_last_lease_ends() {
    let (sessions, now) = sessions(9);
    let session = sessions.open(now).unwrap();
    let last = (0..10).fold(now, |time, _| {
        sessions.detach(&session, time);
        sessions.attach(session.id(), time).unwrap();
        time + LEASE / 3
    });
    sessions.detach(&session, last);
    let just_before = last + LEASE - Duration::from_millis(1);
    assert_eq!(sessions.expire(just_before, 10).0, 0);
    assert_eq!(sessions.expire(last + LEASE, 10).0, 1);
}

#[test]
fn another_table_knows_no_session_of_this_one() {
    let ((one, now), (other, _)) = (sessions(5), sessions(6));
    assert_ne!(one.table(), other.table());
    let session = one.open(now).unwrap();
    assert!(other.attach(session.id(), now).is_none());
    assert!(other.attach(SessionId::from_bits(7), now).is_none());
}

#[test]
fn the_totals_are_those_of_all_sessions() {
    let (sessions, now) = sessions(7);
    let (one, other) = (sessions.open(now).unwrap(), sessions.open(now).unwrap());
    run(&one);
    run(&other);
    assert_eq!(sessions.usage().0, 2);
    let (is_taken, told) = one.acknowledge(1, &[], &LIMITS);
    assert_eq!((is_taken, told), (true, Acknowledged::default()));
    assert_eq!(sessions.usage().0, 1);
}
