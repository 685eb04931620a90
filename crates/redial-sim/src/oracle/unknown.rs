//! With a store a call ends as *unknown* only where nothing better can be known: when its time is up, or when
//! its handler, which can't be run again, was interrupted with its server.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Violation,
    history::{CallHistory, History, Position},
    violation,
};
use crate::journal::{End, Executed, Method, Way, numbered};

const RULE: &str = "unknown only when nothing better can be known";

/// Timers count in milliseconds.
const SLACK: Duration = Duration::from_millis(1);

/// The longest pause that a server asks for.
const LONGEST_ASKED: Duration = Duration::from_secs(1);

const OVERLOADED: i32 = -32001;
const ID_REUSED: i32 = -32003;
const OUTCOME_UNKNOWN: i32 = -32004;
const STALE: i32 = -32007;
const INTERRUPTED: i32 = -32008;

/// Found in replies that know no session of this id.
const UNKNOWN_SESSION: &str = r#""unknown_session":""#;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    if !history.is_stored {
        return;
    }
    for (tag, call) in &history.calls {
        for wait in &call.waits {
            if let Some((end, End::Unknown(why))) = &wait.end
                && wait.what.way == Way::Call
                && wait.what.sessions
                && let Some(patience) = wait.what.patience
                && end.at + SLACK + asked_pause(history, call) < wait.from.at + patience
                && !is_excused(history, call, end.position)
            {
                let took = end.at - wait.from.at;
                let detail = format!("after {took:?} of {patience:?}: {why}");
                found.push(violation(RULE, *tag, detail));
            }
        }
    }
}

/// Whether some reply before the end of the wait says why nothing more can be known, and may.
fn is_excused(history: &History, call: &CallHistory, end: Position) -> bool {
    // Of a call that was never sent whole the journal has no id, and so not its session. One whose handler has
    // released its id may run again, should an earlier attempt still arrive.
    let may_run_again = call.method == Some(Method::NoEffect);
    if call.ids.is_empty() || may_run_again || is_session_lost(history, call, end) {
        return true;
    }
    let mut replies = history.replies.iter().filter(|(at, reply)| {
        let id = reply.id.as_ref();
        let is_its = id.is_some_and(|id| call.ids.contains(id));
        is_its && *at < end && reply.executed == Some(Executed::Unknown)
    });
    replies.any(|(at, reply)| match reply.code {
        Some(INTERRUPTED) => may_be_interrupted(history, call, *at),
        // What counts as acknowledged is judged by a rule of its own.
        Some(STALE) => true,
        Some(ID_REUSED) => is_forged(history, call),
        _ => false,
    })
}

/// Whether the middlebox has sent other params under an id of the call.
fn is_forged(history: &History, call: &CallHistory) -> bool {
    let mut tags = call.ids.iter().filter_map(|id| history.tags.get(id));
    tags.any(|tags| tags.len() > 1)
}

/// How long before its deadline a call may end, since a server without room has asked for no attempt any sooner.
fn asked_pause(history: &History, call: &CallHistory) -> Duration {
    let mut replies = history.replies.iter();
    let is_asked = replies.any(|(_, reply)| {
        let id = reply.id.as_ref();
        reply.code == Some(OVERLOADED) && id.is_some_and(|id| call.ids.contains(id))
    });
    if is_asked {
        LONGEST_ASKED
    } else {
        Duration::ZERO
    }
}

/// Whether the server that the call was made on has ended by then, and the call can't be run again.
fn may_be_interrupted(history: &History, call: &CallHistory, at: Position) -> bool {
    if history.is_transactional || call.is_query() {
        return false;
    }
    let made_in = call.seen.map_or(0, |seen| history.life_at(seen));
    let mut shutdowns = history.shutdowns.iter();
    let is_meanwhile = |(from, _): &(Position, Position)| *from < at && call.seen < Some(*from);
    history.life_at(at) > made_in || shutdowns.any(is_meanwhile)
}

/// Whether a client has heard that the server doesn't know a session of the call, as when its lease has
/// ended. Whether that was so is judged by a rule of its own.
fn is_session_lost(history: &History, call: &CallHistory, end: Position) -> bool {
    let sessions = call.ids.iter().filter_map(|id| numbered(id));
    let sessions: Vec<_> = sessions.map(|(session, _)| session).collect();
    let hellos = history.requests.iter().filter(|(at, _, request)| {
        let is_hello = request.method.as_deref() == Some("rpc.hello");
        let names_it = |session: &String| request.text.contains(&**session);
        is_hello && *at < end && sessions.iter().any(names_it)
    });
    let hellos: BTreeSet<_> = hellos
        .map(|(_, _, hello)| (hello.wire, &hello.id))
        .collect();
    let mut replies = history.replies.iter();
    replies.any(|(at, reply)| {
        let is_unknown = reply.code == Some(OUTCOME_UNKNOWN) && *at < end;
        // Another call may have been the one to hear it.
        let names = |session: &String| reply.text.contains(&format!("{UNKNOWN_SESSION}{session}"));
        is_unknown && (hellos.contains(&(reply.wire, &reply.id)) || sessions.iter().any(names))
    })
}
