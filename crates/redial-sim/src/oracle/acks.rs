//! A client acknowledges a call only when its caller has the outcome, or no longer wants it.

use std::collections::BTreeMap;

use super::{
    Violation,
    history::{CallHistory, History, Position},
    violation,
};
use crate::journal::{Ack, End, numbered};

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let sessions = sessions(history);
    for (position, ack) in &history.acks {
        for (number, tag, call) in sessions.get(&ack.session).into_iter().flatten() {
            if covers(ack, *number) && is_waited_for(call, *position) {
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

/// The calls of each session. A call that went on under another id is left out.
fn sessions(history: &History) -> BTreeMap<String, Calls<'_>> {
    let mut sessions: BTreeMap<String, Calls<'_>> = BTreeMap::new();
    for (tag, call) in &history.calls {
        let mut ids = call.ids.iter();
        if let (Some(id), None) = (ids.next(), ids.next())
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
