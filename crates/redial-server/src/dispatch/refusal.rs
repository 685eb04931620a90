//! What is said to those who are refused. Nothing was executed for them.

use std::time::Duration;

use redial_protocol::{ErrorCode, ErrorObject, Executed, SessionId};

use crate::{admission::Refused, execution, shared::Shared, table::SessionLimits};

/// Why a new call is not taken on.
pub(super) enum Refusal {
    Overloaded(Refused),
    ShuttingDown,
}

impl From<Refusal> for ErrorObject {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::ShuttingDown => execution::shutting_down(),
            Refusal::Overloaded(Refused { retry_after }) => overloaded(
                "as many calls as may are running, and the queue is full",
                retry_after,
            ),
        }
    }
}

pub(super) fn id_reused() -> ErrorObject {
    let detail = "the id belongs to a call with another method or other params; \
                  expected the same call again, or an id of its own";
    ErrorObject::raised(ErrorCode::ID_REUSED, detail)
}

pub(super) fn too_many_joined(shared: &Shared) -> ErrorObject {
    let max = shared.config.max_joined;
    let detail = format!("the call is running and {max} attempts wait for it already");
    // Nothing is executed for this attempt, but it would be a lie to say so of its call.
    overloaded(&detail, Duration::from_millis(100)).with_executed(Executed::Unknown)
}

pub(super) fn table_full(retry_after: Duration) -> ErrorObject {
    overloaded("the table of calls is full", retry_after)
}

/// Copies of a request that are made on the way are not attempts.
pub(super) fn refused_before(up_to: u32) -> ErrorObject {
    let detail = format!(
        "attempts of the call up to {up_to} were refused before; expected \"attempt\" {} or higher",
        up_to.saturating_add(1)
    );
    overloaded(&detail, Duration::from_millis(1))
}

pub(super) fn session_unknown(id: SessionId) -> ErrorObject {
    let detail = format!(
        "the session {id} is not known here: its lease has ended, or it is another table's; \
         expected one that rpc.hello has opened (an id that is a UUID of version 8 names a \
         session). This attempt was not executed; nobody knows about others"
    );
    ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, detail).with_unknown_session(id)
}

pub(crate) fn call_unknown() -> ErrorObject {
    let detail = "there is no record of the call: it was never here, or its record has expired";
    ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, detail)
}

pub(super) fn already_acknowledged() -> ErrorObject {
    let detail = "the caller has acknowledged the call, so that it is forgotten whether it was \
                  executed; it will not be";
    // What is acknowledged was executed as a rule, but it may also have been refused or fenced.
    ErrorObject::raised(ErrorCode::STALE, detail).with_executed(Executed::Unknown)
}

pub(super) fn fenced() -> ErrorObject {
    let detail = "the call was not executed, and its id is fenced: somebody has been told that it \
                  never will be";
    ErrorObject::raised(ErrorCode::STALE, detail).with_executed(Executed::No)
}

pub(super) fn no_slot(limits: &SessionLimits) -> ErrorObject {
    let detail = format!(
        "the session has a window of {}, and {} bytes for it; expected calls before this one to be \
         acknowledged first",
        limits.window, limits.max_bytes
    );
    overloaded(&detail, Duration::from_millis(50))
}

/// Nothing was done for the question; what becomes of the call is not said.
pub(super) fn no_slot_to_ask(limits: &SessionLimits) -> ErrorObject {
    no_slot(limits).with_executed(Executed::Unknown)
}

pub(super) fn too_many_sessions(max: usize) -> ErrorObject {
    let detail = format!("this connection has {max} sessions; expected one of them to be used");
    overloaded(&detail, Duration::from_secs(1))
}

pub(super) fn sessions_full() -> ErrorObject {
    overloaded(
        "there are as many sessions as may be",
        Duration::from_secs(1),
    )
}

fn overloaded(detail: &str, retry_after: Duration) -> ErrorObject {
    let retry_after_ms = u64::try_from(retry_after.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    ErrorObject::raised(ErrorCode::OVERLOADED, detail).with_retry_after_ms(retry_after_ms)
}
