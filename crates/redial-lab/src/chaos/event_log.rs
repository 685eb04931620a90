//! What was done to the programs, and when: the other half of what the ledgers say.

use std::sync::{Arc, Mutex, PoisonError};

use crate::harness::{balancer::Trick, clock};

/// Something that was done to the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChaosEvent {
    /// The server was asked to stop (SIGTERM): it finishes what it has begun, refuses the rest, and
    /// ends.
    ServerDrained,
    /// A client was killed, with every call that it had in flight.
    ClientKilled,
    /// A client was killed that had saved the token of its call.
    TokenClientKilled,
    /// The server was stopped in the middle of whatever it did (SIGSTOP), for a while.
    ServerFrozen,
    /// A client was.
    ClientFrozen,
    /// Both ends got new certificates.
    CertificatesReplaced,
    /// The balancer did this to a connection.
    Balanced(Trick),
    /// A connection was cut, at any byte of a frame or between two.
    Cut,
    /// The rest of a frame and everything after it were lost, while the other direction goes on.
    Truncated,
    /// A request went through twice in a row.
    Duplicated,
    /// A reply went through twice in a row.
    ReplyDuplicated,
    /// A request went through, and a copy of it was kept.
    Copied,
    /// A request did not go through, and was kept.
    HeldBack,
    /// What was kept reached the server, on a connection of its own.
    LetThrough,
    /// A frame and what comes after it waited for some milliseconds.
    Delayed,
    /// One direction stood still for longer than an attempt waits.
    Stalled,
    /// Hundreds of connections came at once.
    Flood,
    /// A peer began a frame and did not end it.
    HalfOpen,
    /// A peer asked for megabytes and read nothing.
    NotRead,
    /// A peer sent bytes that are no frames, or frames that are no requests.
    Garbage,
}

impl ChaosEvent {
    /// Those that the balancer, the proxy and the hostile peers cause, in the order in which they are shown.
    pub(crate) const ON_THE_WIRE: [Self; 17] = [
        Self::Balanced(Trick::Late),
        Self::Balanced(Trick::Closed),
        Self::Balanced(Trick::Reset),
        Self::Balanced(Trick::Held),
        Self::Cut,
        Self::Truncated,
        Self::Duplicated,
        Self::ReplyDuplicated,
        Self::Copied,
        Self::HeldBack,
        Self::LetThrough,
        Self::Delayed,
        Self::Stalled,
        Self::Flood,
        Self::HalfOpen,
        Self::NotRead,
        Self::Garbage,
    ];

    /// What their count is called in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ServerDrained => "server_drains",
            Self::ClientKilled => "client_kills",
            Self::TokenClientKilled => "saver_kills",
            Self::ServerFrozen => "server_freezes",
            Self::ClientFrozen => "client_freezes",
            Self::CertificatesReplaced => "certificates_replaced",
            Self::Balanced(trick) => trick.name(),
            Self::Cut => "cuts",
            Self::Truncated => "truncated",
            Self::Duplicated => "duplicated",
            Self::ReplyDuplicated => "replies_duplicated",
            Self::Copied => "copied",
            Self::HeldBack => "held_back",
            Self::LetThrough => "let_through",
            Self::Delayed => "delayed",
            Self::Stalled => "stalls",
            Self::Flood => "floods",
            Self::HalfOpen => "half_open",
            Self::NotRead => "not_read",
            Self::Garbage => "garbage",
        }
    }

    /// What they are, in the plural.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::ServerDrained => "drains of the server",
            Self::ClientKilled => "kills of clients",
            Self::TokenClientKilled => "kills of clients that save their calls",
            Self::ServerFrozen => "freezes of the server",
            Self::ClientFrozen => "freezes of clients",
            Self::CertificatesReplaced => "replacements of the certificates",
            Self::Balanced(trick) => trick.text(),
            Self::Cut => "connections cut",
            Self::Truncated => "frames truncated",
            Self::Duplicated => "requests doubled at once",
            Self::ReplyDuplicated => "replies doubled",
            Self::Copied => "requests copied for later",
            Self::HeldBack => "requests held back",
            Self::LetThrough => "of both, let through later",
            Self::Delayed => "frames delayed",
            Self::Stalled => "directions stalled",
            Self::Flood => "floods of connections",
            Self::HalfOpen => "half-open frames",
            Self::NotRead => "peers that read nothing",
            Self::Garbage => "peers that sent garbage",
        }
    }
}

/// An event with its time in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimedEvent {
    pub(crate) t_us: u64,
    pub(crate) event: ChaosEvent,
}

/// Everything that was done, recorded by each thread that does something.
#[derive(Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<Vec<TimedEvent>>>);

impl EventLog {
    /// Records what is done now.
    pub(crate) fn record(&self, event: ChaosEvent) {
        let t_us = clock::unix_us();
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(TimedEvent { t_us, event });
    }

    /// Everything so far.
    pub(crate) fn read(&self) -> Vec<TimedEvent> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.clone()
    }
}
