//! Leases, room for sessions, and what is unknown for ever.

use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng;

use super::registry::{GRACE, has_passed};
use super::*;
use crate::{
    clock,
    table::call::{Admitted, Attempt, Decision, Fingerprint},
};

const PARENT: u32 = 4_711;
const LEASE: Duration = Duration::from_secs(60);
const LIMITS: SessionLimits = SessionLimits {
    lease: LEASE,
    window: 4,
    max_sessions: 3,
    max_bytes: 1_000,
    max_total_bytes: 10_000,
    max_joined: 2,
    is_shared: false,
};

fn sessions(seed: u64) -> (Sessions<u32>, Instant) {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    (Sessions::new(LIMITS, rng, Some(PARENT)), clock::now())
}

fn open(sessions: &Sessions<u32>, now: Instant) -> Option<Arc<Session<u32>>> {
    let mut gone = Vec::new();
    let session = sessions.open(&Peer::Local, None, now, &mut gone);
    assert!(gone.is_empty(), "no one waits for anything");
    session
}

/// A call of the session was executed and is not acknowledged.
fn run(session: &Session<u32>) {
    start(session, 0);
    session.finish(0, b"done");
}

/// A call of the session runs.
fn start(session: &Session<u32>, number: u64) {
    session.with(|records| {
        let attempt = Attempt {
            fingerprint: Fingerprint::new(1, "p"),
            deadline: None,
            now: clock::now(),
            number: 1,
            is_numbered: true,
            ack: None,
            deferred: None,
        };
        let admit = || {
            Ok::<_, ()>(Admitted {
                ticket: (),
                starts_now: true,
            })
        };
        let mut replay = Vec::new();
        let room = Room {
            limits: &LIMITS,
            is_full: false,
        };
        let begin = records.begin(number, &attempt, room, admit, || 1, &mut replay);
        assert_eq!(begin, Decision::Start(()));
    });
}

#[test]
fn a_session_lives_as_long_as_a_connection_and_then_its_lease() {
    let (sessions, now) = sessions(1);
    let session = open(&sessions, now).unwrap();
    let much_later = now + LEASE * 100;
    let again = sessions.attach(session.id(), None, much_later).unwrap();
    sessions.detach(&session, much_later);
    assert_eq!(sessions.expire(much_later + LEASE * 2, 10).count, 0);
    let gone = much_later + LEASE * 3;
    sessions.detach(&again, gone);
    // A moment before the end it is known, and the lease begins anew.
    let before_end = gone + LEASE - Duration::from_millis(1);
    let third = sessions.attach(session.id(), None, before_end).unwrap();
    sessions.detach(&third, before_end);
    assert!(
        sessions
            .attach(session.id(), None, before_end + LEASE)
            .is_none()
    );
}

/// Its calls have been sent again under another session, since the peer has heard that they can't
/// have been executed. Connections don't agree on the time to the microsecond.
#[test]
fn a_session_that_was_unknown_once_stays_so_at_an_earlier_time() {
    let (sessions, now) = sessions(10);
    let session = open(&sessions, now).unwrap();
    sessions.detach(&session, now);
    let end = now + LEASE;
    assert!(sessions.attach(session.id(), None, end).is_none());
    let just_before = end - Duration::from_micros(1);
    assert!(sessions.attach(session.id(), None, just_before).is_none());
    assert_eq!(sessions.expire(end, 10).count, 1);
}

#[test]
fn the_sweep_forgets_what_has_ended_and_nothing_else() {
    let (sessions, now) = sessions(2);
    let (one, other) = (open(&sessions, now).unwrap(), open(&sessions, now).unwrap());
    run(&one);
    sessions.detach(&one, now);
    sessions.detach(&other, now);
    let half = now + LEASE / 2;
    let other = sessions.attach(other.id(), None, half).unwrap();
    sessions.detach(&other, half);
    sessions.expire(now + LEASE, 10);
    assert_eq!((sessions.len(), sessions.usage().records), (1, 0));
    assert!(sessions.attach(one.id(), None, now + LEASE).is_none());
    sessions.expire(half + LEASE, 10);
    assert_eq!(sessions.len(), 0);
}

#[test]
fn a_session_that_is_attached_to_again_is_not_swept_with_its_old_lease() {
    let (sessions, now) = sessions(3);
    let session = open(&sessions, now).unwrap();
    sessions.detach(&session, now);
    let _attached = sessions
        .attach(session.id(), None, now + LEASE / 2)
        .unwrap();
    sessions.expire(now + LEASE * 10, 10);
    assert_eq!(sessions.len(), 1);
}

#[test]
fn room_is_made_by_what_is_empty_and_then_by_what_was_abandoned_first() {
    let (sessions, now) = sessions(4);
    let [connected, unacknowledged, idle] = [0; 3].map(|_| open(&sessions, now).unwrap());
    assert!(open(&sessions, now).is_none());
    run(&unacknowledged);
    sessions.detach(&unacknowledged, now);
    assert!(open(&sessions, now).is_none());
    sessions.detach(&idle, now);
    // It is about to come back.
    assert!(open(&sessions, now).is_none());
    let now = now + GRACE;
    let third = open(&sessions, now).unwrap();
    assert!(sessions.attach(idle.id(), None, now).is_none());
    assert!(open(&sessions, now).is_some());
    assert!(sessions.attach(unacknowledged.id(), None, now).is_none());
    assert!(open(&sessions, now).is_none());
    assert!(sessions.attach(connected.id(), None, now).is_some());
    assert!(sessions.attach(third.id(), None, now).is_some());
}

#[test]
fn room_is_made_however_many_others_have_come_back_or_left_something_behind() {
    let limits = SessionLimits {
        max_sessions: 201,
        ..LIMITS
    };
    let sessions = Sessions::<u32>::new(limits, ChaCha8Rng::seed_from_u64(8), None);
    let now = clock::now();
    for _ in 0..101 {
        let left = open(&sessions, now).unwrap();
        run(&left);
        sessions.detach(&left, now);
    }
    let opened: Vec<_> = (0..100).map(|_| open(&sessions, now).unwrap()).collect();
    for session in &opened {
        sessions.detach(session, now);
        sessions.attach(session.id(), None, now).unwrap();
    }
    assert!(open(&sessions, now).is_none());
    sessions.detach(&opened[0], now);
    assert!(open(&sessions, now + GRACE).is_some());
    // One whose lease has ended makes room, whatever it holds.
    assert!(open(&sessions, now + LEASE).is_some());
}

/// It was empty when it was looked at, just before its last connection went, and is not any more.
#[test]
fn a_session_that_holds_an_outcome_by_now_goes_after_those_that_hold_none() {
    let (sessions, now) = sessions(13);
    let all = [0; 3].map(|_| open(&sessions, now).unwrap());
    for session in &all {
        sessions.detach(session, now);
    }
    run(&all[0]);
    run(&all[2]);
    assert!(open(&sessions, now + GRACE).is_some());
    let is_known = all.map(|one| sessions.attach(one.id(), None, now + GRACE).is_some());
    assert_eq!(is_known, [true, false, true]);
}

/// A question about a call may come without an attachment to its session, and must be answered.
#[test]
fn a_question_about_a_call_is_answered_when_its_session_makes_room() {
    let (sessions, now) = sessions(11);
    let [asked, other, third] = [0; 3].map(|_| open(&sessions, now).unwrap());
    start(&asked, 0);
    let (asker, mut gone) = (9, Vec::new());
    asked.resolve(0, sessions.room(&asked), || asker, &mut Vec::new());
    for session in [&other, &third, &asked] {
        sessions.detach(session, now);
    }
    // The two that hold nothing may go at once; it is the one whose call runs that is awaited.
    for _ in 0..3 {
        let opened = sessions.open(&Peer::Local, None, now + LEASE, &mut gone);
        assert!(opened.is_some());
    }
    assert_eq!(gone, [asker]);
    assert_eq!(asked.finish(0, b"too late"), Vec::<u32>::new());
}

#[test]
fn a_session_that_comes_and_goes_is_forgotten_when_its_last_lease_ends() {
    let (sessions, now) = sessions(9);
    let session = open(&sessions, now).unwrap();
    let last = (0..10).fold(now, |time, _| {
        sessions.detach(&session, time);
        sessions.attach(session.id(), None, time).unwrap();
        time + LEASE / 3
    });
    sessions.detach(&session, last);
    let just_before = last + LEASE - Duration::from_millis(1);
    assert_eq!(sessions.expire(just_before, 10).count, 0);
    assert_eq!(sessions.expire(last + LEASE, 10).count, 1);
}

#[test]
fn another_table_knows_no_session_of_this_one() {
    let ((one, now), (other, _)) = (sessions(5), sessions(6));
    assert_ne!(one.table(), other.table());
    let session = open(&one, now).unwrap();
    assert!(other.attach(session.id(), None, now).is_none());
    assert!(other.attach(SessionId::from_bits(7), None, now).is_none());
}

/// Whose session it is counts for as long as there is one, and nothing is left of it then.
#[test]
fn a_session_is_unknown_to_all_but_its_owner() {
    let (sessions, now) = sessions(5);
    let [one, other] = ["one", "other"].map(|name| Principal::new(name).unwrap());
    let open = |owner: Option<&Principal>| {
        let opened = sessions.open(&Peer::Local, owner, now, &mut Vec::new());
        opened.unwrap()
    };
    let (of_one, of_none) = (open(Some(&one)), open(None));
    for (session, owner) in [(&of_one, Some(&one)), (&of_none, None)] {
        for asking in [None, Some(&one), Some(&other)] {
            let attached = sessions.attach(session.id(), asking, now);
            assert_eq!(attached.is_some(), asking == owner, "{asking:?}");
            if let Some(session) = attached {
                sessions.detach(&session, now);
            }
        }
    }
    sessions.detach(&of_one, now);
    sessions.detach(&of_none, now);
    assert_eq!(sessions.expire(now + LEASE, 10).count, 2);
    assert!(sessions.attach(of_one.id(), Some(&one), now).is_none());
    assert!(lock(&sessions.registry).is_disowned());
}

/// The copy knows no session of before, names itself anew, and opens none that the other one does.
#[test]
fn a_forked_table_is_another_table() {
    let ((parent, now), (child, _)) = (sessions(5), sessions(5));
    assert_eq!(parent.table(), child.table());
    let before = open(&parent, now).unwrap();
    assert_eq!(open(&child, now).unwrap().id(), before.id());
    assert!(child.is_of(PARENT) && !child.is_of(PARENT + 1));
    for (sessions, process) in [(&parent, PARENT), (&child, PARENT + 1)] {
        sessions.renew(&Origin::new(process, 0, [0; 32]));
    }
    assert!(parent.attach(before.id(), None, now).is_some());
    assert!(child.attach(before.id(), None, now).is_none());
    assert_eq!(child.len(), 0);
    assert_ne!(parent.table(), child.table());
    let (of_parent, of_child) = (open(&parent, now).unwrap(), open(&child, now).unwrap());
    assert_ne!(of_parent.id(), of_child.id());
    assert!(child.is_of(PARENT + 1));
}

/// A restored machine: the process is the same, and so may be what the system draws.
#[test]
fn a_restored_table_draws_other_ids() {
    let ((one, now), (other, _)) = (sessions(5), sessions(5));
    one.renew(&Origin::new(PARENT, 1, [0; 32]));
    other.renew(&Origin::new(PARENT, 2, [0; 32]));
    assert_ne!(
        open(&one, now).unwrap().id(),
        open(&other, now).unwrap().id()
    );
}

#[test]
fn the_totals_are_those_of_all_sessions() {
    let (sessions, now) = sessions(7);
    let (one, other) = (open(&sessions, now).unwrap(), open(&sessions, now).unwrap());
    run(&one);
    run(&other);
    assert_eq!(sessions.usage().records, 2);
    let result = one.acknowledge(1, &[], LIMITS.window);
    assert!(result.is_accepted);
    assert_eq!(result.waiters, None);
    assert_eq!(sessions.usage().records, 1);
}

/// A session in the plainest terms. What is forgotten stays, to be unknown.
#[derive(Debug)]
struct SessionModel {
    session: Arc<Session<u32>>,
    connections: usize,
    idle_since: Instant,
    /// Calls that were executed, and of how many of them the outcome is not acknowledged.
    executed: u64,
    outcomes: u64,
    /// A peer has heard that it is unknown.
    is_expired: bool,
    is_forgotten: bool,
}

#[derive(Clone, Copy, Debug)]
enum SessionsStep {
    Open,
    /// By a connection whose time is so many seconds ago.
    Attach(usize, u64),
    Detach(usize),
    Run(usize),
    Acknowledge(usize),
    Advance(u64),
    Expire(usize),
}

fn steps() -> impl Strategy<Value = Vec<SessionsStep>> {
    let one = || 0usize..4;
    let step = prop_oneof![
        3 => Just(SessionsStep::Open),
        6 => (one(), 0u64..2).prop_map(|(at, ago)| SessionsStep::Attach(at, 10 * ago)),
        5 => one().prop_map(SessionsStep::Detach),
        1 => one().prop_map(SessionsStep::Run),
        1 => one().prop_map(SessionsStep::Acknowledge),
        // In steps so large that ends are met.
        3 => (0u64..5).prop_map(|n| SessionsStep::Advance(10 * n)),
        1 => (0usize..3).prop_map(SessionsStep::Expire),
    ];
    prop::collection::vec(step, 0..80)
}

/// The registry, and a list of all sessions that there ever were.
struct SessionsWorld {
    sessions: Sessions<u32>,
    all: Vec<SessionModel>,
    now: Instant,
}

impl SessionsWorld {
    fn new() -> Self {
        let (sessions, now) = sessions(12);
        Self {
            sessions,
            all: Vec::new(),
            now: now + LEASE,
        }
    }

    fn known(&self) -> usize {
        self.all.iter().filter(|one| !one.is_forgotten).count()
    }

    /// Forgets one that has been without a connection for `wait`: the one that has been for longest.
    fn forget(&mut self, wait: Duration, may_hold_outcomes: bool) -> bool {
        let now = self.now;
        let may_go = |one: &&mut SessionModel| {
            let is_idle = one.connections == 0 && has_passed(one.idle_since, wait, now);
            !one.is_forgotten && is_idle && (may_hold_outcomes || one.outcomes == 0)
        };
        let longest = |one: &&mut SessionModel| (one.idle_since, one.session.id());
        let gone = self.all.iter_mut().filter(may_go).min_by_key(longest);
        gone.is_some_and(|one| !std::mem::replace(&mut one.is_forgotten, true))
    }

    /// More than three quarters of all are abandoned.
    fn is_crowd(&self) -> bool {
        let all = self.all.iter().filter(|one| !one.is_forgotten);
        all.filter(|one| one.connections == 0).count() * 4 > LIMITS.max_sessions * 3
    }

    fn open(&mut self) {
        let is_full = self.known() >= LIMITS.max_sessions;
        let has_room = !is_full
            || self.forget(LEASE, true)
            || self.forget(GRACE, false)
            || self.forget(
                if self.is_crowd() {
                    Duration::ZERO
                } else {
                    GRACE
                },
                true,
            );
        let opened = open(&self.sessions, self.now);
        assert_eq!(opened.is_some(), has_room);
        if let Some(session) = opened {
            let mut all = self.all.iter();
            assert!(all.all(|one| one.session.id() != session.id()));
            self.all.push(SessionModel {
                session,
                connections: 1,
                idle_since: self.now,
                executed: 0,
                outcomes: 0,
                is_expired: false,
                is_forgotten: false,
            });
        }
    }

    fn happen(&mut self, step: SessionsStep) {
        match step {
            SessionsStep::Open => self.open(),
            SessionsStep::Advance(seconds) => self.now += Duration::from_secs(seconds),
            SessionsStep::Expire(at_most) => {
                let gone = (0..at_most).filter(|_| self.forget(LEASE, true)).count();
                let expired = self.sessions.expire(self.now, at_most);
                assert_eq!((expired.count, expired.waiters), (gone, vec![]));
            }
            SessionsStep::Attach(at, _)
            | SessionsStep::Detach(at)
            | SessionsStep::Run(at)
            | SessionsStep::Acknowledge(at) => {
                if let Some(one) = self.all.iter_mut().nth_back(at) {
                    one.happen(step, &self.sessions, self.now);
                }
            }
        }
        let known = self.all.iter().filter(|one| !one.is_forgotten);
        let outcomes: u64 = known.map(|one| one.outcomes).sum();
        assert_eq!(self.sessions.len(), self.known());
        assert_eq!(self.sessions.usage().records as u64, outcomes);
    }
}

impl SessionModel {
    fn happen(&mut self, step: SessionsStep, sessions: &Sessions<u32>, now: Instant) {
        match step {
            SessionsStep::Attach(_, ago) => {
                let now = now - Duration::from_secs(ago);
                let is_idle = self.connections == 0;
                self.is_expired |= is_idle && has_passed(self.idle_since, LEASE, now);
                let is_known = !self.is_expired && !self.is_forgotten;
                let found = sessions.attach(self.session.id(), None, now);
                assert_eq!(found.is_some(), is_known, "{self:?}");
                self.connections += usize::from(is_known);
            }
            // All else is done by those who are attached.
            _ if self.connections == 0 => {}
            SessionsStep::Detach(_) => {
                sessions.detach(&self.session, now);
                self.connections -= 1;
                self.idle_since = now;
            }
            SessionsStep::Run(_) if self.outcomes < 3 => {
                start(&self.session, self.executed);
                self.session.finish(self.executed, b"done");
                self.executed += 1;
                self.outcomes += 1;
            }
            _ => {
                self.session.acknowledge(self.executed, &[], LIMITS.window);
                self.outcomes = 0;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_registry_behaves_like_a_list_of_leases(steps in steps()) {
        let mut world = SessionsWorld::new();
        for step in steps {
            world.happen(step);
        }
        for at in 0..world.all.len() {
            while world.all[at].connections > 0 {
                world.happen(SessionsStep::Detach(world.all.len() - 1 - at));
            }
        }
        world.happen(SessionsStep::Advance(60));
        world.happen(SessionsStep::Expire(100));
        prop_assert_eq!(world.sessions.len(), 0);
        prop_assert_eq!(world.sessions.taken.load(Relaxed), 0);
    }
}
