//! The methods of the protocol itself. They pass every queue, and nothing of them is recorded.

use std::sync::Arc;

use redial_protocol::{
    CallKey, Dialect, ErrorCode, ErrorObject, Id, SessionCall, SessionId, cut, reply, rpc,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Call, Turn, encoded,
    refusal::{
        already_acknowledged, call_unknown, no_slot_to_ask, session_unknown, sessions_full,
        too_many_joined, too_many_sessions,
    },
};
use crate::{
    attachment::Attachment,
    execution,
    table::{Cancelled, Resolved, Session, SessionLimits},
    waiter::{Form, NEVER, Waiter},
};

/// How many sessions one connection may say hello to. A client needs one, and another when it keeps
/// many calls whose outcome it does not know.
const MAX_SESSIONS: usize = 16;

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
            Some(id) => self.say_hello_to(id)?,
            None => self.open_session()?,
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

    fn say_hello_to(&mut self, id: SessionId) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        let mut known = self.kit.sessions.iter().map(Attachment::session);
        if let Some(session) = known.find(|session| session.id() == id) {
            return Ok(Arc::clone(session));
        }
        let attached = Attachment::to(self.shared, id, self.now);
        self.stay(attached.ok_or_else(|| session_unknown(id))?)
    }

    fn open_session(&mut self) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        if self.shared.is_draining() {
            return Err(execution::shutting_down());
        }
        if self.kit.sessions.len() >= MAX_SESSIONS {
            return Err(too_many_sessions(MAX_SESSIONS));
        }
        self.stay(Attachment::open(self.shared, self.now).ok_or_else(sessions_full)?)
    }

    /// Holds the session for as long as the connection lives: calls of it may be under way.
    fn stay(&mut self, attachment: Attachment) -> Result<Arc<Session<Waiter>>, ErrorObject> {
        if self.kit.sessions.len() >= MAX_SESSIONS {
            return Err(too_many_sessions(MAX_SESSIONS));
        }
        let session = Arc::clone(attachment.session());
        self.kit.sessions.push(attachment);
        Ok(session)
    }

    /// Forgets what the caller is done with.
    fn ack(&mut self, params: rpc::AckParams) -> Result<Vec<u8>, ErrorObject> {
        let limits = self.shared.table.sessions.limits();
        check_ranges(&params.above, limits)?;
        let is_taken = self.visit(params.session, |session| {
            let (is_taken, told) = session.acknowledge(params.ack, &params.above, limits);
            self.tell_acknowledged(session, told);
            is_taken
        })?;
        match is_taken {
            true => Ok(result(&true)),
            false => Err(no_slot_to_ask(limits)),
        }
    }

    /// Takes a call back that has not begun.
    fn cancel(&mut self, params: NamedCall<'_>) -> Result<Vec<u8>, ErrorObject> {
        let CallKey::Session(named) = params.key()? else {
            let detail = format!(
                "{} names no call of a session; expected a UUID of version 8",
                cut(params.id.get())
            );
            return Err(ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail));
        };
        let state = self.take_back(named)?;
        Ok(result(&rpc::Cancellation { state }))
    }

    fn take_back(&mut self, named: SessionCall) -> Answer {
        let (shared, number) = (self.shared, named.number);
        let sessions = &shared.table.sessions;
        self.visit(named.session, |session| {
            match session.cancel(number, sessions) {
                Cancelled::Never(waiting) => {
                    // It had a place in the queue only if it was on its way.
                    if let Some(waiters) = waiting {
                        for waiter in waiters {
                            waiter.refuse(shared, &execution::cancelled());
                        }
                        execution::remove_queued(shared, session, number);
                    }
                    Ok(rpc::State::Never)
                }
                Cancelled::Running => Ok(rpc::State::Running),
                Cancelled::Done => Ok(rpc::State::Done),
                Cancelled::Stale => Err(already_acknowledged()),
                Cancelled::NoSlot => Err(no_slot_to_ask(sessions.limits())),
            }
        })?
    }

    /// Answers with the outcome of a call, when there is one. If there is none, there never will be.
    fn resolve(&mut self, call: &Call<'_, '_>) {
        if call.request.is_notification() {
            // A question that nobody wants the answer to.
            call.skip();
            return;
        }
        let mut outcome = Vec::new();
        let params = read::<NamedCall<'_>>(call.request.params);
        let resolved = params
            .and_then(|params| params.key())
            .and_then(|key| self.look_up(call, key, &mut outcome));
        let limits = self.shared.table.sessions.limits();
        let error = match resolved {
            Ok(Resolved::Joined) => return,
            Ok(Resolved::Done) => return self.reply_as(call, &outcome, Form::Resolution),
            Ok(Resolved::Never) => return self.reply(call, NEVER),
            Ok(Resolved::Stale) => already_acknowledged(),
            Ok(Resolved::TooManyJoined) => too_many_joined(self.shared),
            Ok(Resolved::NoSlot) => no_slot_to_ask(limits),
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
        let waiter = |form| call.waiter(outbox, &rpc::RESOLVE.into(), form);
        match key {
            CallKey::Session(named) => {
                let (sessions, number) = (&shared.table.sessions, named.number);
                self.visit(named.session, |session| {
                    session.resolve(number, sessions, || waiter(Form::Resolution), outcome)
                })
            }
            key => {
                let (plain, form) = (&shared.table.plain, Form::PlainResolution);
                Ok(plain.resolve(&plain.key(key), self.now, || waiter(form), outcome))
            }
        }
    }

    /// Does something with a session without staying with it.
    fn visit<T>(
        &self,
        id: SessionId,
        visit: impl FnOnce(&Arc<Session<Waiter>>) -> T,
    ) -> Result<T, ErrorObject> {
        match self.kit.session(id) {
            Some(session) => Ok(visit(session)),
            None => Attachment::to(self.shared, id, self.now)
                .map(|attached| visit(attached.session()))
                .ok_or_else(|| session_unknown(id)),
        }
    }
}

/// The id of a call that somebody asks about, as it was written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedCall<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

impl NamedCall<'_> {
    fn key(&self) -> Result<CallKey, ErrorObject> {
        let invalid = |why: String| ErrorObject::raised(ErrorCode::INVALID_PARAMS, why);
        let id = Id::parse(self.id).map_err(|error| invalid(error.to_string()))?;
        // What is a key in one dialect only is found in its table only if it is one.
        id.key(Dialect::Notebook)
            .ok_or_else(|| invalid("null names no call; expected the id of one".to_owned()))
    }
}

/// Ranges that ascend are worked off in one pass over the session's records, whatever their number.
fn check_ranges(ranges: &[(u64, u64)], limits: &SessionLimits) -> Result<(), ErrorObject> {
    let invalid = |why: String| Err(ErrorObject::raised(ErrorCode::INVALID_PARAMS, why));
    let max = limits.window.saturating_mul(2).saturating_add(1);
    if ranges.len() > max {
        let found = ranges.len();
        return invalid(format!(
            "{found} ranges; at most {max} can be of use in the window"
        ));
    }
    let ascends = |pair: &[(u64, u64)]| pair[0].1 <= pair[1].0;
    let is_range = |(from, to): &(u64, u64)| from < to;
    match ranges.iter().all(is_range) && ranges.windows(2).all(ascends) {
        true => Ok(()),
        false => invalid("ranges that are empty, overlap or do not ascend".to_owned()),
    }
}

fn read<'a, P: Deserialize<'a>>(params: Option<&'a str>) -> Result<P, ErrorObject> {
    serde_json::from_str(params.unwrap_or("{}"))
        .map_err(|error| ErrorObject::raised(ErrorCode::INVALID_PARAMS, cut(&error.to_string())))
}

fn result(value: &impl serde::Serialize) -> Vec<u8> {
    let mut outcome = Vec::new();
    match reply::encode_result(&mut outcome, value) {
        Ok(()) => outcome,
        Err(error) => encoded(&ErrorObject::raised(ErrorCode::INTERNAL_ERROR, error)),
    }
}
