//! Several servers on one table: a call may go to any of them, so that a caller who does not give up knows
//! what its call came to, unless the server that ran it is gone.

use super::{
    Violation,
    history::{CallHistory, History, Wait},
    violation,
};
use crate::journal::{End, Method, Way};

/// What the client says of a call whose server is gone, of a session that is, and of one that has tried for as
/// long as it may: the wait may be for longer.
const EXCUSES: [&str; 3] = ["Interrupted", "session", "before the deadline"];

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    if !history.is_patient {
        return;
    }
    for (tag, call) in &history.calls {
        for wait in &call.waits {
            if let Some(detail) = too_early(call, wait).filter(|_| !is_forged(history, call)) {
                let rule = "unknown only past the deadline";
                found.push(violation(rule, *tag, detail));
            }
        }
    }
}

/// Whether something in between has used the call's id for another one.
pub(super) fn is_forged(history: &History, call: &CallHistory) -> bool {
    let mut ids = call.ids.iter();
    ids.any(|id| history.tags.get(id).is_some_and(|tags| tags.len() > 1))
}

/// The caller still had time, and could have asked another server.
fn too_early(call: &CallHistory, wait: &Wait) -> Option<String> {
    let (when, end) = wait.end.as_ref()?;
    let End::Unknown(why) = end else { return None };
    let is_excused = EXCUSES.iter().any(|excuse| why.contains(excuse));
    let took = when.at - wait.from.at;
    // A handler that reports no effect ends the call, and says nothing of its other attempts.
    let is_early = took < wait.what.deadline
        && wait.what.way == Way::Call
        && wait.what.method != Method::NoEffect;
    (is_early && !is_excused && !call.is_plain)
        .then(|| format!("after {took:?} of {:?}: {why}", wait.what.deadline))
}
