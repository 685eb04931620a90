//! What a handler may want to know about its call.

use std::{net::SocketAddr, time::Instant};

use redial_protocol::{CallKey, SessionId};

/// What a handler may want to know about the call beside its params.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) traceparent: Option<Box<str>>,
    pub(crate) peer: Option<SocketAddr>,
    /// The call's name, if its id is one.
    pub(crate) call: Option<CallKey>,
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

    /// The call's id, the same in every attempt and after a restart of the server: what to pass on as
    /// one's own idempotency key. `None` if the call has no id that names it: a notification, `null`,
    /// or an id of JSON-RPC 2.0 that is no UUID.
    ///
    /// ```
    /// # use redial_server::{Abort, Context};
    /// # async fn charge(_: &str, _: u64) -> Result<u64, Abort> { Ok(1) }
    /// async fn pay((cents,): (u64,), context: Context) -> Result<u64, Abort> {
    ///     let key = context.call_id().ok_or_else(|| Abort::failed("the call needs an id"))?;
    ///     // A payment service that knows the key charges once, however often it is asked.
    ///     charge(&key, cents).await
    /// }
    /// ```
    #[must_use]
    pub fn call_id(&self) -> Option<String> {
        self.call.as_ref().map(CallKey::to_string)
    }

    /// The session that the call belongs to; `None` for a call with a plain id.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match &self.call {
            Some(CallKey::Session(call)) => Some(call.session),
            _ => None,
        }
    }

    /// Where the attempt that is being run came from; `None` if the transport has no addresses.
    /// An IPv4 peer of an IPv6 listener has its IPv4 address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}
