//! Errors as they stand in a reply: a code, a message, and data that says whether the call was
//! executed.

mod code;
mod handler;
mod names;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

pub use self::code::{ErrorCode, Executed};
use self::names::Names;
use crate::{
    json::object::{deserialize_object, objects},
    session::SessionId,
    text::cut,
};

objects! {
    /// The `data` of every error that Redial itself raises.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct ErrorData {
        /// Whether the call was executed.
        pub executed: Executed,
        /// How long to wait before another attempt, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub retry_after_ms: Option<u64>,
        /// The session that the server doesn't know, if that is the error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub unknown_session: Option<SessionId>,
        /// What was wrong and what was expected, for people. Repeats at most 200 bytes of the input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub detail: Option<String>,
    }
}

objects! {
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
    #[derive(Clone, Debug, Serialize)]
    pub struct ErrorObject {
        /// Which error.
        pub code: ErrorCode,
        /// One sentence.
        pub message: String,
        /// Whatever else the sender had to say, as JSON; [`ErrorData`] if Redial raised the error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub data: Option<Box<RawValue>>,
        /// Whose word the code and the data are.
        #[serde(skip)]
        author: Author,
    }
}

/// Whose word an error is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Author {
    /// Redial's server's, as far as its data says whether the call was executed.
    #[default]
    Server,
    /// A handler's, which ran.
    Handler,
    /// A server's that is not Redial's.
    Foreign,
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
            author: Author::Server,
        }
    }

    /// The same error, which asks for no further attempt for this many milliseconds.
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
        match (self.redial_data(), i32::from(self.code)) {
            _ if self.author == Author::Handler => Executed::Yes,
            (Some(data), _) => data.executed,
            _ if self.contradicts_itself() => Executed::Unknown,
            (None, -32008..=-32001) => Executed::Unknown,
            (None, _) => self.code.executed(),
        }
    }

    /// The data says whether the call was executed, and has a member twice: which of them holds, and what
    /// happened to it on its way, can't be known.
    fn contradicts_itself(&self) -> bool {
        let data = self.data.as_ref().filter(|_| self.author == Author::Server);
        data.is_some_and(|data| Names::of(data).is_some_and(|names| names.contradict()))
    }

    /// The same error, raised because its sender doesn't know this session.
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
        if self.author != Author::Server {
            return None;
        }
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
        let mut data = serde_json::Deserializer::from_str(self.data.as_ref()?.get());
        let lenient: Lenient<'_> = deserialize_object(&mut data).ok()?;
        if self.contradicts_itself() {
            return None;
        }
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
        (self.code, &self.message, self.author) == (other.code, &other.message, other.author)
            && text(self) == text(other)
    }
}

fn raw(data: &ErrorData) -> Box<RawValue> {
    to_raw_value(data).expect("a struct of plain members is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
