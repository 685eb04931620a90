//! The methods of the protocol itself. They pass every queue, and nothing of them is recorded.

use std::sync::Arc;

use redial_protocol::{
    CallKey, Dialect, ErrorObject, Executed, Id, SessionCall, SessionId, deserialize_object,
    encode_error, encode_result, reread_json, rpc,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Dispatcher, attachment::Attachment, call::Call, left::question, refuse_acknowledged};
use crate::{
    execution,
    gate::AuthPurpose,
    never::{fence_failed, on_runtime},
    refusal,
    store::{Done, StoreError},
    table::{Cancelled, Resolved, Session},
    waiter::{NEVER, ReplyKind, Waiter},
};

/// How many sessions one connection may say hello to. A client needs one, and another when it keeps
/// many calls whose outcome it does not know.
const MAX_SESSIONS: usize = 16;

/// The answer to a hello.
pub(super) struct Greeting {
    hello: rpc::Hello<'static>,
    /// A new session that a store has to keep first.
    opened: Option<Arc<Session<Waiter>>>,
}

impl Dispatcher<'_> {
    /// A method that no handler is registered for.
    pub(super) fn protocol_method(&mut self, call: &Call<'_, '_>) {
        match &*call.request.method {
            rpc::PING => self.reply_without_params(call, br#""result":"pong""#),
            rpc::HEALTH => self.health(call),
            rpc::STATS => self.stats(call),
            rpc::FAULTS if self.shared.fault_control.is_some() => self.faults(call),
            rpc::DISCOVER => self.reply_without_params(call, &self.shared.discover),
            rpc::HELLO => {
                self.scratch.said_hello = Some(call.request.dialect);
                self.hello(call);
            }
            rpc::AUTH if self.scratch.gate.is_some() => self.auth(call),
            rpc::ACK => self.answer(call, Self::ack),
            rpc::CANCEL => self.cancel(call),
            rpc::GOODBYE => self.answer(call, Self::goodbye),
            rpc::RESOLVE => self.resolve(call),
            name => {
                let methods = self.shared.router.methods().iter();
                let known = methods.map(|method| &*method.name);
                self.refuse(call, &refusal::method_not_found(name, known));
            }
        }
    }

    /// The answer of a method that takes nothing.
    fn reply_without_params(&mut self, call: &Call<'_, '_>, outcome: &[u8]) {
        match read::<NoParams>(call) {
            Ok(NoParams {}) => self.reply_with(call, outcome),
            Err(error) => self.refuse(call, &error),
        }
    }

    fn reply_with(&mut self, call: &Call<'_, '_>, outcome: &[u8]) {
        self.scratch.outcome.clear();
        self.scratch.outcome.extend_from_slice(outcome);
        self.reply(call, ReplyKind::Reply);
    }

    /// Answers with what `method` makes of the params.
    pub(super) fn answer<'a, P: Deserialize<'a>, T: Serialize>(
        &mut self,
        call: &Call<'_, 'a>,
        method: impl FnOnce(&mut Self, P) -> Result<T, ErrorObject>,
    ) {
        match read(call).and_then(|params| method(self, params)) {
            Ok(value) => self.reply_value(call, &value),
            Err(error) => self.refuse(call, &error),
        }
    }

    fn reply_value(&mut self, call: &Call<'_, '_>, value: &impl Serialize) {
        self.scratch.outcome = encoded_result(value);
        self.reply(call, ReplyKind::Reply);
    }

    /// Opens a session, or attaches the connection to one.
    fn hello(&mut self, call: &Call<'_, '_>) {
        let params = match read::<rpc::HelloParams>(call) {
            Ok(params) => params,
            Err(error) => {
                // Not said with words of the params, if those may hold a secret.
                let text = call.request.params.unwrap_or_default();
                let is_secret =
                    text.contains("token") || text.contains('\\') || text.starts_with('[');
                let error = if is_secret {
                    refusal::no_token_in(rpc::HELLO)
                } else {
                    error
                };
                return self.refuse(call, &error);
            }
        };
        if self.scratch.gate.is_some()
            && let Some(token) = params.token
        {
            return self.verify(call, token, AuthPurpose::Hello(params.session));
        }
        if !self.is_admitted() {
            return self.refuse_unauthenticated(call);
        }
        match self.greet(params.session, None) {
            Ok(Greeting {
                hello,
                opened: None,
            }) => self.reply_value(call, &hello),
            Ok(greeting) => {
                let waiter = self.later(call);
                self.answer_greeting(waiter, greeting);
            }
            Err(error) => self.refuse(call, &error),
        }
    }

    /// What a hello is answered. Those of a new session have to be made durable first.
    pub(super) fn greet(
        &mut self,
        session: Option<SessionId>,
        expires_ms: Option<u64>,
    ) -> Result<Greeting, ErrorObject> {
        let (session, is_new) = match session {
            Some(id) => (self.attach_for_good(id)?, false),
            None => (self.open_session()?, true),
        };
        let (sessions, config) = (&self.shared.table.sessions, &self.shared.config);
        let hello = rpc::Hello {
            session: session.id(),
            table: sessions.table().into_string().into(),
            lease_ms: u64::try_from(config.session_lease.as_millis()).unwrap_or(u64::MAX),
            max_frame: config.limits.max_frame_bytes as u64,
            max_in_flight: config.max_in_flight as u64,
            expires_ms,
        };
        let opened = (is_new && self.shared.store.is_some()).then_some(session);
        Ok(Greeting { hello, opened })
    }

    /// A client hears of a session when that is as durable as its calls will be.
    pub(super) fn answer_greeting(&mut self, waiter: Option<Waiter>, greeting: Greeting) {
        let Greeting { hello, opened } = greeting;
        let outcome = encoded_result(&hello);
        let Some((session, store)) = opened.zip(self.shared.store.clone()) else {
            if let Some(waiter) = waiter {
                waiter.reply(self.shared, &outcome);
            }
            return;
        };
        self.shared.forget_sessions();
        let answer = self.when_durable(waiter, move |()| (outcome, ReplyKind::Reply));
        let (opened, shared) = (Arc::clone(&session), Arc::clone(self.shared));
        let done = Box::new(move |kept: Result<(), StoreError>| {
            if kept.is_err() {
                shared.table.sessions.abandon(&opened);
            }
            answer(kept);
        });
        store.open_session(session.id(), session.owner(), done);
        self.scratch.has_stored = true;
    }

    /// Answers an attempt when a step of the store is durable.
    pub(super) fn when_durable<T: 'static>(
        &self,
        waiter: Option<Waiter>,
        outcome: impl FnOnce(T) -> (Vec<u8>, ReplyKind) + Send + 'static,
    ) -> Done<T> {
        let shared = Arc::clone(self.shared);
        on_runtime(move |result| {
            let Some(mut waiter) = waiter else {
                return;
            };
            match result {
                Ok(value) => {
                    let (outcome, kind) = outcome(value);
                    waiter.kind = kind;
                    waiter.reply(&shared, &outcome);
                }
                Err(error) => waiter.refuse(&shared, &fence_failed(&error)),
            }
        })
    }

    fn attach_for_good(&mut self, id: SessionId) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        let mut known = self.scratch.sessions.iter().map(Attachment::session);
        if let Some(session) = known.find(|session| session.id() == id) {
            return Ok(Arc::clone(session));
        }
        let owner = self.caller.principal();
        let attached = Attachment::to(self.shared, id, owner, self.awake);
        self.keep_attached(attached.ok_or_else(|| self.greeting_refused(id))?)
    }

    fn open_session(&mut self) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        if self.shared.is_draining() {
            return Err(refusal::shutting_down());
        }
        if let Some(problem) = self.shared.store.as_ref().and_then(|store| store.problem()) {
            return Err(refusal::store_unavailable(&problem.message));
        }
        // Those that the store could not keep meanwhile: no client has heard of them.
        self.scratch
            .sessions
            .retain(|attached| !attached.session().is_unkept());
        if self.scratch.sessions.len() >= MAX_SESSIONS {
            return Err(refusal::connection_sessions_full(MAX_SESSIONS));
        }
        let max = self.shared.config.max_sessions;
        let peer = self.caller.peer();
        let Some(opened) = Attachment::open(self.shared, self.caller, self.awake) else {
            let has_share = self.shared.table.sessions.has_share(&peer);
            let why = if has_share {
                refusal::sessions_share_full
            } else {
                refusal::sessions_full
            };
            return Err(why(max));
        };
        self.keep_attached(opened)
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

    /// The client needs a session no longer: this connection keeps it alive no more. An unknown one
    /// has ended before.
    fn goodbye(&mut self, params: rpc::GoodbyeParams) -> Result<bool, ErrorObject> {
        self.scratch.deferred.finish(self.shared);
        let sessions = &self.shared.table.sessions;
        let _ = self.with_session(params.session, |session| sessions.end(session.id()));
        let is_it = |attached: &mut Attachment| attached.session().id() == params.session;
        self.scratch
            .sessions
            .retain_mut(|attached| !is_it(attached));
        self.scratch.other_session.take_if(is_it);
        Ok(true)
    }

    /// Forgets what the caller acknowledges.
    fn ack(&mut self, params: rpc::AckParams) -> Result<bool, ErrorObject> {
        let limits = self.shared.table.sessions.limits();
        check_numbers(params.ack, &params.above)?;
        check_ranges(&params.above, limits.window)?;
        let is_accepted = self.with_session(params.session, |session| {
            let result = session.acknowledge(params.ack, &params.above, limits.window);
            if let Some(waiters) = result.waiters {
                refuse_acknowledged(self.shared, session, waiters);
            }
            if let Some(store) = &self.shared.store {
                store.acknowledge(session.id(), session.all_acknowledged());
            }
            result.is_accepted
        })?;
        // Only for the window: what is acknowledged takes no bytes.
        let window_full = || refusal::window_full(limits.window, limits.max_bytes);
        let no_slot = || window_full().with_executed(Executed::Unknown);
        is_accepted.then_some(true).ok_or_else(no_slot)
    }

    /// Cancels a call that has not started.
    fn cancel(&mut self, call: &Call<'_, '_>) {
        let named = read::<CallIdParams<'_>>(call).and_then(|params| match params.key()? {
            CallKey::Session(named) => Ok(named),
            _ => Err(refusal::not_a_session_call(params.id.get())),
        });
        let state = named.and_then(|named| Ok((named, self.cancel_call(named)?)));
        match state {
            Ok((named, rpc::State::Never)) if self.shared.store.is_some() => {
                self.fence_cancelled(call, named);
            }
            Ok((_, state)) => self.reply_value(call, &rpc::Cancellation { state }),
            Err(error) => self.refuse(call, &error),
        }
    }

    fn cancel_call(&mut self, named: SessionCall) -> Result<rpc::State, ErrorObject> {
        let (shared, number) = (self.shared, named.number);
        let sessions = &shared.table.sessions;
        self.with_session(named.session, |session| {
            match session.cancel(number, sessions.room(session)) {
                Cancelled::Never(waiting) => {
                    // Only a call that had arrived can be queued.
                    if let Some(waiters) = waiting {
                        let queued = execution::remove_queued(shared, session, number);
                        let waiters = waiters.into_iter().chain(queued);
                        for waiter in waiters {
                            waiter.fence(shared, named, refusal::cancelled);
                        }
                    }
                    Ok(rpc::State::Never)
                }
                Cancelled::Running => Ok(rpc::State::Running),
                Cancelled::Done => Ok(rpc::State::Done),
                Cancelled::Acknowledged => Err(refusal::acknowledged()),
                Cancelled::NoSlot => Err(self.no_slot(session)),
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
        let params = read::<CallIdParams<'_>>(call);
        let key = params.and_then(|params| params.key());
        let limits = self.shared.table.sessions.limits();
        let session_key = key
            .clone()
            .ok()
            .filter(|key| matches!(key, CallKey::Session(_)));
        let error = match key.and_then(|key| self.look_up(call, key)) {
            Ok(Resolved::Never)
                if self.shared.store.is_some()
                    && let Some(CallKey::Session(named)) = session_key =>
            {
                let waiter = question(self.outbox, call, ReplyKind::Resolution, Some(named));
                return self.fence_or_run(waiter, named, None);
            }
            Ok(Resolved::Joined) => return,
            Ok(Resolved::Done) => return self.reply(call, ReplyKind::Resolution),
            Ok(Resolved::Never) => return self.reply_with(call, NEVER),
            Ok(Resolved::Acknowledged) => refusal::acknowledged(),
            Ok(Resolved::TooManyJoined) => refusal::too_many_joined(limits.max_joined),
            Ok(Resolved::NoSlot) => self.no_slot_for(session_key),
            Ok(Resolved::Unknown) => refusal::call_unknown(),
            Err(error) => error,
        };
        self.refuse(call, &error);
    }

    /// Asks the table. The outcome of a call that is done is in the scratch.
    fn look_up(&mut self, call: &Call<'_, '_>, key: CallKey) -> Result<Resolved, ErrorObject> {
        let (shared, outbox) = (self.shared, self.outbox);
        let waiter = |kind, asks_about| question(outbox, call, kind, asks_about);
        let mut outcome = std::mem::take(&mut self.scratch.outcome);
        outcome.clear();
        let resolved = match key {
            CallKey::Session(named) => {
                let (sessions, number) = (&shared.table.sessions, named.number);
                self.with_session(named.session, |session| {
                    let room = sessions.room(session);
                    let waiter = || waiter(ReplyKind::Resolution, Some(named));
                    session.resolve(number, room, waiter, &mut outcome)
                })
            }
            key => {
                let plain = &shared.table.plain;
                let waiter = || waiter(ReplyKind::PlainResolution, None);
                Ok(plain.resolve(&self.plain_key(key), self.arrived, waiter, &mut outcome))
            }
        };
        self.scratch.outcome = outcome;
        resolved
    }

    /// Nothing was done for the question, which says nothing of the call.
    fn no_slot(&self, session: &Session<Waiter>) -> ErrorObject {
        self.session_full(session).with_executed(Executed::Unknown)
    }

    fn no_slot_for(&self, key: Option<CallKey>) -> ErrorObject {
        let Some(CallKey::Session(named)) = key else {
            return refusal::call_unknown();
        };
        let error = self.with_session(named.session, |session| self.no_slot(session));
        error.unwrap_or_else(|unknown| unknown)
    }

    /// Does something with a session, to which the connection is attached meanwhile.
    fn with_session<T>(
        &self,
        id: SessionId,
        access: impl FnOnce(&Arc<Session<Waiter>>) -> T,
    ) -> Result<T, ErrorObject> {
        match self.scratch.session(id) {
            Some(session) => Ok(access(session)),
            None => Attachment::to(self.shared, id, self.caller.principal(), self.awake)
                .map(|attached| access(attached.session()))
                .ok_or_else(|| self.session_unknown(id)),
        }
    }
}

pub(super) fn encoded_result(value: &impl Serialize) -> Vec<u8> {
    let mut outcome = Vec::new();
    if let Err(error) = encode_result(&mut outcome, value) {
        encode_error(&mut outcome, &refusal::result_not_json(error));
    }
    outcome
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

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

/// What is acknowledged are numbers of calls.
fn check_numbers(ack: u64, above: &[(u64, u64)]) -> Result<(), ErrorObject> {
    let highest = above.iter().map(|(_, end)| *end).fold(ack, u64::max);
    let most = SessionCall::MAX_NUMBER + 1;
    if highest <= most {
        Ok(())
    } else {
        Err(refusal::beyond_all_numbers(highest, most))
    }
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

pub(super) fn read<'a, P: Deserialize<'a>>(call: &Call<'_, 'a>) -> Result<P, ErrorObject> {
    let text = call.request.params.unwrap_or("{}");
    let read = deserialize_object(&mut serde_json::Deserializer::from_str(text));
    read.or_else(|_| {
        let read = reread_json::<ByName<P>>(text);
        read.map(|ByName(params)| params)
            .map_err(|misfit| refusal::of_method(&call.request.method, refusal::misfit(&misfit)))
    })
}

/// Params that are read as an object or not at all.
struct ByName<P>(P);

impl<'de, P: Deserialize<'de>> Deserialize<'de> for ByName<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_object(deserializer).map(Self)
    }
}
