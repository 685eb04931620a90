//! What a connection may do before it has shown who it is, where the server asks for that.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use redial_protocol::SessionId;

use crate::{
    auth::{Verification, VerificationResult},
    caller::Caller,
    clock,
    waiter::Waiter,
};

/// Of a connection to a server that asks for tokens.
pub(crate) struct Gate {
    pending: Option<PendingVerification>,
    /// Tokens that were rejected.
    failures: u32,
    /// Until when a principal has to be shown, in time awake; `None` if there is one for good.
    due: Option<Instant>,
    /// When the token expires, by the clock.
    expires: Option<Instant>,
}

/// A token that is being verified.
struct PendingVerification {
    verification: Verification,
    waiter: AuthWaiter,
}

/// Who is to be answered, and with what.
pub(crate) struct AuthWaiter {
    /// `None` for a notification.
    pub(crate) waiter: Option<Waiter>,
    pub(crate) purpose: AuthPurpose,
}

/// What came with a token.
#[derive(Clone, Copy)]
pub(crate) enum AuthPurpose {
    /// `rpc.hello`, for this session or a new one.
    Hello(Option<SessionId>),
    /// `rpc.auth`.
    Auth,
}

impl Gate {
    /// A principal that the transport vouches for is enough. Of any other caller one is `due`.
    pub(crate) fn new(caller: &Caller, due: Instant) -> Self {
        Self {
            pending: None,
            failures: 0,
            due: caller.principal().is_none().then_some(due),
            expires: None,
        }
    }

    /// Whether the caller has shown who it is.
    pub(crate) fn is_open(&self, caller: &Caller, now: Instant) -> bool {
        caller.principal().is_some() && self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether what comes next has to wait for a token to be verified.
    pub(crate) fn holds_back(&self, caller: &Caller, now: Instant) -> bool {
        self.pending.is_some() && !self.is_open(caller, now)
    }

    /// Until when a token has to come, in time awake.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a token is being verified.
    pub(crate) fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// A token is to be verified, by what `begin` makes of the number of those that were rejected.
    pub(crate) fn begin(&mut self, waiter: AuthWaiter, begin: impl FnOnce(u32) -> Verification) {
        self.pending = Some(PendingVerification {
            verification: begin(self.failures),
            waiter,
        });
    }

    /// Ready with the result of a token's verification.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(VerificationResult, AuthWaiter)> {
        let Some(pending) = &mut self.pending else {
            return Poll::Pending;
        };
        let Poll::Ready(result) = pending.verification.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        let waiter = self.pending.take().map(|pending| pending.waiter);
        waiter.map_or(Poll::Pending, |waiter| Poll::Ready((result, waiter)))
    }

    /// A token was rejected.
    pub(crate) fn fail(&mut self) {
        self.failures += 1;
    }

    /// How many tokens were rejected.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The caller has shown who it is, and has `patience` to do so again after that expires.
    pub(crate) fn open(
        &mut self,
        expires: Option<Duration>,
        now: Instant,
        awake: Instant,
        patience: Duration,
    ) {
        self.expires = expires.map(|expires| clock::after(now, expires));
        self.due = expires.map(|expires| clock::after(clock::after(awake, expires), patience));
    }
}
