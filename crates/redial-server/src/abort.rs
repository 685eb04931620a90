//! How a handler says that a call has no result, and whether that is for good.

use redial_protocol::{ErrorCode, ErrorObject, write_json};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure_texts::FailureTexts;

/// How a handler ends without a result.
///
/// ```
/// use redial_server::Abort;
///
/// fn withdraw(balance: u64, cents: u64) -> Result<u64, Abort> {
///     balance.checked_sub(cents).ok_or_else(|| Abort::failed("insufficient funds").code(7))
/// }
/// assert!(withdraw(5, 6).is_err());
/// ```
#[derive(Clone, Debug)]
pub enum Abort {
    /// The call failed. That is its outcome: it is recorded, and every retry gets the same error.
    Failed(Failure),
    /// The call has had no effect, and the same id may be tried again. This is the only way to
    /// make an error forgettable; say it only if it is true.
    NoEffect(Failure),
}

/// What is said about a call that ended without a result.
#[derive(Clone, Debug)]
pub struct Failure {
    code: ErrorCode,
    message: String,
    data: Option<Box<RawValue>>,
    /// The message is that of an error which `?` has passed on: not meant for the caller.
    is_foreign: bool,
}

impl Abort {
    /// The call failed, with -32000 and this message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(message))
    }

    /// The call had no effect and may be tried again, with -32000 and this message. Whether it is
    /// tried again is up to the caller: Redial's client reports it as not executed.
    pub fn no_effect(message: impl Into<String>) -> Self {
        Self::NoEffect(Failure::new(message))
    }

    /// The same, with a code of the application's own in place of -32000. Codes from -32768 to
    /// -32000 belong to JSON-RPC and to Redial, and clients draw conclusions from them; stay
    /// outside. One from inside goes out marked as a handler's, since -32001, say, would otherwise
    /// mean that the call was not executed; Redial's client takes the mark off again.
    #[must_use]
    pub fn code(mut self, code: impl Into<ErrorCode>) -> Self {
        self.failure().code = code.into();
        self
    }

    /// The same, with data for the caller, which is never read as the server's own word: data with a
    /// member `executed` goes out marked, and reaches the caller of Redial's client unchanged. `NoEffect`
    /// sends it inside Redial's own data.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the data can't be written as JSON, for example a NaN.
    pub fn data(mut self, data: &impl Serialize) -> Result<Self, serde_json::Error> {
        let mut json = Vec::new();
        write_json(&mut json, data)?;
        self.failure().data = Some(serde_json::from_slice(&json)?);
        Ok(self)
    }

    /// Whether `?` has passed it on, so that its text is not meant for the caller.
    pub(crate) fn is_foreign(&self) -> bool {
        let (Self::Failed(failure) | Self::NoEffect(failure)) = self;
        failure.is_foreign
    }

    /// The same, with nothing of a text that is not meant for the caller.
    pub(crate) fn without_text(mut self) -> Self {
        let failure = self.failure();
        failure.message = "the handler failed".to_owned();
        failure.is_foreign = false;
        self
    }

    fn failure(&mut self) -> &mut Failure {
        match self {
            Self::Failed(failure) | Self::NoEffect(failure) => failure,
        }
    }
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::HANDLER_ERROR,
            message: message.into(),
            data: None,
            is_foreign: false,
        }
    }

    /// Replaces a message that was not meant for the caller, if it is not to hear it.
    pub(crate) fn hide(&mut self, texts: &FailureTexts) {
        if self.is_foreign
            && let Some(message) = texts.in_place_of(&self.message)
        {
            self.message = message;
        }
    }

    pub(crate) fn recorded(self) -> ErrorObject {
        ErrorObject::by_handler(self.code, self.message, self.data)
    }

    pub(crate) fn released(self) -> ErrorObject {
        ErrorObject::without_effect(self.code, self.message, self.data)
    }
}

#[cfg(feature = "tower")]
impl Abort {
    /// An error whose text is not meant for the caller, of a call that has failed or had no effect.
    pub(crate) fn foreign(text: String, had_no_effect: bool) -> Self {
        let mut failure = Failure::new(text);
        failure.is_foreign = true;
        match had_no_effect {
            true => Self::NoEffect(failure),
            false => Self::Failed(failure),
        }
    }
}

/// Any error is a failure of the call, so that a handler can use `?`. Its text may hold what no caller
/// should know, so that goes to the [`Observer`](crate::Observer) or to standard error, and the caller
/// gets a reference to it. [`Abort::failed`] says something to the caller.
impl<E: std::error::Error> From<E> for Abort {
    fn from(error: E) -> Self {
        let mut abort = Self::failed(error.to_string());
        abort.failure().is_foreign = true;
        abort
    }
}

#[cfg(test)]
mod tests {
    use redial_protocol::Executed;

    use super::*;

    #[test]
    fn a_code_that_means_not_executed_is_not_believed_of_a_handler_that_ran() {
        let Abort::Failed(failure) = Abort::failed("mine").code(-32001) else {
            unreachable!()
        };
        let error = failure.recorded();
        assert_eq!(
            (i32::from(error.code), error.executed()),
            (-32001, Executed::Yes)
        );
        let Abort::Failed(failure) = Abort::failed("mine").code(7) else {
            unreachable!()
        };
        let error = failure.recorded();
        assert_eq!(
            (error.executed(), error.data.is_none()),
            (Executed::Yes, true)
        );
    }

    #[test]
    fn any_error_can_be_handed_on() {
        fn handler() -> Result<u8, Abort> {
            Ok("no number".parse::<u8>()?)
        }
        let Err(Abort::Failed(failure)) = handler() else {
            panic!("it was no number")
        };
        assert_eq!(failure.message, "invalid digit found in string");
    }
}
