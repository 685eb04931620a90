//! Refusals of calls that layers have ended.

use redial_protocol::{ErrorCode, ErrorObject};

/// To a call whose layers say that it had no effect, although they have stopped its handler.
pub(crate) fn cut_by_layer() -> ErrorObject {
    let detail = "a layer of the server ended the call while the handler was running; how far it came is \
                  unknown, and the call is not executed again";
    ErrorObject::raised(ErrorCode::INTERRUPTED, detail)
}

/// To a handler that a layer has let go of, and that would start after its call has ended.
pub(crate) fn ended_by_layer() -> ErrorObject {
    let detail = "a layer of the server ended the call before the handler started";
    ErrorObject::raised(ErrorCode::INTERRUPTED, detail)
}

#[cfg(feature = "tower")]
pub(crate) fn overloaded_layer(retry_after: std::time::Duration) -> ErrorObject {
    let detail = "a layer of the server has no room for the call now; it was not executed";
    let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    ErrorObject::raised(ErrorCode::OVERLOADED, detail).with_retry_after_ms(retry_after_ms.max(1))
}
