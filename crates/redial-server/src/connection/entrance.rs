//! How a connection shows who is at its other end.

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Phase};
use crate::{
    auth::{Unverified, VerificationResult},
    gate::AuthWaiter,
    refusal,
};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Ready if a token was judged.
    pub(super) fn poll_entrance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(gate) = &mut self.scratch.gate else {
            return Poll::Pending;
        };
        let Poll::Ready((result, waiter)) = gate.poll(cx) else {
            return Poll::Pending;
        };
        self.on_verified(result, waiter);
        Poll::Ready(())
    }

    fn on_verified(&mut self, result: VerificationResult, waiter: AuthWaiter) {
        let error = match result {
            Ok(verified) => {
                let principal = self.caller.principal();
                if principal.is_none_or(|principal| *principal == verified.principal) {
                    if principal.is_none() {
                        self.caller.set_principal(verified.principal);
                        self.change_peer();
                    }
                    let patience = self.shared.config.auth_timeout;
                    let (now, awake) = (self.now, self.awake);
                    if let Some(gate) = &mut self.scratch.gate {
                        gate.open(verified.expires, now, awake, patience);
                    }
                    return self.dispatch(|dispatcher| {
                        dispatcher.accept_token(waiter, verified.expires);
                    });
                }
                refusal::other_principal()
            }
            Err(Unverified::Rejected) => refusal::token_rejected(),
            Err(Unverified::TooManyGuesses { retry_after }) => {
                // To try again costs another connection.
                self.phase = Phase::Closing;
                refusal::too_many_guesses(retry_after)
            }
            Err(Unverified::Unavailable { retry_after }) => {
                let error = refusal::verifier_unavailable(retry_after);
                return self.dispatch(|dispatcher| dispatcher.refuse_token(waiter, &error));
            }
        };
        self.dispatch(|dispatcher| dispatcher.refuse_token(waiter, &error));
        if let Some(gate) = &mut self.scratch.gate {
            gate.fail();
            if gate.failures() >= self.shared.config.max_auth_failures {
                self.phase = Phase::Closing;
            }
        }
    }

    /// From now on it takes its principal's shares.
    fn change_peer(&mut self) {
        let peer = self.caller.peer();
        self.shared.connections.make_known(&peer, &self.outbox);
        self.scratch.change_peer(&peer);
    }

    /// It has not shown who it is in time.
    pub(super) fn on_no_token(&mut self) {
        if self.caller.principal().is_some() {
            // Its token has expired. Calls of it may be running, so nothing is said of them.
            self.phase = Phase::Closing;
            return;
        }
        let patience = self.shared.config.auth_timeout;
        self.on_protocol_error(&refusal::no_token(patience));
    }

    /// Ready if the store has said what it knows of a session.
    pub(super) fn poll_lookup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lookups) = &mut self.scratch.lookups else {
            return Poll::Pending;
        };
        lookups.poll(cx).map(|found| {
            self.dispatch(|dispatcher| dispatcher.on_lookup(found));
        })
    }

    /// Whether what comes next has to wait for a token to be verified, or a session to be looked for.
    pub(super) fn is_held_back(&self) -> bool {
        let (gate, lookups) = (self.scratch.gate.as_ref(), self.scratch.lookups.as_ref());
        gate.is_some_and(|gate| gate.holds_back(&self.caller, self.now))
            || lookups.is_some_and(|lookups| lookups.holds_back())
    }
}
