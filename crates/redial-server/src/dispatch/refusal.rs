//! What is said to those who are refused. Nothing was executed for them.

use std::time::Duration;

use redial_protocol::{ErrorCode, ErrorObject, Executed};

use crate::{admission::Refused, execution, shared::Shared};

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

fn overloaded(detail: &str, retry_after: Duration) -> ErrorObject {
    let retry_after_ms = u64::try_from(retry_after.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    ErrorObject::raised(ErrorCode::OVERLOADED, detail).with_retry_after_ms(retry_after_ms)
}
