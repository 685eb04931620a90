//! A client that wants sessions has them: no server here says that it has no sessions, whatever else it
//! may say, or not say. With a store a session outlives the server.

use std::{collections::BTreeMap, time::Duration};

use super::{Violation, history::History, violation};
use crate::journal::{Frame, Way, numbered};

/// Found in replies that know no session of this id.
const UNKNOWN: &str = r#""unknown_session":""#;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    for (tag, call) in &history.calls {
        let mut waits = call.waits.iter();
        let is_of_session = waits.any(|wait| wait.what.way == Way::Call && wait.what.sessions);
        if is_of_session && call.is_plain && !call.is_query() {
            let detail = format!("it was sent under {:?}", call.ids);
            found.push(violation("a client with sessions stays one", *tag, detail));
        }
    }
    if history.is_stored {
        forgotten(history, found);
    }
}

/// A session that a server has just worked with is unknown, and its client has not said goodbye.
fn forgotten(history: &History, found: &mut Vec<Violation>) {
    let Some(lease) = history.lease else {
        return;
    };
    let goodbyes = history
        .requests
        .iter()
        .filter(|(.., request)| request.method.as_deref() == Some("rpc.goodbye"));
    let goodbyes: Vec<_> = goodbyes.collect();
    // When a server has answered a call of the session last.
    let mut known: BTreeMap<String, Duration> = BTreeMap::new();
    for ((position, reply), at) in history.replies.iter().zip(&history.replied_at) {
        let Some(id) = &reply.id else { continue };
        let Some((session, _)) = numbered(id) else {
            continue;
        };
        if !reply.text.contains(&format!("{UNKNOWN}{session}")) {
            if is_outcome(history, id, reply) {
                known.insert(session, *at);
            }
            continue;
        }
        let Some(last) = known.get(&session) else {
            continue;
        };
        let has_left = goodbyes
            .iter()
            .any(|(before, _, request)| before < position && request.text.contains(&session));
        let after = at.saturating_sub(*last);
        if !has_left && after < lease {
            let tags = history.tags.get(id).into_iter().flatten();
            let detail =
                format!("{session} is unknown {after:?} after a reply; its lease is {lease:?}");
            found.push(Violation {
                rule: "a session survives a restart",
                tag: tags.copied().next(),
                detail,
            });
        }
    }
}

/// Only a server that has the session has the outcome of a mutation in it.
fn is_outcome(history: &History, id: &str, reply: &Frame) -> bool {
    let is_result =
        (reply.outcome.as_ref()).is_some_and(|outcome| outcome.starts_with("\"result\""));
    let mut tags = history.tags.get(id).into_iter().flatten();
    let is_query = |tag: &u32| history.calls.get(tag).is_none_or(|call| call.is_query());
    is_result && !tags.any(is_query)
}
