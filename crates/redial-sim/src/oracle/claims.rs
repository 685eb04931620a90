//! What a caller hears is true, and it hears it in time.

use std::time::Duration;

use super::{
    Violation,
    history::{CallHistory, History, Position, Wait},
    violation,
};
use crate::journal::{End, Executed, Frozen, Method, Way};

/// How late a wait may end: timers count in milliseconds.
const SLACK: Duration = Duration::from_millis(1);

/// How long a client that stood still looks for what has arrived. A call that begins meanwhile ends
/// no sooner.
const LOOK: Duration = Duration::from_millis(51);

/// Found in replies that say that a call will never be executed.
const NEVER: &str = r#""state":"never""#;
const STALE: i32 = -32007;
const NEVER_RULE: &str = "never means no effect";

/// What [`Method::PassOn`] passes on.
const PASSED_ON: [i32; 6] = [-32000, 7, -32603, -32001, -32004, -32007];
const PASSED_ON_DATA: [&str; 3] = [
    r#"{"executed":"no"}"#,
    r#"{"executed":"yes","data":{"executed":"no"}}"#,
    r#"{"executed":"unknown","unknown_session":"123456789abcdef"}"#,
];

const HANDLER_ERROR: i32 = -32000;
const INTERRUPTED: i32 = -32008;
const INTERNAL_ERROR: i32 = -32603;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    for (tag, call) in &history.calls {
        for wait in &call.waits {
            let (rule, untruth) = match &wait.end {
                None => ("every call ends", Some("it has not ended".to_owned())),
                Some((_, end)) => (rule(end), untruth_of_any(history, call, wait, end)),
            };
            if let Some(detail) = untruth {
                found.push(violation(rule, *tag, detail));
            }
            found.extend(overdue(history, *tag, wait));
        }
    }
    untruths_in_replies(history, found);
    interrupted_transactions(history, found);
}

/// What the middlebox hears about a call is true, too.
fn untruths_in_replies(history: &History, found: &mut Vec<Violation>) {
    for (_, reply) in &history.replies {
        let Some(id) = &reply.id else { continue };
        let is_fenced = reply.code == Some(STALE) && reply.executed == Some(Executed::No);
        let about = history.about.get(&(reply.wire, id.clone()));
        let about = about.filter(|_| reply.text.contains(NEVER));
        let about = about.or(is_fenced.then_some(id));
        let tags = about
            .and_then(|id| history.tags.get(id))
            .into_iter()
            .flatten();
        for tag in tags {
            let call = history.calls.get(tag).filter(|call| call.ids.len() == 1);
            if let Some(detail) = call.and_then(executed_after_all) {
                found.push(violation(NEVER_RULE, *tag, detail));
            }
        }
    }
}

fn rule(end: &End) -> &'static str {
    match end {
        End::Ok(_) => "ok means exactly one effect",
        End::Failed(..) => "failed means that the handler failed",
        End::NotExecuted(_) => "not executed means no effect",
        End::Never => NEVER_RULE,
        End::Unknown(_) | End::Dropped | End::Crashed => "nothing is said",
    }
}

fn overdue(history: &History, tag: u32, wait: &Wait) -> Option<Violation> {
    let (when, end) = wait.end.as_ref()?;
    let took = when.at - wait.from.at;
    let client = Frozen::Client(wait.what.client);
    let (frozen, freezes) = history.frozen(client, wait.from.at.saturating_sub(LOOK), when.at);
    let limit = wait.what.deadline + SLACK + frozen + LOOK * freezes;
    (took > limit).then(|| {
        let detail = format!(
            "{end} after {took:?}; the deadline was {:?}",
            wait.what.deadline
        );
        violation("every call ends by its deadline", tag, detail)
    })
}

/// As [`untruth`], but `rpc.resolve` names no params: if the middlebox forged a request under the
/// call's id, the outcome may be that of the forgery.
fn untruth_of_any(history: &History, call: &CallHistory, wait: &Wait, end: &End) -> Option<String> {
    let untruth = untruth(call, wait, end)?;
    // The next life on a store has the session, and knows no refusal: a copy of a refused attempt may run there,
    // and nowhere else but at another server on the same store.
    let is_refusal = matches!(end, End::NotExecuted(_));
    if history.is_stored
        && is_refusal
        && executed_before(call, call.copied).is_none()
        && (history.is_shared || executed_only_after_a_restart(history, call))
    {
        return None;
    }
    let asks = wait.what.way == Way::Resolve && matches!(end, End::Ok(_) | End::Failed(..));
    let tags = call.ids.iter().filter_map(|id| history.tags.get(id));
    let mut others = tags.flatten().filter_map(|tag| history.calls.get(tag));
    let is_true = |other: &CallHistory| self::untruth(other, wait, end).is_none();
    (!(asks && others.any(is_true))).then_some(untruth)
}

/// Whether the call was executed by no server that was there when it was made.
fn executed_only_after_a_restart(history: &History, call: &CallHistory) -> bool {
    let made_in = call.seen.map_or(0, |seen| history.life_at(seen));
    let effects = call.effects.iter().map(|(when, _)| when);
    // A handler may run and report that it had no effect.
    let begun = call
        .begun
        .iter()
        .filter(|_| call.method != Some(Method::NoEffect));
    let mut executions = begun.chain(effects);
    executions.all(|when| when.life > made_in)
}

/// Nothing of a transaction can be interrupted: it happened with its record, or it did not happen.
fn interrupted_transactions(history: &History, found: &mut Vec<Violation>) {
    if !history.is_transactional {
        return;
    }
    for (_, reply) in &history.replies {
        let id = reply.id.as_deref().unwrap_or_default();
        let tags = history.tags.get(id).into_iter().flatten();
        let mut calls = tags.filter_map(|tag| Some((tag, history.calls.get(tag)?)));
        if reply.code == Some(INTERRUPTED)
            && let Some((tag, _)) = calls.find(|(_, call)| !call.is_query())
        {
            let rule = "a transaction is never interrupted";
            found.push(violation(rule, *tag, reply.text.clone()));
        }
    }
}

/// What is wrong with what a caller heard, if anything.
fn untruth(call: &CallHistory, wait: &Wait, end: &End) -> Option<String> {
    match end {
        End::Ok(_) if call.is_query() => None,
        End::Ok(value) => no_such_effect(call, wait, *value),
        End::Failed(code, data) => not_so_failed(call, wait, *code, data.as_deref()),
        End::NotExecuted(_) | End::Never => executed_after_all(call),
        End::Unknown(_) | End::Dropped | End::Crashed => None,
    }
}

fn no_such_effect(call: &CallHistory, wait: &Wait, value: i64) -> Option<String> {
    if !matches!(call.method, Some(Method::Inc | Method::NoEffect)) {
        return Some(format!(
            "the caller heard {value}, and the handler never returns a value"
        ));
    }
    let (from, to) = (call.seen?, wait.end.as_ref()?.0.position);
    let is_it = |position: Position, found: i64| found == value && (from..to).contains(&position);
    let mut effects = call.effects.iter();
    let is_true = effects.any(|(when, effect)| is_it(when.position, effect.value));
    (!is_true).then(|| {
        format!(
            "the caller heard {value}, and the effects of the call are {:?}",
            call.effects
        )
    })
}

fn not_so_failed(call: &CallHistory, wait: &Wait, code: i32, data: Option<&str>) -> Option<String> {
    let to = wait.end.as_ref()?.0.position;
    let effects = call
        .effects
        .iter()
        .filter(|(when, _)| when.position < to)
        .count();
    let has_begun = call.begun.iter().any(|when| when.position < to);
    let is_so = match (call.method?, code) {
        (Method::FailAfter, HANDLER_ERROR) => effects > 0 && data.is_none(),
        (Method::FailBefore, HANDLER_ERROR) => has_begun && effects == 0 && data.is_none(),
        (Method::Panic, INTERNAL_ERROR) => effects > 0,
        // A crash may come between the intent and the handler.
        (_, INTERRUPTED) => data.is_none(),
        (Method::PassOn, _) => {
            effects > 0
                && PASSED_ON.contains(&code)
                && data.is_some_and(|data| PASSED_ON_DATA.contains(&data))
        }
        _ => false,
    };
    (!is_so).then(|| {
        let method = call.method;
        format!(
            "the caller heard {code} {data:?} of {method:?}, begun: {has_begun}, effects: {effects}"
        )
    })
}

fn executed_after_all(call: &CallHistory) -> Option<String> {
    // A copy of a refused call with a plain id may run: refusals are not recorded there.
    let copied = call.copied.filter(|_| call.is_plain);
    executed_before(call, copied)
}

/// What the call did before this position, or ever.
fn executed_before(call: &CallHistory, until: Option<Position>) -> Option<String> {
    let until = until.unwrap_or(Position::MAX);
    if let Some((when, effect)) = call.effects.iter().find(|(when, _)| when.position < until) {
        return Some(format!("it had an effect at {:?}: {effect:?}", when.at));
    }
    // A handler may run and report that it had no effect.
    let mut begun = call.begun.iter().filter(|when| when.position < until);
    let begun = begun
        .next()
        .filter(|_| call.method != Some(Method::NoEffect))?;
    Some(format!("its handler began at {:?}", begun.at))
}
