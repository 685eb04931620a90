//! Error codes, and what each says about whether the call was executed.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::text::cut;

/// A JSON-RPC error code: any `i32`, the known ones as constants.
///
/// ```
/// use redial_protocol::{ErrorCode, Executed};
///
/// let code = ErrorCode::from(-32001);
/// assert_eq!(code, ErrorCode::OVERLOADED);
/// assert_eq!(code.executed(), Executed::No);
/// assert!(code.is_retryable());
/// assert_eq!(i32::from(code), -32001);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(i32);

impl ErrorCode {
    /// -32700: what arrived is not JSON, or nests too deep. Not executed.
    pub const PARSE_ERROR: Self = Self(-32700);
    /// -32600: JSON, but not a request. Not executed.
    pub const INVALID_REQUEST: Self = Self(-32600);
    /// -32601: the server has no such method. Not executed.
    pub const METHOD_NOT_FOUND: Self = Self(-32601);
    /// -32602: the params are not what the method takes. Not executed.
    pub const INVALID_PARAMS: Self = Self(-32602);
    /// -32603: the handler panicked. Executed as far as it came, and recorded.
    pub const INTERNAL_ERROR: Self = Self(-32603);
    /// -32000: the handler returned an error. Executed, and recorded.
    pub const HANDLER_ERROR: Self = Self(-32000);
    /// -32001: no room now. This attempt was not executed, and may be followed by another after
    /// `retry_after_ms`. `data.executed` speaks of the call: unknown, if an earlier attempt of it runs.
    pub const OVERLOADED: Self = Self(-32001);
    /// -32002: the caller's deadline passed before the call started. Not executed.
    pub const DEADLINE_PASSED: Self = Self(-32002);
    /// -32003: the id belongs to a call with another method or other params, which runs or has run. Whether
    /// that is this call under other bytes is unknown.
    pub const ID_REUSED: Self = Self(-32003);
    /// -32004: the record is gone or never was here. Executed: unknown.
    pub const OUTCOME_UNKNOWN: Self = Self(-32004);
    /// -32005: the caller has not said who it is. Not executed.
    pub const UNAUTHENTICATED: Self = Self(-32005);
    /// -32006: the server is about to stop, or its store takes nothing now, which it says with
    /// `retry_after_ms`. Not executed; may be tried elsewhere or later.
    pub const SHUTTING_DOWN: Self = Self(-32006);
    /// -32007: the call never runs again. Either its caller has acknowledged it, and what happened to it
    /// is forgotten (executed: unknown), or it was fenced or cancelled before it started (not
    /// executed). `data.executed` says which; the code alone says unknown.
    pub const STALE: Self = Self(-32007);
    /// -32008: it started and did not finish. Executed: unknown, since it may have come any way.
    pub const INTERRUPTED: Self = Self(-32008);
    /// -32009: the principal may not call this method. Not executed.
    pub const FORBIDDEN: Self = Self(-32009);

    /// Whether an attempt that was answered with this code was executed, as far as the code alone says;
    /// [`ErrorObject::executed`](crate::ErrorObject::executed) also looks at what comes with it. Codes of
    /// an application (outside the range -32768 to -32000 that JSON-RPC 2.0, section 5.1, reserves) come
    /// from a handler that ran; reserved codes that are not listed here say nothing.
    #[must_use]
    pub fn executed(self) -> Executed {
        match self {
            Self::PARSE_ERROR
            | Self::INVALID_REQUEST
            | Self::METHOD_NOT_FOUND
            | Self::INVALID_PARAMS
            | Self::OVERLOADED
            | Self::DEADLINE_PASSED
            | Self::UNAUTHENTICATED
            | Self::SHUTTING_DOWN
            | Self::FORBIDDEN => Executed::No,
            Self::INTERNAL_ERROR | Self::HANDLER_ERROR => Executed::Yes,
            Self(-32768..=-32000) => Executed::Unknown,
            Self(_) => Executed::Yes,
        }
    }

    /// Whether the same call may be sent again after this answer.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::OVERLOADED | Self::SHUTTING_DOWN)
    }

    /// What the code means, in the words of the specification for its own codes (JSON-RPC 2.0,
    /// section 5.1). This is the `message` of errors that Redial raises.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PARSE_ERROR => "Parse error",
            Self::INVALID_REQUEST => "Invalid Request",
            Self::METHOD_NOT_FOUND => "Method not found",
            Self::INVALID_PARAMS => "Invalid params",
            Self::INTERNAL_ERROR => "Internal error",
            Self::HANDLER_ERROR => "Handler error",
            Self::OVERLOADED => "Overloaded",
            Self::DEADLINE_PASSED => "Deadline passed",
            Self::ID_REUSED => "Id reused for another call",
            Self::OUTCOME_UNKNOWN => "Outcome unknown",
            Self::UNAUTHENTICATED => "Unauthenticated",
            Self::SHUTTING_DOWN => "Shutting down",
            Self::STALE => "Stale",
            Self::INTERRUPTED => "Interrupted",
            Self::FORBIDDEN => "Forbidden",
            _ => "Application error",
        }
    }
}

impl From<i32> for ErrorCode {
    fn from(code: i32) -> Self {
        Self(code)
    }
}

impl From<ErrorCode> for i32 {
    fn from(code: ErrorCode) -> Self {
        code.0
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Whether a call took effect, as far as its server can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Executed {
    /// Certainly not.
    No,
    /// Its handler ran.
    Yes,
    /// It may have, and it may not.
    Unknown,
}

impl<'de> Deserialize<'de> for Executed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A derived deserialiser would take `{"no":null}`, too.
        match &*Cow::<str>::deserialize(deserializer)? {
            "no" => Ok(Self::No),
            "yes" => Ok(Self::Yes),
            "unknown" => Ok(Self::Unknown),
            other => Err(D::Error::unknown_variant(
                cut(other),
                &["no", "yes", "unknown"],
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorObject;

    /// The table of PROTOCOL.md: code, executed, whether a client may try again.
    const TABLE: [(i32, Executed, bool); 15] = [
        (-32700, Executed::No, false),
        (-32600, Executed::No, false),
        (-32601, Executed::No, false),
        (-32602, Executed::No, false),
        (-32603, Executed::Yes, false),
        (-32000, Executed::Yes, false),
        (-32001, Executed::No, true),
        (-32002, Executed::No, false),
        (-32003, Executed::Unknown, false),
        (-32004, Executed::Unknown, false),
        (-32005, Executed::No, false),
        (-32006, Executed::No, true),
        (-32007, Executed::Unknown, false),
        (-32008, Executed::Unknown, false),
        (-32009, Executed::No, false),
    ];

    #[test]
    fn each_row_of_the_table_of_codes() {
        for (number, executed, retryable) in TABLE {
            let code = ErrorCode::from(number);
            assert_eq!(code.executed(), executed, "{code:?}");
            assert_eq!(code.is_retryable(), retryable, "{code:?}");
            assert_ne!(code.name(), "Application error", "{number} has no name");
            let error = ErrorObject::raised(code, "why");
            assert_eq!(error.executed(), executed);
            assert_eq!(error.detail().as_deref(), Some("why"));
        }
    }

    #[test]
    fn an_application_code_was_executed_and_a_foreign_reserved_code_says_nothing() {
        assert_eq!(ErrorCode::from(42).executed(), Executed::Yes);
        assert_eq!(ErrorCode::from(-31999).executed(), Executed::Yes);
        assert_eq!(ErrorCode::from(-32050).executed(), Executed::Unknown);
        assert_eq!(ErrorCode::from(-32768).executed(), Executed::Unknown);
    }

    proptest! {
        #[test]
        fn every_code_survives_the_round_trip(number in any::<i32>()) {
            prop_assert_eq!(i32::from(ErrorCode::from(number)), number);
        }
    }
}
