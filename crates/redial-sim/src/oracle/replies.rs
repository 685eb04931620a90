//! One id has one outcome, byte for byte, and a reply answers what was requested.

use std::collections::BTreeMap;

use super::{
    Violation,
    history::{CallHistory, History},
    violation,
};
use crate::journal::{Executed, Frame};

const INTERRUPTED: i32 = -32008;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let mut outcomes: BTreeMap<&str, &str> = BTreeMap::new();
    for (position, reply) in &history.replies {
        let (Some(id), Some(outcome)) = (&reply.id, &reply.outcome) else {
            continue;
        };
        let Some(call) = mutation(history, id) else {
            continue;
        };
        found.extend(not_asked_for(history, *position, reply, id));
        let executions: usize = executions(history, id);
        let is_cut_off = reply.code == Some(INTERRUPTED) && history.is_shutting_down(*position);
        if is_cut_off || !is_recorded(reply) || call.is_plain && executions > 1 {
            continue;
        }
        let first = *outcomes.entry(id).or_insert(outcome);
        if first != outcome {
            let tag = *history.tags[id].first().expect("the id was used");
            let detail = format!("the first reply was {first}, a later one {outcome}");
            found.push(violation("one id has one outcome", tag, detail));
        }
    }
}

/// The call of an id, if it is a mutation.
fn mutation<'a>(history: &'a History, id: &str) -> Option<&'a CallHistory> {
    let tag = history.tags.get(id)?.first()?;
    history.calls.get(tag).filter(|call| !call.is_query())
}

fn executions(history: &History, id: &str) -> usize {
    let calls = history.tags[id]
        .iter()
        .filter_map(|tag| history.calls.get(tag));
    calls.map(|call| call.begun.len()).sum()
}

/// Results and errors of handlers are recorded, and that a call was interrupted is final; refusals are not
/// recorded.
fn is_recorded(reply: &Frame) -> bool {
    matches!(reply.executed, None | Some(Executed::Yes)) || reply.code == Some(INTERRUPTED)
}

/// A reply carries a value that its request did not produce.
fn not_asked_for(history: &History, position: usize, reply: &Frame, id: &str) -> Option<Violation> {
    let value = reply.value?;
    let asked = history.asked.get(&(reply.wire, id.to_owned()))?;
    let is_it = |tag: &u32| {
        let effects = &history.calls[tag].effects;
        effects
            .iter()
            .any(|(when, effect)| when.position < position && effect.value == value)
    };
    (!asked.iter().any(is_it)).then(|| {
        let detail = format!(
            "the reply on wire {} is {value}, which the call never produced",
            reply.wire
        );
        let tag = *asked.first().expect("a reply has a request");
        violation("a reply is about what was asked", tag, detail)
    })
}
