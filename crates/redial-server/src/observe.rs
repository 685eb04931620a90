//! The seam through which a program sees what happens in a server: one stream of events, for logs, metrics
//! and traces alike.

mod event_context;
mod hidden;
mod observers;

use std::{net::SocketAddr, time::Duration};

use redial_protocol::{ErrorCode, Principal, SessionId};

pub use self::hidden::HiddenFailure;
pub(crate) use self::{
    event_context::{EventContext, error_of},
    observers::Observers,
};
use crate::stats::Stats;

/// Something that happened: to one attempt of a call, to a connection, to a session, or in the store.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Event<'a> {
    /// What happened.
    pub kind: EventKind,
    /// The id as it was written, as JSON; `None` for a notification, and for what is of no attempt.
    pub id: Option<&'a str>,
    /// Which sending of the call this is, from 1, as far as the caller said; 0 for what is of no attempt.
    pub attempt: u32,
    /// The method's name, as the caller wrote it: any text, until the server has found a method of that
    /// name (see [`Observer::observe_methods`]). Empty for what is of no attempt.
    pub method: &'a str,
    /// Which connection of this server it is of, if of one.
    pub connection: Option<u64>,
    /// Where that comes from; `None` if its transport has no addresses.
    pub peer: Option<SocketAddr>,
    /// Who calls, if something has vouched for it.
    pub principal: Option<&'a Principal>,
    /// The session that the call belongs to, or that was opened or has ended.
    pub session: Option<SessionId>,
    /// The trace that the call belongs to (W3C Trace Context), as the caller sent it: any text.
    pub traceparent: Option<&'a str>,
    /// The error that it ended with, of what has ended ([`Finished`](EventKind::Finished),
    /// [`Refused`](EventKind::Refused), [`Replied`](EventKind::Replied)); `None` for a result.
    pub error: Option<ErrorCode>,
    /// How long the call was queued, of [`Started`](EventKind::Started) and
    /// [`Finished`](EventKind::Finished).
    pub queued: Duration,
    /// How long the handler took, of [`Finished`](EventKind::Finished); with a store, until its outcome
    /// was durable.
    pub ran: Duration,
}

/// What can happen. The first twelve happen to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The call is new and admitted: from now on it is running, though it may be queued, or delayed
    /// by a fault rule.
    Accepted,
    /// The handler of the call that this attempt brought starts.
    Started,
    /// The call is running; this attempt will get the same reply.
    Joined,
    /// The call is finished; this attempt gets the recorded reply.
    Replayed,
    /// The handler of the call that this attempt brought has finished.
    Finished,
    /// The handler of the call that this attempt brought ran into its
    /// [`execution_timeout`](crate::Config::execution_timeout); `Finished` follows.
    TimedOut,
    /// The attempt is refused, with this code. Nothing was executed for it.
    Refused(ErrorCode),
    /// The reply has been handed to the connection.
    Replied,
    /// A fault rule dropped the request.
    RequestDropped,
    /// A fault rule dropped the reply.
    ReplyDropped,
    /// A fault rule duplicated the request.
    Duplicated,
    /// A fault rule cut the connection.
    Cut,
    /// A connection has its slot; with TLS, before the handshake.
    ConnectionOpened,
    /// It has ended.
    ConnectionClosed,
    /// A session was opened. With a store its client hears of it once it is durable.
    SessionOpened,
    /// A session is forgotten: its client has said goodbye, or its lease has ended.
    SessionEnded,
    /// The store has made so many steps durable with one commit.
    Committed {
        /// Calls, and what else is recorded.
        steps: usize,
    },
}

impl EventKind {
    /// One of each kind.
    pub(crate) const ALL: [Self; 17] = [
        Self::Accepted,
        Self::Started,
        Self::Joined,
        Self::Replayed,
        Self::Finished,
        Self::TimedOut,
        Self::Refused(ErrorCode::OVERLOADED),
        Self::Replied,
        Self::RequestDropped,
        Self::ReplyDropped,
        Self::Duplicated,
        Self::Cut,
        Self::ConnectionOpened,
        Self::ConnectionClosed,
        Self::SessionOpened,
        Self::SessionEnded,
        Self::Committed { steps: 0 },
    ];

    /// Whether it happens to an attempt, and not to a connection, a session or the store.
    #[must_use]
    pub const fn is_of_attempt(self) -> bool {
        !matches!(
            self,
            Self::ConnectionOpened
                | Self::ConnectionClosed
                | Self::SessionOpened
                | Self::SessionEnded
                | Self::Committed { .. }
        )
    }

    /// Its place in a set of kinds.
    #[inline(always)]
    pub(crate) const fn bit(self) -> u32 {
        1 << match self {
            Self::Accepted => 0,
            Self::Started => 1,
            Self::Joined => 2,
            Self::Replayed => 3,
            Self::Finished => 4,
            Self::TimedOut => 5,
            Self::Refused(_) => 6,
            Self::Replied => 7,
            Self::RequestDropped => 8,
            Self::ReplyDropped => 9,
            Self::Duplicated => 10,
            Self::Cut => 11,
            Self::ConnectionOpened => 12,
            Self::ConnectionClosed => 13,
            Self::SessionOpened => 14,
            Self::SessionEnded => 15,
            Self::Committed { .. } => 16,
        }
    }
}

impl Event<'_> {
    /// An event of which nothing more is known.
    pub(crate) fn of(kind: EventKind) -> Self {
        Self {
            kind,
            id: None,
            attempt: 0,
            method: "",
            connection: None,
            peer: None,
            principal: None,
            session: None,
            traceparent: None,
            error: match kind {
                EventKind::Refused(code) => Some(code),
                _ => None,
            },
            queued: Duration::ZERO,
            ran: Duration::ZERO,
        }
    }
}

/// Sees every event. It is called on the path of each call, so it must not block. If it panics, the
/// call goes on as if it had not.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use redial_server::{Event, EventKind, Observer};
///
/// #[derive(Default)]
/// struct CountReplays(AtomicU64);
///
/// impl Observer for CountReplays {
///     fn observe(&self, event: &Event<'_>) {
///         if event.kind == EventKind::Replayed {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Called when something has happened.
    fn observe(&self, event: &Event<'_>);

    /// Which events it is called for; all by default. Asked once for each kind, when the server is built,
    /// whatever the kind holds: an event that nothing wants costs nothing, and neither does the clock that
    /// [`Finished`](EventKind::Finished) alone needs.
    fn wants(&self, kind: EventKind) -> bool {
        let _ = kind;
        true
    }

    /// Called once, when the server is built, with the names of its methods. Any other
    /// [`method`](Event::method) is the protocol's own (`rpc.`), or was made up by a caller: nothing to
    /// name a metric after.
    fn observe_methods(&self, names: &[&str]) {
        let _ = names;
    }

    /// Called about once a second with what the server has done and holds, from its first connection on.
    fn observe_stats(&self, stats: &Stats) {
        let _ = stats;
    }

    /// Called when a failure is kept from the caller, who gets its reference alone. By default, and
    /// without an observer, it is one line on standard error.
    fn observe_hidden(&self, failure: &HiddenFailure<'_>) {
        failure.print();
    }
}
