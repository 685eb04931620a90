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
