//! The methods of the protocol itself. They pass every queue, and nothing of them is recorded.

use std::sync::Arc;

use redial_protocol::{CallKey, ErrorCode, ErrorObject, SessionCall, SessionId, cut, reply, rpc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Call, Turn, encoded,
    refusal::{
        already_acknowledged, beyond_window, call_unknown, session_unknown, sessions_full,
        too_many_joined,
    },
};
use crate::{
    attachment::Attachment,
    execution,
    table::{Cancelled, Resolved, Session},
    waiter::{Form, Waiter},
};

/// What an asker is told of a call.
type Answer = Result<rpc::State, ErrorObject>;

impl Turn<'_> {
    /// A method that no handler is registered for.
    pub(super) fn protocol_method(&mut self, call: &Call<'_, '_>) {
        match &*call.request.method {
            rpc::PING => self.reply(call, br#""result":"pong""#),
            rpc::DISCOVER => {
                let shared = Arc::clone(self.shared);
                self.reply(call, &shared.discover);
            }
            rpc::HELLO => self.answer(call, Self::hello),
            rpc::ACK => self.answer(call, Self::ack),
            rpc::CANCEL => self.answer(call, Self::cancel),
            rpc::RESOLVE => self.resolve(call),
            name => self.refuse(call, &self.shared.router.not_found(name)),
        }
    }

    /// Answers with what `method` makes of the params.
    fn answer<'a, P: Deserialize<'a>>(
        &mut self,
        call: &Call<'_, 'a>,
        method: impl FnOnce(&mut Self, P) -> Result<Vec<u8>, ErrorObject>,
    ) {
        match read(call.request.params).and_then(|params| method(self, params)) {
            Ok(outcome) => self.reply(call, &outcome),
            Err(error) => self.refuse(call, &error),
        }
    }

    /// Opens a session, or attaches the connection to one.
    fn hello(&mut self, params: rpc::HelloParams) -> Result<Vec<u8>, ErrorObject> {
        let session = match params.session {
            Some(id) => self.attach(id).ok_or_else(|| session_unknown(id))?,
            None if self.shared.is_draining() => return Err(execution::shutting_down()),
            None => {
                let opened = Attachment::open(self.shared, self.now).ok_or_else(sessions_full)?;
                Arc::clone(self.kit.session.insert(opened).session())
            }
        };
        let (sessions, config) = (&self.shared.table.sessions, &self.shared.config);
        Ok(result(&rpc::Hello {
            session: session.id(),
            table: sessions.table().into(),
            lease_ms: u64::try_from(config.session_lease.as_millis()).unwrap_or(u64::MAX),
            max_frame: config.limits.max_frame_bytes as u64,
            max_in_flight: config.max_in_flight as u64,
        }))
    }

    /// Forgets what the caller is done with.
    fn ack(&mut self, params: rpc::AckParams) -> Result<Vec<u8>, ErrorObject> {
        let limits = self.shared.table.sessions.limits();
        let waiters = self.visit(params.session, |session| {
            session.acknowledge(params.ack, &params.above, limits)
        })?;
        for waiter in waiters {
            waiter.refuse(self.shared, &already_acknowledged());
        }
        Ok(result(&true))
    }

    /// Takes a call back that has not begun.
    fn cancel(&mut self, params: rpc::CallParams<'_>) -> Result<Vec<u8>, ErrorObject> {
        let CallKey::Session(named) = CallKey::of_string(&params.id) else {
            let detail = format!(
                "{:?} names no call of a session; expected a UUID of version 8",
                cut(&params.id)
            );
            return Err(ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail));
        };
        let state = self.take_back(named)?;
        Ok(result(&rpc::Cancellation { state }))
    }

    fn take_back(&mut self, named: SessionCall) -> Answer {
        let (shared, number) = (self.shared, named.number);
        let limits = shared.table.sessions.limits();
        self.visit(named.session, |session| {
            match session.cancel(number, limits) {
                Cancelled::Never(waiters) => {
                    for waiter in waiters {
                        waiter.refuse(shared, &execution::cancelled());
                    }
                    execution::remove_queued(shared, session, number);
                    Ok(rpc::State::Never)
                }
                Cancelled::Running => Ok(rpc::State::Running),
                Cancelled::Done => Ok(rpc::State::Done),
                Cancelled::Stale => Err(already_acknowledged()),
                Cancelled::BeyondWindow => Err(beyond_window(limits)),
            }
        })?
    }

    /// Answers with the outcome of a call, when there is one. If there is none, there never will be.
    fn resolve(&mut self, call: &Call<'_, '_>) {
        let params: rpc::CallParams<'_> = match read(call.request.params) {
            Ok(params) => params,
            Err(error) => return self.refuse(call, &error),
        };
        let mut outcome = Vec::new();
        let resolved = self.look_up(call, CallKey::of_string(&params.id), &mut outcome);
        let error = match resolved {
            Ok(Resolved::Joined) => return,
            Ok(Resolved::Done) => return self.reply_as(call, &outcome, Form::Resolution),
            Ok(Resolved::Never) => return self.reply(call, br#""result":{"state":"never"}"#),
            Ok(Resolved::Stale) => already_acknowledged(),
            Ok(Resolved::TooManyJoined) => too_many_joined(self.shared),
            Ok(Resolved::BeyondWindow) => beyond_window(self.shared.table.sessions.limits()),
            Ok(Resolved::Unknown) => call_unknown(),
            Err(error) => error,
        };
        self.refuse(call, &error);
    }

    fn look_up(
        &mut self,
        call: &Call<'_, '_>,
        key: CallKey,
        outcome: &mut Vec<u8>,
    ) -> Result<Resolved, ErrorObject> {
        let (shared, outbox) = (self.shared, self.outbox);
        let waiter = || call.waiter(outbox, &rpc::RESOLVE.into(), Form::Resolution);
        match key {
            CallKey::Session(named) => {
                let limits = shared.table.sessions.limits();
                self.visit(named.session, |session| {
                    session.resolve(named.number, limits, waiter, outcome)
                })
            }
            key => {
                let plain = &shared.table.plain;
                Ok(plain.resolve(&plain.key(key), self.now, waiter, outcome))
            }
        }
    }

    /// Does something with a session without staying with it.
    fn visit<T>(
        &self,
        id: SessionId,
        visit: impl FnOnce(&Arc<Session<Waiter>>) -> T,
    ) -> Result<T, ErrorObject> {
        match &self.kit.session {
            Some(attachment) if attachment.session().id() == id => Ok(visit(attachment.session())),
            _ => Attachment::to(self.shared, id, self.now)
                .map(|attachment| visit(attachment.session()))
                .ok_or_else(|| session_unknown(id)),
        }
    }
}

fn read<'a, P: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<P, ErrorObject> {
    serde_json::from_str(params.map_or("{}", RawValue::get))
        .map_err(|error| ErrorObject::raised(ErrorCode::INVALID_PARAMS, cut(&error.to_string())))
}

fn result(value: &impl serde::Serialize) -> Vec<u8> {
    let mut outcome = Vec::new();
    match reply::encode_result(&mut outcome, value) {
        Ok(()) => outcome,
        Err(error) => encoded(&ErrorObject::raised(ErrorCode::INTERNAL_ERROR, error)),
    }
}
