//! A call has at most one execution, and at most one effect.

use super::{
    Violation,
    books::{Account, Books, Happening},
    violation,
};
use crate::journal::Method;

pub(super) fn check(books: &Books, found: &mut Vec<Violation>) {
    for (tag, account) in &books.calls {
        if account.is_query() {
            continue;
        }
        let effects: Vec<_> = account.effects.iter().map(|(when, _)| *when).collect();
        if let Some(why) = twice(books, account, &effects) {
            found.push(violation("at most one effect", *tag, why));
            continue;
        }
        // A handler that says that it had no effect may be run again.
        if account.method != Some(Method::NoEffect)
            && let Some(why) = twice(books, account, &account.begun)
        {
            found.push(violation("at most one execution", *tag, why));
        }
    }
    one_call_for_an_id(books, found);
}

/// Why these are too many, if they are.
fn twice(books: &Books, account: &Account, happenings: &[Happening]) -> Option<String> {
    let pairs = happenings.windows(2);
    let mut wrong = pairs.filter(|pair| !(account.is_plain && is_excused(books, account, pair)));
    let pair = wrong.next()?;
    Some(format!(
        "{} of them: at {:?} (life {}) and at {:?} (life {})",
        happenings.len(),
        pair[0].at,
        pair[0].life,
        pair[1].at,
        pair[1].life
    ))
}

/// Whether the server may have forgotten a plain call by the second time.
fn is_excused(books: &Books, account: &Account, pair: &[Happening]) -> bool {
    if pair[0].life != pair[1].life {
        return true;
    }
    let ends = account.finished.iter();
    let mut ends = ends.filter(|end| end.place > pair[0].place && end.place < pair[1].place);
    ends.next()
        .is_some_and(|end| pair[1].at.saturating_sub(end.at) >= books.ttl)
}

/// An id is the name of one call, whatever else is asked for under it.
fn one_call_for_an_id(books: &Books, found: &mut Vec<Violation>) {
    for (id, tags) in &books.tags {
        let accounts = tags
            .iter()
            .filter_map(|tag| Some((tag, books.calls.get(tag)?)));
        let executed: Vec<_> = accounts
            .filter(|(_, account)| account.ids.len() == 1 && !account.is_plain)
            .filter(|(_, account)| !account.is_query() && account.method != Some(Method::NoEffect))
            .filter(|(_, account)| !account.begun.is_empty())
            .map(|(tag, _)| *tag)
            .collect();
        if executed.len() > 1 {
            let why = format!("calls {executed:?} were executed under the id {id}");
            found.push(violation("an id names one call", executed[0], why));
        }
    }
}
