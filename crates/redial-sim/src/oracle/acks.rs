//! What a client acknowledges is over: its caller has been told, or wants to know nothing.

use std::collections::BTreeMap;

use super::{
    Violation,
    books::{Account, Books, Place},
    violation,
};
use crate::journal::{Ack, End, numbered};

pub(super) fn check(books: &Books, found: &mut Vec<Violation>) {
    let sessions = sessions(books);
    for (place, ack) in &books.acks {
        for (number, tag, account) in sessions.get(&ack.session).into_iter().flatten() {
            if covers(ack, *number) && is_waited_for(account, *place) {
                let detail = format!(
                    "its number {number} of session {} was acknowledged, and its caller waits or asks again",
                    ack.session
                );
                found.push(violation("acknowledged means delivered", *tag, detail));
            }
        }
    }
}

type Calls<'a> = Vec<(u64, u32, &'a Account)>;

/// The calls of each session. What went on under another id has left its first one behind.
fn sessions(books: &Books) -> BTreeMap<String, Calls<'_>> {
    let mut sessions: BTreeMap<String, Calls<'_>> = BTreeMap::new();
    for (tag, account) in &books.calls {
        let mut ids = account.ids.iter();
        if let (Some(id), None) = (ids.next(), ids.next())
            && let Some((session, number)) = numbered(id)
        {
            let calls = sessions.entry(session).or_default();
            calls.push((number, *tag, account));
        }
    }
    sessions
}

pub(super) fn covers(ack: &Ack, number: u64) -> bool {
    let mut above = ack.above.iter();
    number < ack.below || above.any(|(from, to)| (*from..*to).contains(&number))
}

/// Somebody waits, or asks later, and nobody has been told the outcome.
fn is_waited_for(account: &Account, place: Place) -> bool {
    let mut ends = account.waits.iter().filter_map(|wait| wait.end.as_ref());
    let is_known = ends.any(|(when, end)| when.place < place && is_outcome(end));
    let mut waits = account.waits.iter();
    !is_known && waits.any(|wait| !wait.is_over_at(place))
}

fn is_outcome(end: &End) -> bool {
    !matches!(end, End::Unknown(_) | End::Dropped | End::Crashed)
}
