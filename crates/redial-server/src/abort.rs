//! How a handler says that a call has no result, and whether that is for good.

use redial_protocol::{ErrorCode, ErrorObject, Executed};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

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
}

impl Abort {
    /// The call failed, with -32000 and this message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(message))
    }

    /// The call had no effect and may be tried again, with -32000 and this message.
    pub fn no_effect(message: impl Into<String>) -> Self {
        Self::NoEffect(Failure::new(message))
    }

    /// The same, with a code of the application's own in place of -32000. Codes from -32768 to
    /// -32000 belong to JSON-RPC and to Redial, and clients draw conclusions from them; stay
    /// outside.
    #[must_use]
    pub fn code(mut self, code: impl Into<ErrorCode>) -> Self {
        self.failure().code = code.into();
        self
    }

    /// The same, with data for the caller. `NoEffect` sends it inside Redial's own data.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the data can't be written as JSON.
    pub fn data(mut self, data: &impl Serialize) -> Result<Self, serde_json::Error> {
        self.failure().data = Some(to_raw_value(data)?);
        Ok(self)
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
        }
    }

    pub(crate) fn recorded(self) -> ErrorObject {
        ErrorObject {
            code: self.code,
            message: self.message,
            data: self.data,
        }
    }

    pub(crate) fn released(self) -> ErrorObject {
        #[derive(Serialize)]
        struct Data<'a> {
            executed: Executed,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawValue>,
        }
        let data = Data {
            executed: Executed::No,
            data: self.data.as_deref(),
        };
        let data = to_raw_value(&data).expect("plain members and raw JSON can't fail");
        ErrorObject {
            code: self.code,
            message: self.message,
            data: Some(data),
        }
    }
}
