//! A call has at most one execution, and at most one effect.

use std::time::Duration;

use super::{
    Violation,
    history::{CallHistory, History, Occurrence},
    violation,
};
use crate::journal::{Frozen, Method};

/// A gap of a server's clock counts for an eighth of the TTL, within these bounds.
const LEAST_MOMENT: Duration = Duration::from_millis(80);
const MOST_MOMENT: Duration = Duration::from_secs(1);

/// How long a fault delays something at most.
const FAULTS: Duration = Duration::from_millis(120);

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    for (tag, call) in &history.calls {
        if call.is_query() {
            continue;
        }
        let effects: Vec<_> = call.effects.iter().map(|(when, _)| *when).collect();
        if let Some(why) = twice(history, call, &effects) {
            found.push(violation("at most one effect", *tag, why));
            continue;
        }
        // A handler that reports no effect may run again.
        let is_resumable = history.is_resumable && call.method == Some(Method::Inc);
        if call.method != Some(Method::NoEffect)
            && !is_resumable
            && let Some(why) = twice(history, call, &call.begun)
        {
            found.push(violation("at most one execution", *tag, why));
        }
    }
    one_call_for_an_id(history, found);
}

/// Why these are too many, if so.
fn twice(history: &History, call: &CallHistory, occurrences: &[Occurrence]) -> Option<String> {
    let pairs = occurrences.windows(2);
    let mut wrong = pairs.filter(|pair| !(call.is_plain && is_excused(history, call, pair)));
    let pair = wrong.next()?;
    Some(format!(
        "{} of them: at {:?} (life {}) and at {:?} (life {})",
        occurrences.len(),
        pair[0].at,
        pair[0].life,
        pair[1].at,
        pair[1].life
    ))
}

/// Whether the server may have dropped the record of a plain call by the second time.
fn is_excused(history: &History, call: &CallHistory, pair: &[Occurrence]) -> bool {
    if history.is_stored {
        return false;
    }
    // Which of the servers has stood still is not looked at. Another one is another rule's.
    if history.has_endpoints || pair[0].life != pair[1].life {
        return true;
    }
    let ends = call.finished.iter();
    let mut ends =
        ends.filter(|end| end.position > pair[0].position && end.position < pair[1].position);
    ends.next()
        .is_some_and(|end| awake_at_most(history, end.at, pair[1].at) >= history.ttl)
}

/// How much of this time a server may have counted. Of a gap of its clock it counts a moment, and the
/// timer of a fault may wake it once while it is frozen.
fn awake_at_most(history: &History, from: Duration, to: Duration) -> Duration {
    let (frozen, freezes) = history.frozen(Frozen::Server, from, to);
    let moment = (history.ttl / 8).clamp(LEAST_MOMENT, MOST_MOMENT) + FAULTS;
    to.saturating_sub(from) - frozen + frozen.min(moment * freezes)
}

/// An id names one call, whatever else is requested under it.
fn one_call_for_an_id(history: &History, found: &mut Vec<Violation>) {
    for (id, tags) in &history.tags {
        let calls = tags
            .iter()
            .filter_map(|tag| Some((tag, history.calls.get(tag)?)));
        let executed: Vec<_> = calls
            .filter(|(_, call)| call.ids.len() == 1 && !call.is_plain)
            .filter(|(_, call)| !call.is_query() && call.method != Some(Method::NoEffect))
            .filter(|(_, call)| !call.begun.is_empty())
            .map(|(tag, _)| *tag)
            .collect();
        if executed.len() > 1 {
            let why = format!("calls {executed:?} were executed under the id {id}");
            found.push(violation("an id names one call", executed[0], why));
        }
    }
}
