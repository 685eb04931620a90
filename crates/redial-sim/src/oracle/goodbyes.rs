//! What a server says without being asked: `rpc.goaway`, to peers that said hello. After its last word
//! a connection carries nothing more, and what has no reply there is never executed from there.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Violation,
    history::{History, Position},
    violation,
};
use crate::journal::Frame;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let mut last: BTreeMap<u32, Position> = BTreeMap::new();
    for (position, frame) in &history.notifications {
        found.extend(unexpected(history, *position, frame));
        if frame.is_last {
            last.entry(frame.wire).or_insert(*position);
        }
    }
    after_the_last(history, &last, found);
    executed_after_all(history, &last, found);
}

/// The only notification is `rpc.goaway`, on a connection that said hello.
fn unexpected(history: &History, position: Position, frame: &Frame) -> Option<Violation> {
    let mut requests = history.requests.iter();
    let has_said_hello = requests.any(|(at, _, request)| {
        let is_hello = request.method.as_deref() == Some("rpc.hello");
        is_hello && request.wire == frame.wire && *at < position
    });
    let is_goaway = frame.method.as_deref() == Some("rpc.goaway");
    (!(is_goaway && has_said_hello)).then(|| Violation {
        rule: "a server announces its end to those who said hello, and nothing else",
        tag: None,
        detail: format!("on wire {}: {}", frame.wire, frame.text),
    })
}

fn after_the_last(history: &History, last: &BTreeMap<u32, Position>, found: &mut Vec<Violation>) {
    let frames = history.replies.iter().chain(&history.notifications);
    for (position, frame) in frames {
        if last.get(&frame.wire).is_some_and(|last| position > last) {
            found.push(Violation {
                rule: "nothing follows the last word",
                tag: None,
                detail: format!("on wire {}: {}", frame.wire, frame.text),
            });
        }
    }
}

/// An execution needs a request that was answered, or that came on a connection without a last word.
fn executed_after_all(
    history: &History,
    last: &BTreeMap<u32, Position>,
    found: &mut Vec<Violation>,
) {
    let replies = history.replies.iter();
    let answered: BTreeSet<(u32, &str)> = replies
        .filter_map(|(_, reply)| Some((reply.wire, reply.id.as_deref()?)))
        .collect();
    let is_left_out = |request: &Frame| {
        let id = request.id.as_deref().unwrap_or_default();
        last.contains_key(&request.wire) && !answered.contains(&(request.wire, id))
    };
    // Where the first request of each call stands that may run.
    let mut may_run: BTreeMap<u32, Position> = BTreeMap::new();
    for (position, _, request) in &history.requests {
        if let Some(tag) = request.tag.filter(|_| !is_left_out(request)) {
            may_run.entry(tag).or_insert(*position);
        }
    }
    for (tag, call) in &history.calls {
        let may_run = may_run.get(tag).copied().unwrap_or(Position::MAX);
        let began = call.begun.first().filter(|begun| begun.position < may_run);
        if let Some(began) = began {
            let detail = format!(
                "it began at {:?}, and every connection that had brought it by then had its last word \
                 without a reply to it",
                began.at
            );
            let rule = "what the last word leaves out never runs";
            found.push(violation(rule, *tag, detail));
        }
    }
}
