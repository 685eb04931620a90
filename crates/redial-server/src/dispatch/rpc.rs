//! The methods of the protocol itself. They pass every queue, and nothing of them is recorded.

use std::sync::Arc;

use redial_protocol::{
    CallKey, Dialect, ErrorObject, Id, SessionCall, SessionId, deserialize_object, encode_error,
    encode_result, rpc,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Dispatcher, attachment::Attachment, call::Call};
use crate::{
    execution, refusal,
    table::{Cancelled, Resolved, Session, SessionLimits},
    waiter::{NEVER, ReplyKind, Waiter},
};

/// How many sessions one connection may say hello to. A client needs one, and another when it keeps
/// many calls whose outcome it does not know.
const MAX_SESSIONS: usize = 16;

impl Dispatcher<'_> {
    /// A method that no handler is registered for.
    pub(super) fn protocol_method(&mut self, call: &Call<'_, '_>) {
        match &*call.request.method {
            rpc::PING => self.reply_with(call, br#""result":"pong""#),
            rpc::DISCOVER => self.reply_with(call, &self.shared.discover),
            rpc::HELLO => {
                self.scratch.said_hello = Some(call.request.dialect);
                self.answer(call, Self::hello);
            }
            rpc::ACK => self.answer(call, Self::ack),
            rpc::CANCEL => self.answer(call, Self::cancel),
            rpc::RESOLVE => self.resolve(call),
            name => {
                let methods = self.shared.router.methods().iter();
                let known = methods.map(|method| &*method.name);
                self.refuse(call, &refusal::method_not_found(name, known));
            }
        }
    }

    fn reply_with(&mut self, call: &Call<'_, '_>, outcome: &[u8]) {
        self.scratch.outcome.clear();
        self.scratch.outcome.extend_from_slice(outcome);
        self.reply(call, ReplyKind::Reply);
    }

    /// Answers with what `method` makes of the params.
    fn answer<'a, P: Deserialize<'a>, T: Serialize>(
        &mut self,
        call: &Call<'_, 'a>,
        method: impl FnOnce(&mut Self, P) -> Result<T, ErrorObject>,
    ) {
        match read(call.request.params).and_then(|params| method(self, params)) {
            Ok(value) => {
                let outcome = &mut self.scratch.outcome;
                outcome.clear();
                if let Err(error) = encode_result(outcome, &value) {
                    encode_error(outcome, &refusal::result_not_json(error));
                }
                self.reply(call, ReplyKind::Reply);
            }
            Err(error) => self.refuse(call, &error),
        }
    }

    /// Opens a session, or attaches the connection to one.
    fn hello(&mut self, params: rpc::HelloParams) -> Result<rpc::Hello<'static>, ErrorObject> {
        let session = match params.session {
            Some(id) => self.attach_for_good(id)?,
            None => self.open_session()?,
        };
        let (sessions, config) = (&self.shared.table.sessions, &self.shared.config);
        Ok(rpc::Hello {
            session: session.id(),
            table: sessions.table().into_string().into(),
            lease_ms: u64::try_from(config.session_lease.as_millis()).unwrap_or(u64::MAX),
            max_frame: config.limits.max_frame_bytes as u64,
            max_in_flight: config.max_in_flight as u64,
        })
    }

    fn attach_for_good(&mut self, id: SessionId) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        let mut known = self.scratch.sessions.iter().map(Attachment::session);
        if let Some(session) = known.find(|session| session.id() == id) {
            return Ok(Arc::clone(session));
        }
        let attached = Attachment::to(self.shared, id, self.awake);
        self.keep_attached(attached.ok_or_else(|| refusal::session_unknown(id))?)
    }

    fn open_session(&mut self) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        if self.shared.is_draining() {
            return Err(refusal::shutting_down());
        }
        if self.scratch.sessions.len() >= MAX_SESSIONS {
            return Err(refusal::connection_sessions_full(MAX_SESSIONS));
        }
        let max = self.shared.config.max_sessions;
        let opened = Attachment::open(self.shared, self.peer.into(), self.awake);
        self.keep_attached(opened.ok_or_else(|| refusal::sessions_full(max))?)
    }

    /// Holds the session for as long as the connection lives: calls of it may be in flight.
    fn keep_attached(
        &mut self,
        attachment: Attachment,
    ) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        if self.scratch.sessions.len() >= MAX_SESSIONS {
            return Err(refusal::connection_sessions_full(MAX_SESSIONS));
        }
        let session = Arc::clone(attachment.session());
        self.scratch.sessions.push(attachment);
        Ok(session)
    }

    /// Forgets what the caller acknowledges.
    fn ack(&mut self, params: rpc::AckParams) -> Result<bool, ErrorObject> {
        let limits = self.shared.table.sessions.limits();
        check_ranges(&params.above, limits.window)?;
        let is_accepted = self.with_session(params.session, |session| {
            let result = session.acknowledge(params.ack, &params.above, limits.window);
            if let Some(waiters) = result.waiters {
                self.refuse_acknowledged(session, waiters);
            }
            result.is_accepted
        })?;
        is_accepted.then_some(true).ok_or_else(|| no_slot(limits))
    }

    /// Cancels a call that has not started.
    fn cancel(&mut self, params: CallIdParams<'_>) -> Result<rpc::Cancellation, ErrorObject> {
        let CallKey::Session(named) = params.key()? else {
            return Err(refusal::not_a_session_call(params.id.get()));
        };
        let state = self.cancel_call(named)?;
        Ok(rpc::Cancellation { state })
    }

    fn cancel_call(&mut self, named: SessionCall) -> Result<rpc::State, ErrorObject> {
        let (shared, number) = (self.shared, named.number);
        let sessions = &shared.table.sessions;
        self.with_session(named.session, |session| {
            match session.cancel(number, sessions.room(session)) {
                Cancelled::Never(waiting) => {
                    // Only a call that had arrived can be queued.
                    if let Some(waiters) = waiting {
                        for waiter in waiters {
                            waiter.refuse(shared, &refusal::cancelled());
                        }
                        execution::remove_queued(shared, session, number);
                    }
                    Ok(rpc::State::Never)
                }
                Cancelled::Running => Ok(rpc::State::Running),
                Cancelled::Done => Ok(rpc::State::Done),
                Cancelled::Acknowledged => Err(refusal::acknowledged()),
                Cancelled::NoSlot => Err(no_slot(sessions.limits())),
            }
        })?
    }

    /// Answers with the outcome of a call. If a call of a session has none, it never will.
    fn resolve(&mut self, call: &Call<'_, '_>) {
        if call.request.is_notification() {
            // A question without an answer changes nothing.
            call.skip();
            return;
        }
        let params = read::<CallIdParams<'_>>(call.request.params);
        let key = params.and_then(|params| params.key());
        let limits = self.shared.table.sessions.limits();
        let error = match key.and_then(|key| self.look_up(call, key)) {
            Ok(Resolved::Joined) => return,
            Ok(Resolved::Done) => return self.reply(call, ReplyKind::Resolution),
            Ok(Resolved::Never) => return self.reply_with(call, NEVER),
            Ok(Resolved::Acknowledged) => refusal::acknowledged(),
            Ok(Resolved::TooManyJoined) => refusal::too_many_joined(limits.max_joined),
            Ok(Resolved::NoSlot) => no_slot(limits),
            Ok(Resolved::Unknown) => refusal::call_unknown(),
            Err(error) => error,
        };
        self.refuse(call, &error);
    }

    /// Asks the table. The outcome of a call that is done is in the scratch.
    fn look_up(&mut self, call: &Call<'_, '_>, key: CallKey) -> Result<Resolved, ErrorObject> {
        let (shared, outbox) = (self.shared, self.outbox);
        let waiter = |kind| call.waiter(outbox, &rpc::RESOLVE.into(), kind);
        let mut outcome = std::mem::take(&mut self.scratch.outcome);
        outcome.clear();
        let resolved = match key {
            CallKey::Session(named) => {
                let (sessions, number) = (&shared.table.sessions, named.number);
                self.with_session(named.session, |session| {
                    let room = sessions.room(session);
                    let waiter = || waiter(ReplyKind::Resolution);
                    session.resolve(number, room, waiter, &mut outcome)
                })
            }
            key => {
                let plain = &shared.table.plain;
                let waiter = || waiter(ReplyKind::PlainResolution);
                Ok(plain.resolve(&plain.key(key), self.arrived, waiter, &mut outcome))
            }
        };
        self.scratch.outcome = outcome;
        resolved
    }

    /// Does something with a session, to which the connection is attached meanwhile.
    fn with_session<T>(
        &self,
        id: SessionId,
        access: impl FnOnce(&Arc<Session<Waiter>>) -> T,
    ) -> Result<T, ErrorObject> {
        match self.scratch.session(id) {
            Some(session) => Ok(access(session)),
            None => Attachment::to(self.shared, id, self.awake)
                .map(|attached| access(attached.session()))
                .ok_or_else(|| refusal::session_unknown(id)),
        }
    }
}

/// The id of another call, as it was written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallIdParams<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

impl CallIdParams<'_> {
    fn key(&self) -> Result<CallKey, ErrorObject> {
        let id = Id::parse(self.id).map_err(|error| refusal::invalid_params(&error.to_string()))?;
        // What is a key in one dialect only is found in its table only if it is one.
        id.key(Dialect::Notebook)
            .ok_or_else(refusal::null_names_no_call)
    }
}

/// Nothing was done for the question, which says nothing of the call.
fn no_slot(limits: &SessionLimits) -> ErrorObject {
    refusal::window_full_to_ask(limits.window, limits.max_bytes)
}

/// Ranges that ascend take one pass over the session's records, however many they are.
fn check_ranges(ranges: &[(u64, u64)], window: usize) -> Result<(), ErrorObject> {
    let max = window.saturating_mul(2).saturating_add(1);
    if ranges.len() > max {
        return Err(refusal::too_many_ranges(ranges.len(), max));
    }
    let ascends = |pair: &[(u64, u64)]| pair[0].1 <= pair[1].0;
    let is_range = |(from, to): &(u64, u64)| from < to;
    if ranges.iter().all(is_range) && ranges.windows(2).all(ascends) {
        Ok(())
    } else {
        Err(refusal::unordered_ranges())
    }
}

fn read<'a, P: Deserialize<'a>>(params: Option<&'a str>) -> Result<P, ErrorObject> {
    let mut params = serde_json::Deserializer::from_str(params.unwrap_or("{}"));
    deserialize_object(&mut params).map_err(|error| refusal::invalid_params(&error.to_string()))
}
