//! Errors that say whether the call was executed.

use std::{borrow::Cow, fmt};

use redial_protocol::{AddressError, ErrorObject, Executed};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    cause::{Cause, ConnectError, GiveUpReason},
    report::Report,
    token::CallToken,
};

/// Why a call gave no value, and whether it was executed.
///
/// ```no_run
/// # async fn f(client: redial_client::Client) {
/// use redial_client::CallError;
///
/// match client.request("inc", serde_json::json!({"key": "k"})).await {
///     Ok(value) => println!("done: {value}"),
///     Err(error @ CallError::NotExecuted { .. }) => println!("nothing happened: {error}"),
///     Err(error @ CallError::Failed { .. }) => println!("it was executed and failed: {error}"),
///     Err(CallError::Unknown { token, .. }) => {
///         // Keep this, to ask for the same call again.
///         println!("{}", serde_json::to_string(&token).unwrap());
///     }
/// }
/// # }
/// ```
#[derive(Clone, Error)]
pub enum CallError {
    /// Certainly not executed: a new call is safe.
    #[error("{} was not executed; {details}", details.method)]
    NotExecuted {
        /// Why, and how it went.
        details: Box<Details>,
    },
    /// Executed, without a value for the caller: the handler returned an error or panicked, or its
    /// result is of another type, or larger than the client takes.
    #[error("{} failed; {details}", details.method)]
    Failed {
        /// Why, and how it went.
        details: Box<Details>,
    },
    /// It may have been executed or not. Sending it again under a new id may repeat the effect.
    #[error("{} may have been executed; {details}", details.method)]
    Unknown {
        /// Identifies the call, for [`Client::resolve`](crate::Client::resolve) and
        /// [`Client::resume`](crate::Client::resume).
        token: Box<CallToken>,
        /// Why, and how it went.
        details: Box<Details>,
    },
}

/// As its sentence, which is what a `main` that returns it prints; `{:#?}` has the report of every attempt, too.
impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        if f.alternate() {
            write!(f, "\n{:#?}", self.details())?;
        }
        Ok(())
    }
}

impl CallError {
    /// Whether the call was executed.
    #[must_use]
    pub fn executed(&self) -> Executed {
        match self {
            Self::NotExecuted { .. } => Executed::No,
            Self::Failed { .. } => Executed::Yes,
            Self::Unknown { .. } => Executed::Unknown,
        }
    }

    /// Why, and how it went.
    #[must_use]
    pub fn details(&self) -> &Details {
        match self {
            Self::NotExecuted { details }
            | Self::Failed { details }
            | Self::Unknown { details, .. } => details,
        }
    }

    /// What happened last.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.details().cause
    }

    /// How the call went, attempt by attempt.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.details().report
    }

    /// The server's error, if it is what ended the call.
    #[must_use]
    pub fn server_error(&self) -> Option<&ErrorObject> {
        match self.cause() {
            Cause::Server(error) => Some(error),
            _ => None,
        }
    }
}

/// What every [`CallError`] carries.
#[derive(Clone, Debug, Error)]
pub struct Details {
    /// The method's name.
    pub method: Cow<'static, str>,
    /// The call's id; nil if the call ended before it had one.
    pub id: Uuid,
    /// Why there was no further attempt.
    pub reason: GiveUpReason,
    /// What happened last.
    #[source]
    pub cause: Cause,
    /// How the call went.
    pub report: Report,
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.report.attempts() {
            1 => f.write_str("1 attempt")?,
            n => write!(f, "{n} attempts")?,
        }
        match self.reason {
            GiveUpReason::Final => write!(f, ": {}", self.cause),
            reason => write!(f, ", {reason}: {}", self.cause),
        }
    }
}

/// Why there is no client.
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A field of the configuration makes no sense.
    #[error("bad configuration: {0}")]
    Config(String),
    /// The address is neither `host:port` nor a Unix socket's.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The first connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS, and no name that the server's certificate has to be for.
    #[error(
        "no name for which the certificate of {0} has to be; expected one in the address, or as the \
         server name of TLS"
    )]
    NoServerName(String),
    /// The system has no random numbers, without which ids would not be unique.
    #[error("no random numbers from the system: {0}")]
    NoRandomness(String),
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
