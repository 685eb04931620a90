//! Whoever asks is answered, with something that can be read, and is not told that it has
//! acknowledged what it has not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Violation, acks,
    books::{Account, Books, Place, Wait},
    violation,
};
use crate::journal::{Frame, Way, numbered};

/// How long after the end of its call a request may wait for its reply: a rule of the server may
/// hold it back, and a connection that is at its limits is not read from, or can't be written to,
/// for a while.
const GRACE: Duration = Duration::from_secs(5);

/// The same of a request whose call was not seen to end: the queue may be long.
const LONG: Duration = Duration::from_secs(20);

/// Timers count in milliseconds.
const SLACK: Duration = Duration::from_millis(1);

const STALE: i32 = -32007;

pub(super) fn check(books: &Books, found: &mut Vec<Violation>) {
    for (place, reply) in &books.replies {
        if reply.outcome.is_none() {
            found.push(Violation {
                rule: "a reply can be read",
                tag: tag(books, reply),
                detail: format!("on wire {}: {}", reply.wire, reply.text),
            });
        }
        found.extend(not_acknowledged(books, *place, reply));
    }
    unanswered(books, found);
    sent_too_late(books, found);
}

/// The call that is named somewhere in it.
fn tag(books: &Books, reply: &Frame) -> Option<u32> {
    let mut tags = books.tags.iter();
    let (_, tags) = tags.find(|(id, _)| reply.text.contains(&***id))?;
    tags.first().copied()
}

/// A connection that stands owes each request on it one reply.
fn unanswered(books: &Books, found: &mut Vec<Violation>) {
    let mut balance: BTreeMap<(u32, &str), (usize, Option<u32>)> = BTreeMap::new();
    for (_, _, request) in &books.requests {
        let Some(id) = request.id.as_deref() else {
            continue;
        };
        if is_owed(books, request) && !books.lost.contains(id) {
            let (owed, tag) = balance.entry((request.wire, id)).or_default();
            (*owed, *tag) = (*owed + 1, request.tag);
        }
    }
    for (_, reply) in &books.replies {
        let id = reply.id.as_deref().unwrap_or_default();
        if let Some((owed, _)) = balance.get_mut(&(reply.wire, id)) {
            *owed = owed.saturating_sub(1);
        }
    }
    for ((wire, id), (owed, tag)) in balance {
        if owed > 0 {
            found.push(Violation {
                rule: "every request is answered",
                tag,
                detail: format!("{owed} of {id} on wire {wire} were not"),
            });
        }
    }
}

/// Whether it had its reply coming when its connection was over.
fn is_owed(books: &Books, request: &Frame) -> bool {
    let account = request.tag.and_then(|tag| books.calls.get(&tag));
    let ended = account.and_then(last_end);
    let due = match ended {
        Some(ended) => ended.max(request.arrives) + GRACE,
        None => request.arrives + LONG,
    };
    let over = books.over.get(&request.wire).copied();
    due < over.unwrap_or(books.lasted)
}

/// When the call's handler ended last, if it is not still at it for all that is known.
fn last_end(account: &Account) -> Option<Duration> {
    let is_over = account.finished.len() == account.begun.len();
    let last = account.finished.last().filter(|_| is_over)?;
    Some(last.at)
}

/// A server keeps its record of a plain call for a while only, so that a client must not send one
/// again when that may be over: counted from its first request, unless that was refused.
fn sent_too_late(books: &Books, found: &mut Vec<Violation>) {
    let refused: BTreeSet<_> = books
        .replies
        .iter()
        .filter(|(_, reply)| reply.text.contains(r#""executed":"no""#))
        .filter_map(|(_, reply)| reply.id.as_deref())
        .collect();
    let mut first: BTreeMap<&str, Duration> = BTreeMap::new();
    for (place, at, request) in books.requests.iter().filter(|(.., one)| !one.is_copy) {
        let account = request.tag.and_then(|tag| books.calls.get(&tag));
        let (Some(id), Some(account)) = (request.id.as_deref(), account) else {
            continue;
        };
        if numbered(id).is_some() || account.is_query() || refused.contains(id) {
            continue;
        }
        let first = *first.entry(id).or_insert(*at);
        let mut waits = account.waits.iter();
        let is_this = |wait: &&Wait| wait.from.place < *place && !wait.is_over_at(*place);
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

/// A call was answered as acknowledged that its client has not acknowledged.
fn not_acknowledged(books: &Books, place: Place, reply: &Frame) -> Option<Violation> {
    // What is fenced was not executed, and the reply says so.
    if reply.code != Some(STALE) || reply.text.contains(r#""executed":"no""#) {
        return None;
    }
    let own = reply.id.clone()?;
    let about = books.about.get(&(reply.wire, own.clone()));
    let id = about.unwrap_or(&own);
    let (session, number) = numbered(id)?;
    let mut before = books.acks.iter().filter(|(at, _)| *at < place);
    let is_so = before.any(|(_, ack)| ack.session == session && acks::covers(ack, number));
    let tag = *books.tags.get(id)?.first()?;
    (!is_so).then(|| {
        let detail = format!(
            "number {number} of session {session} was not: {}",
            reply.text
        );
        violation("stale means acknowledged", tag, detail)
    })
}
