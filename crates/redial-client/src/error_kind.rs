//! What kind of error a call ended with, in a word that names no one: for metrics and traces.

use redial_protocol::ErrorCode;

use crate::{cause::Cause, error::CallError};

/// What has no word of its own.
pub(crate) const OTHER: &str = "_OTHER";

/// The code of the server's error, if it is one.
pub(crate) fn code_of(error: &CallError) -> Option<ErrorCode> {
    match error.cause() {
        Cause::Server(error) => Some(error.code),
        _ => None,
    }
}

/// What kind of error it is, of those that are not the server's.
pub(crate) fn kind_of(cause: &Cause) -> &'static str {
    match cause {
        Cause::NoReply(_) => "timeout",
        Cause::NotSent(_) => "not_sent",
        Cause::Connect(_) | Cause::NoEndpoint(_) => "connect",
        Cause::EndpointDown { .. } => "endpoint_down",
        Cause::ConnectionLost { .. } | Cause::Unread => "connection_lost",
        Cause::SessionLost | Cause::NoSession(_) => "session_lost",
        Cause::TooLarge(_) | Cause::ReplyTooLarge(_) => "too_large",
        Cause::RefusedByLayer(_) => "refused_by_layer",
        Cause::MalformedReply(_) => "malformed_reply",
        Cause::NoToken(_) => "token",
        _ => OTHER,
    }
}
