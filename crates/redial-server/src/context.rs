//! What a handler may want to know about its call.

use std::{net::SocketAddr, time::Instant};

/// What a handler may want to know about the call beside its params.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) traceparent: Option<Box<str>>,
    pub(crate) peer: Option<SocketAddr>,
}

impl Context {
    /// Which sending of the call reached the server first, from 1. Above 1 it means that earlier
    /// ones were lost, never that the handler has run before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the caller stops waiting, if it said so. The execution is not cut off then: its
    /// outcome is recorded in any case.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The trace that the call belongs to (W3C Trace Context), as the caller sent it.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// Where the attempt that is being run came from; `None` if the transport has no addresses.
    /// An IPv4 peer of an IPv6 listener has its IPv4 address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}
