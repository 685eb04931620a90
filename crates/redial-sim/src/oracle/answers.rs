//! Every request gets a well-formed reply, and no reply claims an acknowledgement that was not
//! sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Violation, acks,
    history::{CallHistory, History, Position, Wait},
    violation,
};
use crate::journal::{Executed, Frame, Frozen, Way, numbered};

/// How long after the end of its call a request may wait for its reply: a fault may delay it, and a
/// connection at its limits is not read from, or cannot be written to, for a while.
const GRACE: Duration = Duration::from_secs(5);

/// The same for a request whose call did not finish: the queue may be long.
const LONG: Duration = Duration::from_secs(20);

/// Timers count in milliseconds.
const SLACK: Duration = Duration::from_millis(1);

const STALE: i32 = -32007;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    for (position, reply) in &history.replies {
        if reply.outcome.is_none() {
            found.push(Violation {
                rule: "a reply can be read",
                tag: tag(history, reply),
                detail: format!("on wire {}: {}", reply.wire, reply.text),
            });
        }
        found.extend(not_acknowledged(history, *position, reply));
    }
    unanswered(history, found);
    sent_too_late(history, found);
}

/// The call whose id the reply contains.
fn tag(history: &History, reply: &Frame) -> Option<u32> {
    let mut tags = history.tags.iter();
    let (_, tags) = tags.find(|(id, _)| reply.text.contains(&***id))?;
    tags.first().copied()
}

/// An open connection owes each request on it one reply.
fn unanswered(history: &History, found: &mut Vec<Violation>) {
    let mut balance: BTreeMap<(u32, &str), (usize, Option<u32>)> = BTreeMap::new();
    for (_, _, request) in &history.requests {
        let Some(id) = request.id.as_deref() else {
            continue;
        };
        if is_owed(history, request) && !history.lost.contains(id) {
            let (unanswered, tag) = balance.entry((request.wire, id)).or_default();
            (*unanswered, *tag) = (*unanswered + 1, request.tag);
        }
    }
    for (_, reply) in &history.replies {
        let id = reply.id.as_deref().unwrap_or_default();
        if let Some((unanswered, _)) = balance.get_mut(&(reply.wire, id)) {
            *unanswered = unanswered.saturating_sub(1);
        }
    }
    for ((wire, id), (unanswered, tag)) in balance {
        if unanswered > 0 {
            found.push(Violation {
                rule: "every request is answered",
                tag,
                detail: format!("{unanswered} of {id} on wire {wire} were not"),
            });
        }
    }
}

/// Whether the reply was due before the connection closed.
fn is_owed(history: &History, request: &Frame) -> bool {
    let call = request.tag.and_then(|tag| history.calls.get(&tag));
    let ended = call.and_then(last_end);
    let due = match ended {
        Some(ended) => ended.max(request.arrives) + GRACE,
        None => request.arrives + LONG,
    };
    let (frozen, _) = history.frozen(Frozen::Server, Duration::ZERO, history.lasted);
    let due = due + frozen;
    let closed = history.closed.get(&request.wire).copied();
    due < closed.unwrap_or(history.lasted)
}

/// When the call's last handler finished, unless one still runs.
fn last_end(call: &CallHistory) -> Option<Duration> {
    let has_ended = call.finished.len() == call.begun.len();
    let last = call.finished.last().filter(|_| has_ended)?;
    Some(last.at)
}

/// A client must not send a plain call again when the server may have dropped its record: counted
/// from its first request, unless that was refused.
fn sent_too_late(history: &History, found: &mut Vec<Violation>) {
    let refused: BTreeSet<_> = history
        .replies
        .iter()
        .filter(|(_, reply)| reply.executed == Some(Executed::No))
        .filter_map(|(_, reply)| reply.id.as_deref())
        .collect();
    let mut first: BTreeMap<&str, Duration> = BTreeMap::new();
    for (position, at, request) in history.requests.iter().filter(|(.., one)| !one.is_copy) {
        let call = request.tag.and_then(|tag| history.calls.get(&tag));
        let (Some(id), Some(call)) = (request.id.as_deref(), call) else {
            continue;
        };
        if numbered(id).is_some() || call.is_query() || refused.contains(id) {
            continue;
        }
        let first = *first.entry(id).or_insert(*at);
        let mut waits = call.waits.iter();
        let is_this =
            |wait: &&Wait| wait.from.position < *position && !wait.has_ended_before(*position);
        let Some(wait) = waits
            .find(is_this)
            .filter(|wait| wait.what.way == Way::Call)
        else {
            continue;
        };
        let after = at.saturating_sub(first);
        if after > wait.what.resend_window + SLACK {
            let window = wait.what.resend_window;
            let detail = format!("it was sent again after {after:?}; the window is {window:?}");
            let tag = request.tag.unwrap_or_default();
            found.push(violation("not sent again too late", tag, detail));
        }
    }
}

/// A reply says that a call was acknowledged, and it was not.
fn not_acknowledged(history: &History, position: Position, reply: &Frame) -> Option<Violation> {
    // A fenced call was not executed, and its reply says so; a handler may pass on anything.
    if reply.code != Some(STALE) || reply.executed != Some(Executed::Unknown) {
        return None;
    }
    let own = reply.id.clone()?;
    let about = history.about.get(&(reply.wire, own.clone()));
    let id = about.unwrap_or(&own);
    let (session, number) = numbered(id)?;
    let mut before = history.acks.iter().filter(|(at, _)| *at < position);
    let is_so = before.any(|(_, ack)| ack.session == session && acks::covers(ack, number));
    let tag = *history.tags.get(id)?.first()?;
    (!is_so).then(|| {
        let detail = format!(
            "number {number} of session {session} was not: {}",
            reply.text
        );
        violation("stale means acknowledged", tag, detail)
    })
}
