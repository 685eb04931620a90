//! What the model server knows of calls: maps, and the rules in the order in which GUARANTEES.md
//! states them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use redial_protocol::{ErrorCode, ErrorObject, Executed, SessionId, reply};
use tokio::time::Instant;

use super::Waiter;
use crate::bug::Bug;

/// How many finished calls of a session a server keeps that makes room.
const EVICTS_ABOVE: usize = 3;

/// How long somebody is to wait who was refused for want of room.
const RETRY_AFTER_MS: u64 = 5;

/// The records of one life of the server.
pub(super) struct Table {
    pub(super) bug: Option<Bug>,
    pub(super) lease: Duration,
    pub(super) max_running: usize,
    running: usize,
    sessions: BTreeMap<SessionId, Session>,
    /// Calls with plain ids, by the id as it was written.
    plain: BTreeMap<String, Record>,
}

#[derive(Default)]
struct Session {
    records: BTreeMap<u64, Record>,
    /// Every call below is over, and so are these.
    ack: u64,
    above: BTreeSet<u64>,
    connections: usize,
    idle_since: Option<Instant>,
}

#[derive(Default)]
struct Record {
    asks_for: String,
    state: State,
}

#[derive(Default)]
enum State {
    /// Nothing is known of it.
    #[default]
    Empty,
    Running {
        waiters: Vec<Waiter>,
        attempt: u32,
    },
    Finished(Vec<u8>),
    /// It had no effect, and no attempt up to this one may run.
    Refused {
        attempt: u32,
        outcome: Vec<u8>,
    },
    Never,
}

/// The name of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Numbered(SessionId, u64),
    Plain(String),
}

/// What to do about an attempt.
pub(super) enum Arrival {
    Execute,
    Joined,
    Answer(Vec<u8>),
}

/// What an asker is told.
pub(super) enum Asked {
    Joined,
    Done(Vec<u8>),
    Never,
    Refused(Vec<u8>),
}

impl Table {
    pub(super) fn new(bug: Option<Bug>, lease: Duration, max_running: usize) -> Self {
        Self {
            bug,
            lease,
            max_running,
            running: 0,
            sessions: BTreeMap::new(),
            plain: BTreeMap::new(),
        }
    }

    pub(super) fn open(&mut self, id: SessionId) {
        let session = Session {
            connections: 1,
            ..Session::default()
        };
        self.sessions.insert(id, session);
    }

    /// Attaches a connection. False if the session is not known.
    pub(super) fn attach(&mut self, id: SessionId, now: Instant) -> bool {
        let resurrects = self.bug == Some(Bug::Resurrection);
        match self.session(id, now) {
            Some(session) => {
                session.connections += 1;
                session.idle_since = None;
                true
            }
            None if resurrects => {
                self.open(id);
                true
            }
            None => false,
        }
    }

    pub(super) fn detach(&mut self, id: SessionId, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.connections -= 1;
            session.idle_since = (session.connections == 0).then_some(now);
        }
    }

    /// A session whose lease has not ended.
    fn session(&mut self, id: SessionId, now: Instant) -> Option<&mut Session> {
        let lease = self.lease;
        let is_over = |session: &Session| session.idle_since.is_some_and(|at| at + lease <= now);
        if self.sessions.get(&id).is_some_and(is_over) {
            self.sessions.remove(&id);
        }
        self.sessions.get_mut(&id)
    }

    pub(super) fn acknowledge(
        &mut self,
        id: SessionId,
        ack: u64,
        above: &[(u64, u64)],
        now: Instant,
    ) {
        let forgets_that_too = self.bug == Some(Bug::StaleExecuted);
        let Some(session) = self.session(id, now) else {
            return;
        };
        let is_in = |number: u64| {
            above
                .iter()
                .any(|(from, to)| (*from..*to).contains(&number))
        };
        session.records.retain(|number, record| {
            let is_kept = *number >= ack && !is_in(*number);
            if !is_kept && let State::Running { waiters, .. } = &record.state {
                waiters.iter().for_each(|waiter| waiter.tell(&stale()));
            }
            is_kept
        });
        if !forgets_that_too {
            session.ack = session.ack.max(ack);
            let above = above.iter().flat_map(|(from, to)| *from..*to);
            session.above.extend(above);
        }
    }

    /// An attempt arrives.
    pub(super) fn arrive(
        &mut self,
        key: &Key,
        asks_for: &str,
        attempt: u32,
        waiter: impl FnOnce() -> Waiter,
        now: Instant,
    ) -> Arrival {
        let bug = self.bug;
        let is_full = self.running >= self.max_running;
        if bug == Some(Bug::NoDedup) {
            return Arrival::Execute;
        }
        let record = match self.record(key, now) {
            Ok(record) => record,
            Err(refused) => return Arrival::Answer(refused),
        };
        if record.is_other(asks_for) && bug != Some(Bug::NoFingerprint) {
            return Arrival::Answer(raised(ErrorCode::ID_REUSED));
        }
        if let Some(known) = record.known(attempt, waiter, bug) {
            return known;
        }
        asks_for.clone_into(&mut record.asks_for);
        if is_full {
            let outcome = overloaded();
            record.state = State::Refused {
                attempt,
                outcome: outcome.clone(),
            };
            return Arrival::Answer(outcome);
        }
        if bug != Some(Bug::RecordAfterReply) {
            record.state = State::running(attempt);
        }
        self.running += 1;
        Arrival::Execute
    }

    /// The call has ended. Gives those who wait for it.
    pub(super) fn finish(
        &mut self,
        key: &Key,
        outcome: &[u8],
        has_effect: bool,
        now: Instant,
    ) -> Vec<Waiter> {
        self.running = self.running.saturating_sub(1);
        let (bug, is_plain) = (self.bug, matches!(key, Key::Plain(_)));
        let Ok(record) = self.record(key, now) else {
            return Vec::new();
        };
        let (waiters, attempt) = match std::mem::take(&mut record.state) {
            State::Running { waiters, attempt } => (waiters, attempt),
            _ => (Vec::new(), 1),
        };
        let was_asked = waiters.iter().any(|waiter| waiter.asks);
        record.state = match (has_effect, was_asked) {
            _ if bug == Some(Bug::NoDedup) => State::Empty,
            (true, _) => State::Finished(outcome.to_vec()),
            // Those who asked are about to be told so.
            (false, true) if !is_plain => State::Never,
            (false, _) if is_plain => State::Empty,
            (false, _) => State::Refused {
                attempt,
                outcome: outcome.to_vec(),
            },
        };
        if let (Some(Bug::Eviction), Key::Numbered(id, _)) = (bug, key) {
            self.evict(*id);
        }
        waiters
    }

    fn evict(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let is_finished = |record: &Record| matches!(record.state, State::Finished(_));
        let finished = session
            .records
            .iter()
            .filter(|(_, record)| is_finished(record));
        let finished: Vec<u64> = finished.map(|(number, _)| *number).collect();
        let excess = finished.len().saturating_sub(EVICTS_ABOVE);
        for number in &finished[..excess] {
            session.records.remove(number);
        }
    }

    /// Somebody asks for the outcome.
    pub(super) fn resolve(
        &mut self,
        key: &Key,
        waiter: impl FnOnce() -> Waiter,
        now: Instant,
    ) -> Asked {
        let bug = self.bug;
        let record = match self.record(key, now) {
            Ok(record) => record,
            Err(refused) => return Asked::Refused(refused),
        };
        match &mut record.state {
            State::Running { waiters, .. } => {
                waiters.push(waiter());
                Asked::Joined
            }
            State::Finished(outcome) => Asked::Done(outcome.clone()),
            State::Never => Asked::Never,
            State::Empty | State::Refused { .. } if matches!(key, Key::Plain(_)) => {
                Asked::Refused(raised(ErrorCode::OUTCOME_UNKNOWN))
            }
            State::Empty | State::Refused { .. } => {
                if bug != Some(Bug::NeverNotFenced) {
                    record.state = State::Never;
                }
                Asked::Never
            }
        }
    }

    /// The caller takes a call back, unless it has begun.
    pub(super) fn cancel(&mut self, key: &Key, now: Instant) {
        if let Ok(record) = self.record(key, now)
            && matches!(record.state, State::Empty | State::Refused { .. })
        {
            record.state = State::Never;
        }
    }

    /// The place of a call's record, or the answer if there is none.
    fn record(&mut self, key: &Key, now: Instant) -> Result<&mut Record, Vec<u8>> {
        let (id, number) = match key {
            Key::Plain(id) => return Ok(self.plain.entry(id.clone()).or_default()),
            Key::Numbered(id, number) => (*id, *number),
        };
        let session = self.session(id, now);
        let session = session.ok_or_else(|| raised(ErrorCode::OUTCOME_UNKNOWN))?;
        if number < session.ack || session.above.contains(&number) {
            return Err(stale());
        }
        Ok(session.records.entry(number).or_default())
    }
}

impl State {
    fn running(attempt: u32) -> Self {
        Self::Running {
            waiters: Vec::new(),
            attempt,
        }
    }
}

impl Record {
    fn is_other(&self, asks_for: &str) -> bool {
        let has_run = matches!(self.state, State::Running { .. } | State::Finished(_));
        has_run && self.asks_for != asks_for
    }

    /// What to do about an attempt of a call that something is known of.
    fn known(
        &mut self,
        attempt: u32,
        waiter: impl FnOnce() -> Waiter,
        bug: Option<Bug>,
    ) -> Option<Arrival> {
        match &mut self.state {
            State::Running { .. } if bug == Some(Bug::NoJoin) => Some(Arrival::Execute),
            State::Running {
                waiters,
                attempt: highest,
            } => {
                *highest = attempt.max(*highest);
                waiters.push(waiter());
                Some(Arrival::Joined)
            }
            State::Finished(outcome) => Some(Arrival::Answer(outcome.clone())),
            State::Refused {
                attempt: highest,
                outcome,
            } if attempt <= *highest && bug != Some(Bug::RefusalForgotten) => {
                Some(Arrival::Answer(outcome.clone()))
            }
            State::Never => Some(Arrival::Answer(fenced())),
            State::Refused { .. } | State::Empty => None,
        }
    }
}

pub(super) fn encoded(error: &ErrorObject) -> Vec<u8> {
    let mut outcome = Vec::new();
    reply::encode_error(&mut outcome, error);
    outcome
}

pub(super) fn raised(code: ErrorCode) -> Vec<u8> {
    encoded(&ErrorObject::raised(code, ""))
}

fn overloaded() -> Vec<u8> {
    let error = ErrorObject::raised(ErrorCode::OVERLOADED, "");
    encoded(&error.with_retry_after_ms(RETRY_AFTER_MS))
}

fn stale() -> Vec<u8> {
    let error = ErrorObject::raised(ErrorCode::STALE, "");
    encoded(&error.with_executed(Executed::Unknown))
}

fn fenced() -> Vec<u8> {
    let error = ErrorObject::raised(ErrorCode::STALE, "it never will be executed");
    encoded(&error.with_executed(Executed::No))
}
