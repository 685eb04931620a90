//! What goes over the wires: one id has one outcome, byte for byte, and a reply is about what was
//! asked.

use std::collections::BTreeMap;

use super::{
    Violation,
    books::{Account, Books},
    violation,
};
use crate::journal::Frame;

pub(super) fn check(books: &Books, found: &mut Vec<Violation>) {
    let mut outcomes: BTreeMap<&str, &str> = BTreeMap::new();
    for (place, reply) in &books.replies {
        let (Some(id), Some(outcome)) = (&reply.id, &reply.outcome) else {
            continue;
        };
        let Some(account) = mutation(books, id) else {
            continue;
        };
        found.extend(not_asked_for(books, *place, reply, id));
        let executions: usize = executions(books, id);
        if !is_recorded(reply) || account.is_plain && executions > 1 {
            continue;
        }
        let first = *outcomes.entry(id).or_insert(outcome);
        if first != outcome {
            let tag = *books.tags[id].first().expect("it was used");
            let detail = format!("{first} was answered first, and later {outcome}");
            found.push(violation("one id has one outcome", tag, detail));
        }
    }
}

/// The call that an id is of, if it is one with effect.
fn mutation<'a>(books: &'a Books, id: &str) -> Option<&'a Account> {
    let tag = books.tags.get(id)?.first()?;
    books.calls.get(tag).filter(|account| !account.is_query())
}

fn executions(books: &Books, id: &str) -> usize {
    let accounts = books.tags[id].iter().filter_map(|tag| books.calls.get(tag));
    accounts.map(|account| account.begun.len()).sum()
}

/// Results and the errors of handlers are recorded. What is refused is not.
fn is_recorded(reply: &Frame) -> bool {
    match reply.code {
        None => true,
        Some(-32000 | -32603) => !reply.text.contains(r#""executed":"no""#),
        Some(_) => false,
    }
}

/// A value was answered to a request that had no such effect.
fn not_asked_for(books: &Books, place: usize, reply: &Frame, id: &str) -> Option<Violation> {
    let value = reply.value?;
    let asked = books.asked.get(&(reply.wire, id.to_owned()))?;
    let is_it = |tag: &u32| {
        let effects = &books.calls[tag].effects;
        effects
            .iter()
            .any(|(when, effect)| when.place < place && effect.value == value)
    };
    (!asked.iter().any(is_it)).then(|| {
        let detail = format!(
            "{value} was answered on wire {}, and is no value of it",
            reply.wire
        );
        let tag = *asked.first().expect("it was asked for");
        violation("a reply is about what was asked", tag, detail)
    })
}
