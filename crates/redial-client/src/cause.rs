//! Why a call gave no value.

use std::{fmt, io, sync::Arc, time::Duration};

use redial_protocol::{ErrorObject, FrameError};
use thiserror::Error;

/// Why a call made no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveUpReason {
    /// The cause is final: another attempt would not change it.
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
    /// There was no endpoint that works, and the call was not to wait for one
    /// ([`fail_fast`](crate::CallLimits::fail_fast)).
    FailFast,
}

impl fmt::Display for GiveUpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Final => "no retry would help",
            Self::Attempts => "no more allowed",
            Self::Deadline => "no time for another before the deadline",
            Self::Budget => "no token in the retry budget before the deadline",
            Self::Window => "too late for a safe one",
            Self::FailFast => "no waiting (fail_fast)",
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
    /// No connection could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Every endpoint that the call could go to is known to be down, and it was not to wait for one
    /// ([`fail_fast`](crate::CallLimits::fail_fast)).
    #[error("{peer} has been down for {since:?}: {reason}{}", and_others(.others))]
    EndpointDown {
        /// The address; of several the one that failed last.
        peer: Arc<str>,
        /// For how long it has been down, to milliseconds.
        since: Duration,
        /// Why: what the latest connection failed with, or that nothing comes from it.
        reason: Arc<str>,
        /// How many others are down, too.
        others: usize,
    },
    /// It is not known at which addresses the servers are.
    #[error("no endpoint: {0}")]
    NoEndpoint(Arc<str>),
    /// The connection was lost while the call waited on it.
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
    /// The reply is larger than [`max_frame_bytes`](crate::Config::max_frame_bytes), and was passed
    /// over. If it has a result, the call was executed; of an error that large it is not known.
    #[error("the reply is larger than max_frame_bytes of this client: {0}")]
    ReplyTooLarge(FrameError),
    /// The params can't be sent.
    #[error("bad params: {0}")]
    BadParams(String),
    /// An option of the call makes no sense.
    #[error("bad option: {0}")]
    BadOption(String),
    /// The session that the call was numbered in is gone: the server was restarted and had its
    /// records in memory alone, the session's lease has ended, or this is another server.
    #[error("the server no longer knows the session of this call")]
    SessionLost,
    /// The server shut down, and said that it had not read the request.
    #[error("the server shut down before it read the request")]
    Unread,
    /// There is no session, without which the call may not be sent: the server has not replied to
    /// `rpc.hello`, or denies having sessions although it had them before.
    #[error("no session: {0}")]
    NoSession(Arc<str>),
    /// There is no token to show the server who calls: the provider has none.
    #[error("{0}")]
    NoToken(Arc<str>),
    /// A [`Layer`](crate::Layer) of this client refused it, and it was not sent.
    #[error("a layer of this client refused it: {0}")]
    RefusedByLayer(String),
    /// The id is that of another call of this client that is in flight.
    #[error("another call with this id is in flight")]
    IdInUse,
    /// The server's reply to this call has no usable outcome.
    #[error("{0}")]
    MalformedReply(String),
    /// The result is not of the type that was asked for. The call was executed, unless a
    /// [`Layer`](crate::Layer) of this client has answered it.
    #[error("the result is not of the expected type: {0}")]
    Decode(String),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "thiserror passes a reference"
)]
fn and_others(others: &usize) -> String {
    match others {
        0 => String::new(),
        1 => "; the other endpoint is down, too".to_owned(),
        _ => format!("; {others} other endpoints are down, too"),
    }
}

/// Why there is no connection.
#[derive(Clone, Error)]
#[error("cannot connect to {peer}{}: {reason}", over(.connector.as_deref()))]
pub struct ConnectError {
    /// The address.
    pub peer: Arc<str>,
    /// What the connection was to be made of ([`Connector::name`](crate::Connector::name)).
    pub connector: Option<Arc<str>>,
    /// What the system said.
    pub reason: Arc<io::Error>,
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn over(connector: Option<&str>) -> String {
    connector.map_or_else(String::new, |name| format!(" over {name}"))
}
