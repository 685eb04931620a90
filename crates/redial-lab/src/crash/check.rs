//! What the ledgers of all lives of a server say about what its callers heard. It shares no code with
//! server or client.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use super::{effects::Effects, excuse::Excuse};
use crate::harness::{
    events::{Call, Outcome},
    mode::Mode,
};

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// More than one effect, in these lives.
    Doubled(String, Vec<usize>),
    /// The caller heard ok, and there is no effect.
    Lost(String),
    /// The caller heard that it was not executed, and there is an effect, in this life.
    Ghost(String, usize),
    /// The caller heard another value than one effect gives.
    Value(String, Option<i64>),
    /// An effect of a call that was never made.
    Stray(String),
    /// The call had not ended when it had to; it took this many microseconds.
    Late(String, u64),
    /// The call never ended.
    Missing(String),
    /// The call ended more than once.
    Again(String),
    /// So many attempts of a client with a session were sent under ids outside of it.
    LeftSession(String, u64),
    /// The call ended neither ok nor failed, for no reason that a client of this server has to accept.
    Unsettled(String, String),
    /// More effects than one carry this id.
    SameId(String),
    /// The counter has this value, and so many effects.
    Sum(String, i64, usize),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doubled(key, lives) => {
                write!(f, "{key}: {} effects, in lives {lives:?}", lives.len())
            }
            Self::Lost(key) => write!(f, "{key}: ok, and no effect"),
            Self::Ghost(key, life) => {
                write!(f, "{key}: not executed, and an effect in life {life}")
            }
            Self::Value(key, Some(value)) => write!(f, "{key}: ok with {value} instead of 1"),
            Self::Value(key, None) => write!(f, "{key}: ok without a value"),
            Self::Stray(key) => write!(f, "{key}: an effect of no call"),
            Self::Late(key, us) => write!(f, "{key}: took {:.3} s", *us as f64 / 1e6),
            Self::Missing(key) => write!(f, "{key}: never ended"),
            Self::Again(key) => write!(f, "{key}: ended more than once"),
            Self::LeftSession(client, attempts) => {
                write!(
                    f,
                    "{client}: {attempts} attempts under ids outside its session"
                )
            }
            Self::Unsettled(key, error) => write!(f, "{key}: not settled: {error}"),
            Self::SameId(id) => write!(f, "{id}: the id of more effects than one"),
            Self::Sum(key, value, effects) => {
                write!(
                    f,
                    "{key}: the counter is {value}, and has {effects} effects"
                )
            }
        }
    }
}

/// What one client wrote down.
#[derive(Clone)]
pub(crate) struct History {
    /// Call `n` counted under `PREFIX-n`.
    pub(crate) prefix: String,
    /// Without their attempts: minutes of them would not fit into memory.
    pub(crate) calls: Vec<Call>,
    pub(crate) end: ClientEnd,
    /// No call may have taken longer.
    pub(crate) limit: Duration,
    /// How many of the calls were sent more than once.
    pub(crate) retried: u64,
    /// How many attempts were sent under ids outside a session.
    pub(crate) outside: u64,
    /// Which promise the calls have.
    promise: Promise,
    /// What excuses a call that ended neither ok nor failed.
    excuse: Excuse,
}

/// What holds for the calls of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// At most one effect, and all that the caller hears is true. It doesn't matter how the calls
    /// are named.
    Exact,
    /// The same, with every attempt under an id of a session.
    Session,
    /// At most one effect in each life of the server. A refusal is not recorded, so that a copy of
    /// the request may run after it.
    Plain,
}

impl Promise {
    /// What is held against clients that name their calls so.
    pub(crate) fn of(ids: Mode) -> Self {
        match ids {
            Mode::Session => Self::Session,
            Mode::Plain | Mode::Naive => Self::Exact,
        }
    }
}

impl History {
    pub(crate) fn new(
        prefix: String,
        mut calls: Vec<Call>,
        end: ClientEnd,
        limit: Duration,
    ) -> Self {
        let attempts = calls.iter().flat_map(|call| &call.attempts);
        let outside = attempts.filter(|attempt| is_outside_session(&attempt.id));
        let outside = outside.count() as u64;
        let is_retried = |call: &&Call| call.attempts.len() > 1;
        let retried = calls.iter().filter(is_retried).count() as u64;
        for call in &mut calls {
            call.attempts = Vec::new();
        }
        Self {
            prefix,
            calls,
            end,
            limit,
            retried,
            outside,
            promise: Promise::Exact,
            excuse: Excuse::Any,
        }
    }

    /// Has the calls judged by this promise.
    pub(crate) fn under(self, promise: Promise) -> Self {
        Self { promise, ..self }
    }

    /// Has calls that ended neither ok nor failed excused by nothing else.
    pub(crate) fn excused_by(self, excuse: Excuse) -> Self {
        Self { excuse, ..self }
    }
}

/// Whether an id is no number in a session, which is a UUID of version 8. An attempt that found no
/// connection has none yet, which is written as zeros.
fn is_outside_session(id: &str) -> bool {
    let is_numbered = id.len() == 36 && id.as_bytes()[14] == b'8';
    !is_numbered && id.chars().any(|char| !matches!(char, '0' | '-'))
}

/// How a client ended, which decides what is known of the calls that it did not write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// It had this many to make, so none may be missing.
    Planned(u64),
    /// It ended its calls and stopped, so there were no others.
    Stopped,
    /// It was killed: there may have been others, whose callers heard nothing.
    Killed,
}

/// Compares what each client wrote down with the effects.
pub(crate) fn violations(histories: &[History], mut effects: Effects) -> Vec<Violation> {
    let mut found = std::mem::take(&mut effects.violations);
    for history in histories {
        found.extend(recorded(history, &mut effects));
        if history.promise == Promise::Session && history.outside > 0 {
            found.push(Violation::LeftSession(
                history.prefix.clone(),
                history.outside,
            ));
        }
    }
    let ends = histories
        .iter()
        .map(|history| (&*history.prefix, (history.end, history.promise)));
    found.extend(unrecorded(&ends.collect(), effects));
    found
}

/// What is wrong about the calls that a client wrote down, or had to; takes their effects away.
fn recorded(history: &History, effects: &mut Effects) -> Vec<Violation> {
    let mut ended: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in &history.calls {
        ended.entry(call.number).or_default().push(call);
    }
    if let ClientEnd::Planned(calls) = history.end {
        for number in 0..calls {
            ended.entry(number).or_default();
        }
    }
    let mut found = Vec::new();
    for (number, calls) in ended {
        let key = format!("{}-{number}", history.prefix);
        let lives = effects.lives.remove(&key).unwrap_or_default();
        match calls[..] {
            [] => found.push(Violation::Missing(key)),
            [call] => found.extend(judge(call, key, lives, history)),
            _ => found.push(Violation::Again(key)),
        }
    }
    found
}

/// What is wrong about the effects of calls that no client wrote down.
fn unrecorded(ends: &HashMap<&str, (ClientEnd, Promise)>, effects: Effects) -> Vec<Violation> {
    let mut rest: Vec<_> = effects.lives.into_iter().collect();
    rest.sort();
    let judged = rest.into_iter().map(|(key, lives)| {
        let client = key.rsplit_once('-').map_or(&*key, |(prefix, _)| prefix);
        let end = ends
            .get(client)
            .filter(|(end, _)| *end == ClientEnd::Killed);
        let was_killed = end.is_some();
        match lives[..] {
            _ if end.is_some_and(|(_, promise)| are_doubled(&lives, *promise)) => {
                Some(Violation::Doubled(key, lives))
            }
            _ if was_killed => None,
            _ => Some(Violation::Stray(key)),
        }
    });
    judged.flatten().collect()
}

/// Whether these are more effects of one call than there may be.
fn are_doubled(lives: &[usize], promise: Promise) -> bool {
    match promise {
        Promise::Exact | Promise::Session => lives.len() > 1,
        // In the order of the lives, since that is the order of the ledgers.
        Promise::Plain => lives.windows(2).any(|pair| pair[0] == pair[1]),
    }
}

/// What is wrong about one call.
fn judge(call: &Call, key: String, lives: Vec<usize>, history: &History) -> Option<Violation> {
    let took = call.took_us();
    let is_plain = history.promise == Promise::Plain;
    match (call.outcome, &lives[..]) {
        _ if are_doubled(&lives, history.promise) => Some(Violation::Doubled(key, lives)),
        (Outcome::Ok, []) => Some(Violation::Lost(key)),
        (Outcome::NotExecuted, [life, ..]) if !is_plain => Some(Violation::Ghost(key, *life)),
        (Outcome::Ok, [_, ..]) if call.value != Some(1) => Some(Violation::Value(key, call.value)),
        _ if u128::from(took) > history.limit.as_micros() => Some(Violation::Late(key, took)),
        _ if !history.excuse.covers(call) => {
            let error = call.error.clone().unwrap_or_default();
            Some(Violation::Unsettled(key, error))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
