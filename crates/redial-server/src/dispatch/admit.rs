//! How a caller shows who it is, and what is refused to one that has not.

use std::time::Duration;

use redial_protocol::{AuthToken, ErrorObject, SessionId, rpc};

use super::{Dispatcher, call::Call, lookup};
use crate::{
    gate::{AuthPurpose, AuthWaiter},
    peer::Peer,
    refusal,
    waiter::{ReplyKind, Waiter},
};

impl Dispatcher<'_> {
    /// Whether the caller has shown who it is, or need not.
    pub(super) fn is_admitted(&self) -> bool {
        let gate = self.scratch.gate.as_ref();
        gate.is_none_or(|gate| gate.is_open(self.caller, self.now))
    }

    /// Refuses a request of a caller that has not shown who it is, and may not make it before.
    #[cold]
    pub(super) fn is_turned_away(&mut self, call: &Call<'_, '_>) -> bool {
        // A hello is looked into: it may bring a token.
        let passes = [rpc::PING, rpc::HEALTH, rpc::AUTH, rpc::HELLO];
        if passes.contains(&&*call.request.method) || self.is_admitted() {
            return false;
        }
        self.refuse_unauthenticated(call);
        true
    }

    pub(super) fn refuse_unauthenticated(&mut self, call: &Call<'_, '_>) {
        let error = match self.caller.principal() {
            Some(_) => refusal::token_expired(),
            None => refusal::unauthenticated(),
        };
        self.refuse(call, &error);
    }

    /// `rpc.auth`, where the server asks for tokens.
    pub(super) fn auth(&mut self, call: &Call<'_, '_>) {
        // What is wrong with the params is not said with their words, which hold a secret.
        match super::rpc::read::<rpc::AuthParams>(call) {
            Ok(params) => self.verify(call, params.token, AuthPurpose::Auth),
            Err(_) => self.refuse(call, &refusal::no_token_in(rpc::AUTH)),
        }
    }

    /// Has a token verified. Unless its caller is known already, what comes behind it waits.
    pub(super) fn verify(&mut self, call: &Call<'_, '_>, token: AuthToken, purpose: AuthPurpose) {
        let (shared, waiter) = (self.shared, self.later(call));
        let authentication = shared.authentication.as_ref();
        let Some((gate, authentication)) = self.scratch.gate.as_mut().zip(authentication) else {
            return;
        };
        if gate.is_busy() {
            let error = refusal::verification_pending();
            return self.refuse_later(waiter, &error);
        }
        let (limit, address) = (shared.config.auth_timeout, self.caller.address);
        // Counted by address, since a token can be guessed on any connection. A connection that
        // has guessed waits less long, and leaves the rest to those that have not.
        let (peer, patience) = (Peer::from(address), limit / 2 / (gate.failures() + 1));
        let permit = (authentication.guesses).begin(peer, token.as_str(), self.now, patience);
        gate.begin(AuthWaiter { waiter, purpose }, |failures| {
            authentication.verify(token, address, permit, limit, failures)
        });
    }

    /// Who is owed an answer that is not ready yet; `None` if none is wanted.
    pub(super) fn later(&self, call: &Call<'_, '_>) -> Option<Waiter> {
        if call.request.is_notification() {
            call.skip();
            return None;
        }
        let method = call.request.method.as_ref().into();
        Some(call.waiter(self.outbox, &method, ReplyKind::Reply))
    }

    /// The token was that of the caller: goes on with what it came with.
    pub(crate) fn accept_token(&mut self, waiter: AuthWaiter, expires: Option<Duration>) {
        let AuthWaiter { waiter, purpose } = waiter;
        let expires_ms =
            expires.map(|expires| u64::try_from(expires.as_millis()).unwrap_or(u64::MAX));
        match purpose {
            AuthPurpose::Auth => {
                let principal = self.caller.principal();
                let authenticated = rpc::Authenticated {
                    principal: principal.map_or("", |name| name.as_str()).into(),
                    expires_ms,
                };
                self.answer_later(waiter, &super::rpc::encoded_result(&authenticated));
            }
            AuthPurpose::Hello(session) => match session.filter(|id| self.is_stranger(*id)) {
                Some(id) => self.ask(id, lookup::LookupPurpose::Hello { waiter, expires_ms }),
                None => self.greet_now(waiter, session, expires_ms),
            },
        }
    }

    /// Answers a hello that had to wait.
    pub(super) fn greet_now(
        &mut self,
        waiter: Option<Waiter>,
        session: Option<SessionId>,
        expires_ms: Option<u64>,
    ) {
        match self.greet(session, expires_ms) {
            Ok(greeting) => self.answer_greeting(waiter, greeting),
            Err(error) => self.refuse_later(waiter, &error),
        }
    }

    /// The token was that of none, or of another.
    pub(crate) fn refuse_token(&mut self, waiter: AuthWaiter, error: &ErrorObject) {
        self.refuse_later(waiter.waiter, error);
    }

    fn refuse_later(&self, waiter: Option<Waiter>, error: &ErrorObject) {
        if let Some(waiter) = waiter {
            waiter.refuse(self.shared, error);
        }
    }

    fn answer_later(&self, waiter: Option<Waiter>, outcome: &[u8]) {
        if let Some(waiter) = waiter {
            waiter.reply(self.shared, outcome);
        }
    }
}
