//! What a caller is told is true, and it is told in time.

use std::time::Duration;

use super::{
    Violation,
    books::{Account, Books, Place, Wait},
    violation,
};
use crate::journal::{End, Method, Way};

/// How much later than its deadline a wait may end: timers count in milliseconds.
const SLACK: Duration = Duration::from_millis(1);

/// In replies that say that a call was not executed and never will be.
const NEVER: &str = r#""state":"never""#;
const NOT_EXECUTED: &str = r#""executed":"no""#;
const STALE: i32 = -32007;
const NEVER_RULE: &str = "never means no effect";

const HANDLER_ERROR: i32 = -32000;
const INTERNAL_ERROR: i32 = -32603;

pub(super) fn check(books: &Books, found: &mut Vec<Violation>) {
    for (tag, account) in &books.calls {
        for wait in &account.waits {
            let (rule, untruth) = match &wait.end {
                None => ("every call ends", Some("it has no end".to_owned())),
                Some((_, end)) => (rule(end), untruth_of_any(books, account, wait, end)),
            };
            if let Some(detail) = untruth {
                found.push(violation(rule, *tag, detail));
            }
            found.extend(overdue(*tag, wait));
        }
    }
    untruths_to_others(books, found);
}

/// Whoever takes a call back or asks for it, beside its caller, is told the truth too.
fn untruths_to_others(books: &Books, found: &mut Vec<Violation>) {
    for (_, reply) in &books.replies {
        let Some(id) = &reply.id else { continue };
        let is_fenced = reply.code == Some(STALE) && reply.text.contains(NOT_EXECUTED);
        let about = books.about.get(&(reply.wire, id.clone()));
        let about = about.filter(|_| reply.text.contains(NEVER));
        let about = about.or(is_fenced.then_some(id));
        let tags = about
            .and_then(|id| books.tags.get(id))
            .into_iter()
            .flatten();
        for tag in tags {
            let account = books
                .calls
                .get(tag)
                .filter(|account| account.ids.len() == 1);
            if let Some(detail) = account.and_then(executed_after_all) {
                found.push(violation(NEVER_RULE, *tag, detail));
            }
        }
    }
}

fn rule(end: &End) -> &'static str {
    match end {
        End::Ok(_) => "ok means exactly one effect",
        End::Failed(_) => "failed means that the handler failed",
        End::NotExecuted(_) => "not executed means no effect",
        End::Never => NEVER_RULE,
        End::Unknown(_) | End::Dropped | End::Crashed => "nothing is said",
    }
}

fn overdue(tag: u32, wait: &Wait) -> Option<Violation> {
    let (when, end) = wait.end.as_ref()?;
    let took = when.at - wait.from.at;
    let limit = wait.what.deadline + SLACK;
    (took > limit).then(|| {
        let detail = format!(
            "{end} after {took:?}; the deadline was {:?}",
            wait.what.deadline
        );
        violation("every call ends by its deadline", tag, detail)
    })
}

/// As below; but who asks for an outcome does not say what was asked for. If something on the way
/// has forged a request under the call's id, the outcome may be that of the forgery.
fn untruth_of_any(books: &Books, account: &Account, wait: &Wait, end: &End) -> Option<String> {
    let untruth = untruth(account, wait, end)?;
    let asks = wait.what.way == Way::Resolve && matches!(end, End::Ok(_) | End::Failed(_));
    let tags = account.ids.iter().filter_map(|id| books.tags.get(id));
    let mut others = tags.flatten().filter_map(|tag| books.calls.get(tag));
    let is_true = |other: &Account| self::untruth(other, wait, end).is_none();
    (!(asks && others.any(is_true))).then_some(untruth)
}

/// What is wrong about what a caller was told, if anything.
fn untruth(account: &Account, wait: &Wait, end: &End) -> Option<String> {
    match end {
        End::Ok(_) if account.is_query() => None,
        End::Ok(value) => no_such_effect(account, wait, *value),
        End::Failed(code) => not_so_failed(account, wait, *code),
        End::NotExecuted(_) | End::Never => executed_after_all(account),
        End::Unknown(_) | End::Dropped | End::Crashed => None,
    }
}

fn no_such_effect(account: &Account, wait: &Wait, value: i64) -> Option<String> {
    if !matches!(account.method, Some(Method::Inc | Method::NoEffect)) {
        return Some(format!(
            "the handler never gives a value, and {value} was told"
        ));
    }
    let (from, to) = (account.seen?, wait.end.as_ref()?.0.place);
    let is_it = |place: Place, found: i64| found == value && (from..to).contains(&place);
    let mut effects = account.effects.iter();
    match effects.any(|(when, effect)| is_it(when.place, effect.value)) {
        true => None,
        false => Some(format!(
            "{value} was told, and its effects until then are {:?}",
            account.effects
        )),
    }
}

fn not_so_failed(account: &Account, wait: &Wait, code: i32) -> Option<String> {
    let to = wait.end.as_ref()?.0.place;
    let effects = account
        .effects
        .iter()
        .filter(|(when, _)| when.place < to)
        .count();
    let has_begun = account.begun.iter().any(|when| when.place < to);
    let is_so = match (account.method?, code) {
        (Method::FailAfter, HANDLER_ERROR) | (Method::Panic, INTERNAL_ERROR) => effects > 0,
        (Method::FailBefore, HANDLER_ERROR) => has_begun && effects == 0,
        _ => false,
    };
    (!is_so).then(|| {
        let method = account.method;
        format!("{code} was told of {method:?}, begun: {has_begun}, effects: {effects}")
    })
}

fn executed_after_all(account: &Account) -> Option<String> {
    // A copy of a refused call with a plain id may run: nothing is left of the refusal.
    let until = match account.is_plain {
        true => account.copied.unwrap_or(Place::MAX),
        false => Place::MAX,
    };
    if let Some((when, effect)) = account.effects.iter().find(|(when, _)| when.place < until) {
        return Some(format!("it has had an effect at {:?}: {effect:?}", when.at));
    }
    // A handler that takes a call back has been executed, and nothing has happened.
    let mut begun = account.begun.iter().filter(|when| when.place < until);
    let begun = begun
        .next()
        .filter(|_| account.method != Some(Method::NoEffect))?;
    Some(format!("its handler began at {:?}", begun.at))
}
