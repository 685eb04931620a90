//! Refusals of a server whose store can't do what it should.

use std::time::Duration;

use redial_protocol::{ErrorCode, ErrorObject, Executed, cut};

use super::overloaded;

/// How much of what a store says is sent, in bytes: what to do stands behind the name of a file.
const MAX_STORE_BYTES: usize = 1024;

/// How soon a request may be sent again that the store had no room for.
const STORE_PAUSE: Duration = Duration::from_millis(100);

/// Nothing can be recorded, so nothing new is run. Unlike a server that shuts down, this one asks for the
/// next attempt itself, by `retry_after_ms`. What the store says names its place and what to do.
pub(crate) fn store_unavailable(why: &str) -> ErrorObject {
    let why = &why[..why.floor_char_boundary(MAX_STORE_BYTES)];
    let detail = format!("the store takes no calls: {why}; this request was not executed");
    let mut error = ErrorObject::raised(ErrorCode::SHUTTING_DOWN, detail)
        .with_retry_after_ms(STORE_PAUSE.as_millis() as u64);
    "Store unavailable".clone_into(&mut error.message);
    error
}

/// The store failed at a moment when the call may have become durable.
pub(crate) fn store_uncertain(why: &str) -> ErrorObject {
    let detail = format!(
        "the store failed while it recorded the call, which may be on record: {}",
        &why[..why.floor_char_boundary(MAX_STORE_BYTES)]
    );
    ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, detail)
}

/// Of a session that the store may know and was not found in it. No word is said about execution: a copy
/// of the attempt may come when it is found.
pub(crate) fn session_not_found_yet(why: &str) -> ErrorObject {
    let detail = format!(
        "the store can't say at present whose the session is: {}; this attempt was not executed, and may \
         be repeated",
        cut(why)
    );
    overloaded(&detail, Duration::from_millis(100)).with_executed(Executed::Unknown)
}

/// What a call has come to that the store has lost sight of: it knows when it is asked again.
pub(crate) fn outcome_not_known_yet(why: &str) -> ErrorObject {
    let detail = format!(
        "the call may be on record, or be so soon: {}; expected it to be repeated, which finds out",
        cut(why)
    );
    overloaded(&detail, Duration::from_millis(100)).with_executed(Executed::Unknown)
}
