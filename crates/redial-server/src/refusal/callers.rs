//! Refusals that concern who calls, and what that caller may.

use std::time::Duration;

use redial_protocol::{ErrorCode, ErrorObject, cut};

use super::overloaded;

pub(crate) fn unauthenticated() -> ErrorObject {
    let detail = "the caller has not shown who it is; expected a token in rpc.hello or rpc.auth first; this \
                  request was not executed";
    ErrorObject::raised(ErrorCode::UNAUTHENTICATED, detail)
}

pub(crate) fn token_rejected() -> ErrorObject {
    let detail = "the token is not valid; nothing was executed";
    ErrorObject::raised(ErrorCode::UNAUTHENTICATED, detail)
}

pub(crate) fn token_expired() -> ErrorObject {
    let detail = "the caller's token has expired; expected another one of the same principal in rpc.auth; \
                  this request was not executed";
    ErrorObject::raised(ErrorCode::UNAUTHENTICATED, detail)
}

pub(crate) fn other_principal() -> ErrorObject {
    let detail = "the connection belongs to another principal than the token; expected a connection for \
                  each principal; nothing was executed";
    ErrorObject::raised(ErrorCode::UNAUTHENTICATED, detail)
}

/// To a connection that is closed after this.
pub(crate) fn no_token(after: Duration) -> ErrorObject {
    let detail = format!(
        "the caller has not shown who it is within {after:?}; expected a token in rpc.hello or rpc.auth; the \
         connection closes, and nothing that came on it was executed"
    );
    ErrorObject::raised(ErrorCode::UNAUTHENTICATED, detail)
}

/// To a connection that is closed after this.
#[cfg(feature = "tls")]
pub(crate) fn nameless_certificate() -> ErrorObject {
    let detail = "the client's certificate does not say who calls; expected a DNS name or a URI among its \
                  subject alternative names, of 251 bytes at most and without control characters; the \
                  connection closes, and nothing that came on it was executed";
    ErrorObject::raised(ErrorCode::UNAUTHENTICATED, detail)
}

/// Says nothing of what was found, which may be a secret.
pub(crate) fn no_token_in(method: &str) -> ErrorObject {
    let session = if method == "rpc.hello" {
        "\"session\" (15 hex digits) and "
    } else {
        ""
    };
    let detail =
        format!("params of {method}: expected an object with {session}\"token\" (a string)");
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

pub(crate) fn verification_pending() -> ErrorObject {
    let detail = "another token of this connection is being verified";
    overloaded(detail, Duration::from_millis(100))
}

pub(crate) fn too_many_guesses(retry_after: Duration) -> ErrorObject {
    let detail = "too many tokens from this address were not valid, and this one was not looked at; the \
                  connection closes";
    overloaded(detail, retry_after)
}

pub(crate) fn verifier_unavailable(retry_after: Duration) -> ErrorObject {
    overloaded("the token can't be verified now", retry_after)
}

pub(crate) fn forbidden(method: &str) -> ErrorObject {
    let detail = format!(
        "this caller may not call {}; it was not executed",
        cut(method)
    );
    ErrorObject::raised(ErrorCode::FORBIDDEN, detail)
}
