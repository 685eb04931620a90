//! Errors that say whether the call was executed.

use std::{borrow::Cow, fmt, io, sync::Arc, time::Duration};

use redial_protocol::{AddressError, ErrorObject, Executed, FrameError};
use thiserror::Error;
use uuid::Uuid;

use crate::{report::Report, token::CallToken};

/// Why a call gave no value, and whether it was executed.
///
/// ```no_run
/// # async fn f(client: redial_client::Client) {
/// use redial_client::CallError;
///
/// match client.request("inc", serde_json::json!({"key": "k"})).await {
///     Ok(value) => println!("done: {value}"),
///     Err(error @ CallError::NotExecuted { .. }) => println!("nothing happened: {error}"),
///     Err(error @ CallError::Failed { .. }) => println!("the handler said no: {error}"),
///     Err(CallError::Unknown { token, .. }) => {
///         // Keep this, to ask for the same call again.
///         println!("{}", serde_json::to_string(&token).unwrap());
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// Certainly not executed: a new call is safe.
    #[error("{} was not executed; {details}", details.method)]
    NotExecuted {
        /// Why, and how it went.
        details: Box<Details>,
    },
    /// Executed, and what came of it is no value: the handler's own error or a panic, or a
    /// result of another type.
    #[error("{} failed; {details}", details.method)]
    Failed {
        /// Why, and how it went.
        details: Box<Details>,
    },
    /// It may have been executed and it may not. Sending it again under a new id may repeat
    /// the effect.
    #[error("{} may have been executed; {details}", details.method)]
    Unknown {
        /// Names the call, for [`Client::resolve`](crate::Client::resolve) and
        /// [`Client::resume`](crate::Client::resume).
        token: Box<CallToken>,
        /// Why, and how it went.
        details: Box<Details>,
    },
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

    /// The server's answer, if it is what ended the call.
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
    pub stop: GiveUpReason,
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
        match self.stop {
            GiveUpReason::Final => write!(f, ": {}", self.cause),
            stop => write!(f, ", {stop}: {}", self.cause),
        }
    }
}

/// Why a call made no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveUpReason {
    /// What happened is final: another attempt would not change it.
    Final,
    /// All [`max_attempts`](crate::CallLimits::max_attempts) were made.
    Attempts,
    /// The [`deadline`](crate::CallLimits::deadline) passed, or was nearer than the next attempt.
    Deadline,
    /// The [`RetryBudget`](crate::RetryBudget) had no token before the deadline.
    Budget,
    /// The server might have forgotten the call by now
    /// ([`resend_window`](crate::Config::resend_window)).
    Window,
}

impl fmt::Display for GiveUpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Final => "no other would help",
            Self::Attempts => "no more allowed",
            Self::Deadline => "no time for another before the deadline",
            Self::Budget => "no token in the retry budget before the deadline",
            Self::Window => "too late for a safe one",
        })
    }
}

/// What happened last to a call that gave no value.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Cause {
    /// The server answered with an error.
    #[error("the server answered {0}")]
    Server(ErrorObject),
    /// No reply within the attempt's timeout or before the deadline.
    #[error("no reply within {0:?}")]
    NoReply(Duration),
    /// The request could not be handed to a connection: none was made yet, the server has not
    /// said whether it has sessions, or there was no room on it
    /// ([`max_buffered_bytes`](crate::Config::max_buffered_bytes),
    /// [`max_in_flight`](crate::Config::max_in_flight)) or in the session's window.
    #[error("not sent within {0:?}")]
    NotSent(Duration),
    /// There was no connection to be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection went while the call waited on it.
    #[error("the connection to {peer} was lost: {reason}")]
    ConnectionLost {
        /// The address.
        peer: Arc<str>,
        /// What ended it.
        reason: Arc<str>,
    },
    /// The request is larger than [`max_frame_bytes`](crate::Config::max_frame_bytes), or than
    /// the server takes.
    #[error("the request is too large: {0}")]
    TooLarge(FrameError),
    /// The params can't be sent.
    #[error("bad params: {0}")]
    BadParams(String),
    /// An option of the call makes no sense.
    #[error("bad option: {0}")]
    BadOption(String),
    /// The session that the call was numbered in is gone: the server was restarted and has its
    /// records in memory alone, the session's lease has ended, or this is another server. What
    /// was never written under it has gone on to a new session.
    #[error("the server no longer knows the session of this call")]
    SessionLost,
    /// The id is that of another call of this client that is not over.
    #[error("another call with this id is in flight")]
    IdInUse,
    /// The server answered this call with something that is no outcome.
    #[error("{0}")]
    MalformedReply(String),
    /// The call was executed, and its result is not of the type that was asked for.
    #[error("the result is not of the expected type: {0}")]
    Decode(String),
}

/// Why there is no connection.
#[derive(Clone, Debug, Error)]
#[error("cannot connect to {peer}: {reason}")]
pub struct ConnectError {
    /// The address.
    pub peer: Arc<str>,
    /// What the system said.
    pub reason: Arc<io::Error>,
}

/// Why there is no client.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A number in the configuration makes no sense.
    #[error("bad configuration: {0}")]
    Config(String),
    /// The address is not of the form `host:port`.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The first connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The system has no random numbers, without which ids would not be unique.
    #[error("no random numbers from the system: {0}")]
    NoRandomness(String),
}
