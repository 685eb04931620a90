//! Error codes, and what each says about whether the call was executed.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{session::SessionId, text::cut};

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
    /// -32001: no room now. Not executed; may be tried again after `retry_after_ms`.
    pub const OVERLOADED: Self = Self(-32001);
    /// -32002: the caller's deadline passed before the call started. Not executed.
    pub const DEADLINE_PASSED: Self = Self(-32002);
    /// -32003: the id belongs to a call with another method or other params. Not executed.
    pub const ID_REUSED: Self = Self(-32003);
    /// -32004: the record is gone or never was here. Nobody knows whether it was executed.
    pub const OUTCOME_UNKNOWN: Self = Self(-32004);
    /// -32005: the caller has not said who it is. Not executed.
    pub const UNAUTHENTICATED: Self = Self(-32005);
    /// -32006: the server is about to stop. Not executed; may be tried elsewhere or later.
    pub const SHUTTING_DOWN: Self = Self(-32006);
    /// -32007: the caller already acknowledged this call. It was executed before.
    pub const STALE: Self = Self(-32007);
    /// -32008: it started and did not finish. Nobody knows how far it came.
    pub const INTERRUPTED: Self = Self(-32008);

    /// Whether an attempt that was answered with this code was executed. Codes of an application
    /// (outside the range -32768 to -32000 that JSON-RPC 2.0 reserves) come from a handler that
    /// ran; reserved codes that are not listed here say nothing.
    #[must_use]
    pub fn executed(self) -> Executed {
        match self {
            Self::PARSE_ERROR
            | Self::INVALID_REQUEST
            | Self::METHOD_NOT_FOUND
            | Self::INVALID_PARAMS
            | Self::OVERLOADED
            | Self::DEADLINE_PASSED
            | Self::ID_REUSED
            | Self::UNAUTHENTICATED
            | Self::SHUTTING_DOWN => Executed::No,
            Self::INTERNAL_ERROR | Self::HANDLER_ERROR | Self::STALE => Executed::Yes,
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
            Self::STALE => "Already acknowledged",
            Self::INTERRUPTED => "Interrupted",
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

/// Whether a call took effect, as far as the one who says it can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executed {
    /// Certainly not.
    No,
    /// Its handler ran.
    Yes,
    /// It may have, and it may not.
    Unknown,
}

/// The `data` of every error that Redial itself raises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// Whether the call was executed.
    pub executed: Executed,
    /// How long to wait before another attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The session that the server doesn't know, if that is what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_session: Option<SessionId>,
    /// What was wrong and what was expected, for people. Repeats at most 200 bytes of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The `error` member of a reply.
///
/// ```
/// use redial_protocol::{ErrorCode, ErrorObject, Executed};
///
/// let error = ErrorObject::raised(ErrorCode::OVERLOADED, "the queue of 8 is full")
///     .with_retry_after_ms(40);
/// assert_eq!(error.executed(), Executed::No);
/// assert_eq!(error.retry_after_ms(), Some(40));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorObject {
    /// Which error.
    pub code: ErrorCode,
    /// One sentence.
    pub message: String,
    /// Whatever else the sender had to say, as JSON; [`ErrorData`] if Redial raised the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl ErrorObject {
    /// An error that Redial raises itself: its message is the code's [name](ErrorCode::name), and
    /// its data says whether the call was executed, with `detail` for people.
    #[must_use]
    pub fn raised(code: ErrorCode, detail: impl fmt::Display) -> Self {
        let detail = Some(detail.to_string()).filter(|text| !text.is_empty());
        let data = ErrorData {
            executed: code.executed(),
            retry_after_ms: None,
            unknown_session: None,
            detail,
        };
        Self {
            code,
            message: code.name().to_owned(),
            data: Some(raw(&data)),
        }
    }

    /// The same error, which asks to be left alone for this many milliseconds.
    #[must_use]
    pub fn with_retry_after_ms(self, retry_after_ms: u64) -> Self {
        self.with_data(|data| data.retry_after_ms = Some(retry_after_ms))
    }

    /// The same error, which says about execution what its code alone does not.
    #[must_use]
    pub fn with_executed(self, executed: Executed) -> Self {
        self.with_data(|data| data.executed = executed)
    }

    /// Whether the call was executed: what the data says or, where it says nothing, the code. The
    /// codes from -32001 to -32008 are Redial's only if the data says so too: JSON-RPC 2.0
    /// (section 5.1) leaves them to each server, and another one may mean anything by them.
    #[must_use]
    pub fn executed(&self) -> Executed {
        match (self.redial_data(), self.code) {
            (Some(data), _) => data.executed,
            (None, ErrorCode(-32008..=-32001)) => Executed::Unknown,
            (None, code) => code.executed(),
        }
    }

    /// The same error, because the sender doesn't know the session.
    #[must_use]
    pub fn with_unknown_session(self, session: SessionId) -> Self {
        self.with_data(|data| data.unknown_session = Some(session))
    }

    /// How long to wait before another attempt, in milliseconds, if the sender asked for it.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.redial_data()?.retry_after_ms
    }

    /// What was wrong and what was expected, if Redial raised the error.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        self.redial_data()?.detail
    }

    /// The data, if it is Redial's: if it says whether the call was executed. What else it says is
    /// taken if it can be read.
    #[must_use]
    pub fn redial_data(&self) -> Option<ErrorData> {
        #[derive(Deserialize)]
        struct Lenient<'a> {
            executed: Executed,
            #[serde(borrow)]
            retry_after_ms: Option<&'a RawValue>,
            #[serde(borrow)]
            unknown_session: Option<&'a RawValue>,
            #[serde(borrow)]
            detail: Option<&'a RawValue>,
        }
        let lenient: Lenient<'_> = serde_json::from_str(self.data.as_ref()?.get()).ok()?;
        let number = |raw: &RawValue| serde_json::from_str(raw.get()).ok();
        let session = |raw: &RawValue| serde_json::from_str(raw.get()).ok();
        let text = |raw: &RawValue| serde_json::from_str(raw.get()).ok();
        Some(ErrorData {
            executed: lenient.executed,
            retry_after_ms: lenient.retry_after_ms.and_then(number),
            unknown_session: lenient.unknown_session.and_then(session),
            detail: lenient.detail.and_then(text),
        })
    }

    fn with_data(mut self, change: impl FnOnce(&mut ErrorData)) -> Self {
        let mut data = self.redial_data().unwrap_or(ErrorData {
            executed: self.code.executed(),
            retry_after_ms: None,
            unknown_session: None,
            detail: None,
        });
        change(&mut data);
        self.data = Some(raw(&data));
        self
    }
}

impl fmt::Display for ErrorObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, cut(&self.message))?;
        match self.detail() {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ErrorObject {}

impl PartialEq for ErrorObject {
    fn eq(&self, other: &Self) -> bool {
        let text = |error: &Self| error.data.as_ref().map(|data| data.get().to_owned());
        self.code == other.code && self.message == other.message && text(self) == text(other)
    }
}

fn raw(data: &ErrorData) -> Box<RawValue> {
    to_raw_value(data).expect("a struct of plain members is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of the contract: code, executed, client retries.
    const TABLE: [(i32, Executed, bool); 14] = [
        (-32700, Executed::No, false),
        (-32600, Executed::No, false),
        (-32601, Executed::No, false),
        (-32602, Executed::No, false),
        (-32603, Executed::Yes, false),
        (-32000, Executed::Yes, false),
        (-32001, Executed::No, true),
        (-32002, Executed::No, false),
        (-32003, Executed::No, false),
        (-32004, Executed::Unknown, false),
        (-32005, Executed::No, false),
        (-32006, Executed::No, true),
        (-32007, Executed::Yes, false),
        (-32008, Executed::Unknown, false),
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

    #[test]
    fn the_data_outranks_the_code() {
        let error = ErrorObject::raised(ErrorCode::HANDLER_ERROR, "").with_executed(Executed::No);
        assert_eq!(error.executed(), Executed::No);
        assert_eq!(error.data.unwrap().get(), r#"{"executed":"no"}"#);
    }

    #[test]
    fn one_bad_member_does_not_silence_the_others() {
        for (data, executed, retry_after_ms) in [
            (
                r#"{"executed":"unknown","retry_after_ms":-5}"#,
                Executed::Unknown,
                None,
            ),
            (
                r#"{"executed":"yes","retry_after_ms":1.5,"detail":{}}"#,
                Executed::Yes,
                None,
            ),
            (
                r#"{"executed":"no","retry_after_ms":7,"detail":[]}"#,
                Executed::No,
                Some(7),
            ),
        ] {
            let text = format!(r#"{{"code":-32001,"message":"","data":{data}}}"#);
            let error: ErrorObject = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (error.executed(), error.retry_after_ms()),
                (executed, retry_after_ms)
            );
        }
    }

    #[test]
    fn redials_own_codes_without_its_data_are_another_servers() {
        for (code, executed) in [
            (-32001, Executed::Unknown),
            (-32005, Executed::Unknown),
            (-32000, Executed::Yes),
            (-32601, Executed::No),
            (7, Executed::Yes),
        ] {
            let text = format!(r#"{{"code":{code},"message":""}}"#);
            let error: ErrorObject = serde_json::from_str(&text).unwrap();
            assert_eq!(error.executed(), executed, "{code}");
        }
    }

    proptest! {
        #[test]
        fn every_code_survives_the_round_trip(number in any::<i32>()) {
            prop_assert_eq!(i32::from(ErrorCode::from(number)), number);
        }
    }
}
