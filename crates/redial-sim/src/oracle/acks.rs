//! A client acknowledges a call only when its caller has the outcome, or no longer wants it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Violation,
    history::{CallHistory, History, Position},
    violation,
};
use crate::journal::{Ack, End, Executed, numbered};

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let sessions = sessions(history);
    for (position, ack) in &history.acks {
        for (number, tag, call) in sessions.get(&ack.session).into_iter().flatten() {
            if covers(ack, *number)
                && is_waited_for(call, *position)
                && !is_given_up(history, call, *position)
            {
                let detail = format!(
                    "number {number} of session {} was acknowledged while its caller waits or will ask again",
                    ack.session
                );
                found.push(violation("acknowledged means delivered", *tag, detail));
            }
        }
    }
}

type Calls<'a> = Vec<(u64, u32, &'a CallHistory)>;

/// The calls of each session. A call that went on under another id is left out, and so is one without effect where
/// there are several tables: it goes on at another one under an id that may be seen nowhere.
fn sessions(history: &History) -> BTreeMap<String, Calls<'_>> {
    let mut sessions: BTreeMap<String, Calls<'_>> = BTreeMap::new();
    let mut calls = history.calls.iter().collect::<Vec<_>>();
    calls.retain(|(_, call)| !(history.has_endpoints && call.is_query()));
    for (tag, call) in calls {
        let mut ids = call.ids.iter();
        if let (Some(id), None) = (ids.next(), ids.next())
            && call.swallowed_ids.iter().all(|other| other == id)
            && let Some((session, number)) = numbered(id)
        {
            let calls = sessions.entry(session).or_default();
            calls.push((number, *tag, call));
        }
    }
    sessions
}

pub(super) fn covers(ack: &Ack, number: u64) -> bool {
    let mut above = ack.above.iter();
    number < ack.below || above.any(|(from, to)| (*from..*to).contains(&number))
}

/// Where there are several addresses: whether the call goes on at another table, since all its attempts were
/// refused, each on its own connection, or left out by the last word of a server, so that no one will ask for its
/// number again.
fn is_given_up(history: &History, call: &CallHistory, position: Position) -> bool {
    let last = history.notifications.iter();
    let last = last.filter(|(at, word)| word.is_last && *at < position);
    let left: BTreeSet<_> = last.map(|(_, word)| word.wire).collect();
    let mut open: BTreeMap<u32, i32> = BTreeMap::new();
    for (_, wire) in call.sent.iter().filter(|(at, _)| *at < position) {
        *open.entry(*wire).or_default() += 1;
    }
    for (_, reply) in history.replies.iter().filter(|(at, _)| *at < position) {
        let is_its = reply.id.as_ref().is_some_and(|id| call.ids.contains(id));
        // Something in between may send a copy on a connection of its own: its refusal says nothing.
        if is_its && reply.executed == Some(Executed::No) {
            open.entry(reply.wire).and_modify(|open| *open -= 1);
        }
    }
    history.has_endpoints
        && open
            .iter()
            .all(|(wire, open)| *open <= 0 || left.contains(wire))
}

/// A caller waits, or asks later, and no caller has heard the outcome.
fn is_waited_for(call: &CallHistory, position: Position) -> bool {
    let mut ends = call.waits.iter().filter_map(|wait| wait.end.as_ref());
    let is_known = ends.any(|(when, end)| when.position < position && is_outcome(end));
    let mut waits = call.waits.iter();
    !is_known && waits.any(|wait| !wait.has_ended_before(position))
}

fn is_outcome(end: &End) -> bool {
    !matches!(end, End::Unknown(_) | End::Dropped | End::Crashed)
}
