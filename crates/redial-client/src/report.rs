//! How a call went, attempt by attempt.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::small_vec::SmallVec;

/// How a call went: with every value, and in every error.
///
/// All times are durations since the call was first polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(crate) attempts: u32,
    pub(crate) history: SmallVec<AttemptReport>,
    pub(crate) total: Duration,
    pub(crate) replayed: Option<bool>,
    pub(crate) connects: u64,
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) hint_waits: u32,
    pub(crate) is_suppressed: bool,
}

impl Report {
    /// The report of a call that never began.
    pub(crate) const fn empty() -> Self {
        Self {
            attempts: 0,
            history: SmallVec::new(),
            total: Duration::ZERO,
            replayed: None,
            connects: 0,
            endpoint: None,
            hint_waits: 0,
            is_suppressed: false,
        }
    }

    /// How many attempts were made, each of which counted against
    /// [`max_attempts`](crate::CallLimits::max_attempts).
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How many of them were copies that were sent because the call took long
    /// ([`Hedge`](crate::Hedge)).
    #[must_use]
    pub fn hedges(&self) -> u32 {
        self.history
            .iter()
            .map(|attempt| u32::from(attempt.is_hedge))
            .sum()
    }

    /// The attempt whose reply ended the call, if one did. A reply doesn't say which attempt it
    /// is for: it is counted for the latest one on its connection.
    #[must_use]
    pub fn winner(&self) -> Option<&AttemptReport> {
        self.history()
            .find(|attempt| attempt.end == AttemptEnd::Reply)
    }

    /// Every sending, in order. Two may have the same number: an attempt that found no connection
    /// is made when there is one, and one that met a server that didn't know the session is made
    /// again under another.
    pub fn history(&self) -> impl Iterator<Item = &AttemptReport> {
        self.history.iter()
    }

    /// From the first poll of the call to its end.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// Whether the reply had been recorded for an earlier attempt; `None` if there was no reply, or
    /// if the call had no session, whose servers alone say so.
    #[must_use]
    pub fn replayed(&self) -> Option<bool> {
        self.replayed
    }

    /// The address that answered; without an answer, the one that the call was sent to last. `None` if
    /// it was sent to none. The address is as the client was given it, or as its
    /// [`Endpoints`](crate::Endpoints) say it.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// How often a server has asked for no attempt for a time (`retry_after_ms`), and the call has waited.
    #[must_use]
    pub fn hint_waits(&self) -> u32 {
        self.hint_waits
    }

    /// Whether a retry was not made because the [`RetryBudget`](crate::RetryBudget) had no token for it. The
    /// call may have had a late reply all the same.
    #[must_use]
    pub fn is_suppressed(&self) -> bool {
        self.is_suppressed
    }

    /// How many connections the client made while the call ran.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.connects
    }
}

/// One attempt of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// The id that the call was sent under. All attempts have the same one, unless the session was
    /// lost before the call could have been executed: then it goes on in the next session. Nil for a
    /// notification, and for an attempt that found no server.
    pub id: Uuid,
    /// Which attempt, from 1.
    pub number: u32,
    /// Whether it was a copy that was sent although the one before it had not timed out.
    pub is_hedge: bool,
    /// When its request was handed to a connection, since the call's start.
    pub started: Duration,
    /// When the client stopped waiting for it in particular, since the call's start.
    pub ended: Duration,
    /// Why the client stopped waiting for it.
    pub end: AttemptEnd,
}

/// Why an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// A reply ended the call. A reply doesn't say which attempt it is for: it is counted for
    /// the latest one on its connection.
    Reply,
    /// The server refused it: it was not executed.
    Refused,
    /// No reply within the attempt's timeout or the call's deadline. Its reply still counts.
    Timeout,
    /// The connection was lost after something of the request had been written.
    ConnectionLost,
    /// No connection could be made, however often it was tried: nothing was written, so it does not
    /// count.
    ConnectFailed,
    /// Still waited for when the reply to another attempt ended the call.
    Superseded,
    /// A notification was handed to the system; whether it arrived can't be known.
    Written,
}

impl AttemptEnd {
    /// The name in lower case, as in `"connection_lost"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::ConnectFailed => "connect_failed",
            Self::Superseded => "superseded",
            Self::Written => "written",
        }
    }
}

/// A call's value, and how the call went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// What the handler returned.
    pub value: T,
    /// How the call went.
    pub report: Report,
}
