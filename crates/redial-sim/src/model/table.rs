//! What the model server knows of calls: maps, and the rules in the order of GUARANTEES.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use redial_protocol::{ErrorCode, ErrorObject, Executed, SessionId, encode_error};
use redial_server::Config;
use tokio::time::Instant;

use super::Waiter;
use crate::bug::Bug;

/// How many finished calls a session keeps under [`Bug::Eviction`].
const EVICTS_ABOVE: usize = 3;

/// How long a refused caller is asked to wait.
const RETRY_AFTER_MS: u64 = 5;

/// The records of one life of the server.
pub(super) struct Table {
    pub(super) bug: Option<Bug>,
    pub(super) lease: Duration,
    /// How long a finished call with a plain id is known.
    ttl: Duration,
    pub(super) max_running: usize,
    running: usize,
    sessions: BTreeMap<SessionId, Session>,
    /// Calls with plain ids, by the id as it was written.
    plain: BTreeMap<String, Record>,
}

#[derive(Default)]
struct Session {
    records: BTreeMap<u64, Record>,
    /// Every call below this number is acknowledged, and so are those in `above`.
    ack: u64,
    above: BTreeSet<u64>,
    connections: usize,
    idle_since: Option<Instant>,
}

#[derive(Default)]
struct Record {
    fingerprint: String,
    state: CallState,
    finished_at: Option<Instant>,
}

#[derive(Default)]
enum CallState {
    /// Nothing is known of the call.
    #[default]
    Empty,
    Running {
        waiters: Vec<Waiter>,
        attempt: u32,
    },
    Finished(Vec<u8>),
    /// The call had no effect, and no attempt up to this one may run.
    Refused {
        attempt: u32,
        outcome: Vec<u8>,
    },
    Never,
}

/// Which call: by session and number, or by a plain id.
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

/// The answer to `rpc.resolve`.
pub(super) enum Resolved {
    Joined,
    Done(Vec<u8>),
    Never,
    Refused(Vec<u8>),
}

impl Table {
    pub(super) fn new(bug: Option<Bug>, config: &Config) -> Self {
        Self {
            bug,
            lease: config.session_lease,
            ttl: config.ttl,
            max_running: config.max_running,
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
        let has_expired =
            |session: &Session| session.idle_since.is_some_and(|at| at + lease <= now);
        if self.sessions.get(&id).is_some_and(has_expired) {
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
        let keeps_no_trace = self.bug == Some(Bug::StaleExecuted);
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
            if !is_kept && let CallState::Running { waiters, .. } = &record.state {
                waiters.iter().for_each(|waiter| waiter.reply(&stale()));
            }
            is_kept
        });
        if !keeps_no_trace {
            session.ack = session.ack.max(ack);
            let above = above.iter().flat_map(|(from, to)| *from..*to);
            session.above.extend(above);
        }
    }

    /// An attempt arrives.
    pub(super) fn arrive(
        &mut self,
        key: &Key,
        fingerprint: &str,
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
        if record.is_reused(fingerprint) && bug != Some(Bug::NoFingerprint) {
            return Arrival::Answer(raised(ErrorCode::ID_REUSED));
        }
        if let Some(known) = record.known(attempt, waiter, bug) {
            return known;
        }
        fingerprint.clone_into(&mut record.fingerprint);
        if is_full {
            let outcome = overloaded();
            record.state = CallState::Refused {
                attempt,
                outcome: outcome.clone(),
            };
            return Arrival::Answer(outcome);
        }
        if bug != Some(Bug::RecordAfterReply) {
            record.state = CallState::running(attempt);
        }
        self.running += 1;
        Arrival::Execute
    }

    /// The call has finished. Returns its waiters.
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
            CallState::Running { waiters, attempt } => (waiters, attempt),
            _ => (Vec::new(), 1),
        };
        record.finished_at = Some(now);
        let is_resolved = waiters.iter().any(|waiter| waiter.resolves);
        record.state = match (has_effect, is_resolved) {
            _ if bug == Some(Bug::NoDedup) => CallState::Empty,
            (true, _) => CallState::Finished(outcome.to_vec()),
            // The reply to `rpc.resolve` is about to say so.
            (false, true) if !is_plain => CallState::Never,
            (false, _) if is_plain => CallState::Empty,
            (false, _) => CallState::Refused {
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
        let is_finished = |record: &Record| matches!(record.state, CallState::Finished(_));
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

    /// A client asks for the outcome.
    pub(super) fn resolve(
        &mut self,
        key: &Key,
        waiter: impl FnOnce() -> Waiter,
        now: Instant,
    ) -> Resolved {
        let bug = self.bug;
        let record = match self.record(key, now) {
            Ok(record) => record,
            Err(refused) => return Resolved::Refused(refused),
        };
        match &mut record.state {
            CallState::Running { waiters, .. } => {
                waiters.push(waiter());
                Resolved::Joined
            }
            CallState::Finished(outcome) => Resolved::Done(outcome.clone()),
            CallState::Never => Resolved::Never,
            CallState::Empty | CallState::Refused { .. } if matches!(key, Key::Plain(_)) => {
                Resolved::Refused(raised(ErrorCode::OUTCOME_UNKNOWN))
            }
            CallState::Empty | CallState::Refused { .. } => {
                if bug != Some(Bug::NeverNotFenced) {
                    record.state = CallState::Never;
                }
                Resolved::Never
            }
        }
    }

    /// Cancels a call, unless it has begun.
    pub(super) fn cancel(&mut self, key: &Key, now: Instant) {
        if let Ok(record) = self.record(key, now)
            && matches!(record.state, CallState::Empty | CallState::Refused { .. })
        {
            record.state = CallState::Never;
        }
    }

    /// The record of a call, or the refusal if there cannot be one.
    fn record(&mut self, key: &Key, now: Instant) -> Result<&mut Record, Vec<u8>> {
        let (id, number) = match key {
            Key::Plain(id) => {
                let record = self.plain.entry(id.clone()).or_default();
                record.expire(now, self.ttl);
                return Ok(record);
            }
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

impl CallState {
    fn running(attempt: u32) -> Self {
        Self::Running {
            waiters: Vec::new(),
            attempt,
        }
    }
}

impl Record {
    /// Forgets an outcome that has been known for long enough.
    fn expire(&mut self, now: Instant, ttl: Duration) {
        let is_old = self.finished_at.is_some_and(|at| at + ttl <= now);
        if is_old && matches!(self.state, CallState::Finished(_)) {
            *self = Self::default();
        }
    }

    fn is_reused(&self, fingerprint: &str) -> bool {
        let has_run = matches!(
            self.state,
            CallState::Running { .. } | CallState::Finished(_)
        );
        has_run && self.fingerprint != fingerprint
    }

    /// What to do about an attempt of a known call.
    fn known(
        &mut self,
        attempt: u32,
        waiter: impl FnOnce() -> Waiter,
        bug: Option<Bug>,
    ) -> Option<Arrival> {
        match &mut self.state {
            CallState::Running { .. } if bug == Some(Bug::NoJoin) => Some(Arrival::Execute),
            CallState::Running {
                waiters,
                attempt: highest,
            } => {
                *highest = attempt.max(*highest);
                waiters.push(waiter());
                Some(Arrival::Joined)
            }
            CallState::Finished(outcome) => Some(Arrival::Answer(outcome.clone())),
            CallState::Refused {
                attempt: highest,
                outcome,
            } if attempt <= *highest && bug != Some(Bug::RefusalForgotten) => {
                Some(Arrival::Answer(outcome.clone()))
            }
            CallState::Never => Some(Arrival::Answer(fenced())),
            CallState::Refused { .. } | CallState::Empty => None,
        }
    }
}

pub(super) fn encoded(error: &ErrorObject) -> Vec<u8> {
    let mut outcome = Vec::new();
    encode_error(&mut outcome, error);
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
    let error = ErrorObject::raised(ErrorCode::STALE, "it will never be executed");
    encoded(&error.with_executed(Executed::No))
}
