//! The way of one message through the server: read, routed, judged by the fault rules, looked up
//! in the table, admitted, and run in place if its handler doesn't have to wait.

mod admit;
mod attachment;
mod call;
mod deferred;
mod faults;
mod left;
mod lookup;
mod permit;
mod policy;
mod rpc;
mod run;
mod scratch;
mod sight;
mod strangers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redial_protocol::{
    Batch, CallKey, Dialect, ErrorObject, Incoming, MethodKind, Rejection, ReplyMeta, Request,
    SessionId, encode_error, write_reply,
};

pub(crate) use self::scratch::ConnectionScratch;
use self::{
    attachment::Attachment,
    call::{BatchEntry, Call},
    permit::NotAdmitted,
    policy::is_forbidden,
};
use crate::{
    admission::Ticket,
    batch::{BatchAnswer, LEAST_ANSWER_BYTES},
    caller::Caller,
    clock, execution,
    fault::{RequestFault, Verdict},
    observe::EventKind,
    outbox::Outbox,
    refusal,
    shared::{ROOM_LAG, Shared},
    table::{AckedWaiters, Attempt, Decision, Fingerprint, PlainKey, Session, TableKey, ToNotify},
    waiter::{ReplyKind, Waiter, write_framed_reply},
};

/// What a connection lends to the messages of one read.
pub(crate) struct Dispatcher<'c> {
    pub(crate) shared: &'c Arc<Shared>,
    pub(crate) outbox: &'c Arc<Outbox>,
    /// Replies that are ready at once go here, and leave in one write.
    pub(crate) out: &'c mut Vec<u8>,
    pub(crate) scratch: &'c mut ConnectionScratch,
    pub(crate) caller: &'c Caller,
    pub(crate) now: Instant,
    /// The same in [time awake](crate::awake).
    pub(crate) awake: Instant,
    /// When the message may have arrived at the earliest, in time awake.
    pub(crate) arrived: Instant,
    /// A fault rule has cut the connection: the rest of what was read is lost.
    pub(crate) is_cut: bool,
}

/// A frame that was no request. Too many of them end the connection.
pub(crate) struct ProtocolError;

impl Dispatcher<'_> {
    /// Takes one frame through the server, unless it has to wait: see
    /// [`Lookups::takes_back`](lookup::Lookups::takes_back).
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Result<(), ProtocolError> {
        if self.scratch.lookups.is_some() && self.is_held(frame) {
            return Ok(());
        }
        // Looked at where it is: a request is large, and moving it costs as much as reading it.
        match &self.scratch.reader.read(frame) {
            Ok(Incoming::Request(request)) => {
                self.request(request, None);
                Ok(())
            }
            Ok(Incoming::Batch(batch)) => self.batch(batch),
            Err(rejection) => {
                let Rejection {
                    dialect, id, error, ..
                } = rejection;
                self.emit_rejection(id.raw(), error);
                if rejection.is_reply {
                    return Err(ProtocolError);
                }
                let outcome = encoded(error);
                write_framed_reply(self.out, *dialect, id.raw(), &outcome, ReplyKind::Reply);
                Err(ProtocolError)
            }
        }
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), ProtocolError> {
        let max_frame_bytes = self.shared.config.limits.max_frame_bytes;
        let (answers, bytes) = least_answer(batch);
        if bytes > max_frame_bytes {
            let error = refusal::batch_too_large(answers, bytes, max_frame_bytes);
            self.emit_rejection("null", &error);
            let outcome = encoded(&error);
            let (dialect, kind) = (Dialect::JsonRpc2, ReplyKind::Reply);
            write_framed_reply(self.out, dialect, "null", &outcome, kind);
            return Err(ProtocolError);
        }
        let answer = BatchAnswer::new(batch.len(), self.outbox, max_frame_bytes);
        let mut result = Ok(());
        for (index, entry) in batch.requests().enumerate() {
            let entry_of = BatchEntry {
                answer: &answer,
                index,
            };
            match entry {
                // The connection was cut before it.
                Ok(_) if self.is_cut => entry_of.slot().skip(),
                Ok(request) => self.request(&request, Some(entry_of)),
                Err(rejection) if rejection.is_reply => {
                    self.emit_rejection(rejection.id.raw(), &rejection.error);
                    entry_of.slot().skip();
                    result = Err(ProtocolError);
                }
                Err(Rejection {
                    dialect, id, error, ..
                }) => {
                    self.emit_rejection(id.raw(), &error);
                    let (outcome, meta) = (encoded(&error), ReplyMeta::default());
                    let mut text = Vec::new();
                    write_reply(&mut text, dialect, id.raw(), &outcome, meta);
                    entry_of.slot().fill(text);
                    result = Err(ProtocolError);
                }
            }
        }
        answer.all_read();
        result
    }

    fn emit_rejection(&self, id: &str, error: &ErrorObject) {
        let from = (self.outbox.number(), self.caller);
        self.shared.emit_refusal(error.code, id, Some(from));
    }

    fn request(&mut self, request: &Request<'_>, batch: Option<BatchEntry<'_>>) {
        let mut call = Call {
            deadline: deadline(request, self.now),
            request,
            verdict: Verdict::default(),
            batch,
            caller: self.caller,
            connection: self.outbox,
            is_observed: self.shared.observers.want_attempts(),
            span: self.shared.traces.attempt(
                request,
                || self.shared.router.kind_of(&request.method),
                self.caller,
            ),
        };
        if let Some(verdict) = self.shared.faults.judge(&request.method) {
            call.verdict = verdict;
        }
        match call.verdict.request {
            RequestFault::None => {}
            RequestFault::Drop => {
                call.emit(self.shared, EventKind::RequestDropped);
                call.skip();
                return;
            }
            RequestFault::Cut => {
                call.emit(self.shared, EventKind::Cut);
                self.outbox.cut();
                self.is_cut = true;
                return;
            }
        }
        self.route(&call);
        if call.verdict.duplicate && batch.is_none() {
            call.emit(self.shared, EventKind::Duplicated);
            self.route(&call);
        }
    }

    fn route(&mut self, call: &Call<'_, '_>) {
        if self.scratch.gate.is_some() && self.is_turned_away(call) {
            return;
        }
        let Some(method) = self.method(&call.request.method) else {
            // It may ask about the deferred call.
            self.scratch.deferred.finish(self.shared);
            self.protocol_method(call);
            return;
        };
        match self.shared.router.method(method).kind {
            MethodKind::Query => {
                self.acknowledge(call);
                self.unrecorded(call, method);
            }
            MethodKind::Mutation => match call.key() {
                None => self.unrecorded(call, method),
                Some(CallKey::Session(named)) => match self.attach(named.session) {
                    Some(session) => {
                        let key = TableKey::Session(session, named.number);
                        self.mutation(call, method, key);
                    }
                    None => self.refuse(call, &self.session_unknown(named.session)),
                },
                Some(key) => {
                    let key = TableKey::Plain(self.plain_key(key));
                    self.mutation(call, method, key);
                }
            },
        }
    }

    /// A plain id as the table looks it up: the caller's, and not that of another one who uses it too.
    fn plain_key(&self, key: CallKey) -> PlainKey {
        let key = match self.caller.principal() {
            Some(principal) => key.owned_by(principal),
            None => key,
        };
        self.shared.table.plain.key(key)
    }

    /// The index of a method in the router: most often that of the call before.
    fn method(&mut self, name: &str) -> Option<usize> {
        let router = &self.shared.router;
        if !router.is_at(self.scratch.latest_method, name) {
            self.scratch.latest_method = router.find(name)?;
        }
        Some(self.scratch.latest_method)
    }

    /// The session, to which the connection is attached from now on, if there is such a session.
    /// It stays attached to those that it has said hello to.
    fn attach(&mut self, id: SessionId) -> Option<Arc<Session<Waiter>>> {
        if let Some(session) = self.scratch.hold_session(id) {
            return Some(session);
        }
        self.scratch.deferred.finish(self.shared);
        let attachment = Attachment::to(self.shared, id, self.caller.principal(), self.awake)?;
        let attachment = self.scratch.other_session.insert(attachment);
        Some(Arc::clone(attachment.session()))
    }

    /// Takes the acknowledgement that rides on a query, which the table is not asked about.
    fn acknowledge(&mut self, call: &Call<'_, '_>) {
        let Some(ack) = call.request.meta.ack else {
            return;
        };
        let Some(CallKey::Session(named)) = call.key() else {
            return;
        };
        if !self.scratch.is_news(named.session, ack) {
            return;
        }
        let Some(session) = self.attach(named.session) else {
            return;
        };
        self.scratch.deferred.finish(self.shared);
        let window = self.shared.table.sessions.limits().window;
        let result = session.acknowledge(ack, &[], window);
        if let Some(waiters) = result.waiters {
            refuse_acknowledged(self.shared, &session, waiters);
        }
    }

    fn is_forbidden(&self, method: usize) -> bool {
        is_forbidden(self.shared, self.caller, method)
    }

    /// A call that leaves no record: a query, a notification, or an id that only correlates.
    fn unrecorded(&mut self, call: &Call<'_, '_>, method: usize) {
        if self.is_forbidden(method) {
            let forbidden = NotAdmitted::Forbidden(method);
            return self.refuse(call, &forbidden.error(self.shared));
        }
        self.scratch.permits.yield_to_queue(method);
        let priority = call.priority(&self.shared.config);
        match self.scratch.permits.admit(method, priority) {
            Ok(ticket) => {
                self.scratch.permits.refuse_displaced();
                self.start(call, method, None, ticket);
            }
            Err(reason) => self.refuse(call, &reason.error(self.shared)),
        }
    }

    /// A call with a name: found or created in one step, before any delay, queue or handler.
    fn mutation(&mut self, call: &Call<'_, '_>, method: usize, key: TableKey<Waiter>) {
        let (shared, outbox, caller) = (self.shared, self.outbox, self.caller);
        self.scratch.permits.yield_to_queue(method);
        let ConnectionScratch {
            outcome,
            deferred,
            permits,
            ..
        } = &mut *self.scratch;
        outcome.clear();
        let attempt = Attempt {
            fingerprint: fingerprint(shared, method, call.request),
            deadline: call.deadline,
            now: self.arrived,
            number: call.request.meta.attempt,
            is_numbered: call.request.is_extended,
            ack: call.request.meta.ack,
            deferred: match &key {
                TableKey::Session(session, _) => deferred.of(session),
                TableKey::Plain(_) => None,
            },
        };
        let (mut notify, is_recorded) = (ToNotify::default(), attempt.deferred.is_some());
        let decision = shared.table.begin(
            &key,
            &attempt,
            || {
                if is_forbidden(shared, caller, method) {
                    return Err(NotAdmitted::Forbidden(method));
                }
                permits.admit_mutation(method, call)
            },
            || call.waiter(outbox, &shared.router.method(method).name, ReplyKind::Reply),
            || shared.look_for_room(),
            outcome,
            &mut notify,
        );
        permits.refuse_displaced();
        if is_recorded {
            self.scratch.deferred.recorded(shared, notify.joined);
        }
        if let Some(waiters) = notify.acknowledged
            && let TableKey::Session(session, _) = &key
        {
            refuse_acknowledged(shared, session, waiters);
        }
        self.follow(decision, call, method, key);
    }

    /// Does what the table has decided about an attempt. A replay is in the scratch.
    fn follow(
        &mut self,
        decision: Decision<Ticket, NotAdmitted>,
        call: &Call<'_, '_>,
        method: usize,
        key: TableKey<Waiter>,
    ) {
        let limits = self.shared.table.sessions.limits();
        let error = match decision {
            Decision::Start(ticket) => return self.start(call, method, Some(key), ticket),
            Decision::Joined => return call.emit(self.shared, EventKind::Joined),
            Decision::Replayed => {
                call.emit(self.shared, EventKind::Replayed);
                return self.reply(call, replay_kind(&key));
            }
            Decision::IdReused => refusal::id_reused(),
            Decision::TooManyJoined => refusal::too_many_joined(limits.max_joined),
            Decision::Full { retry_after } => match &key {
                TableKey::Session(session, _) => self.session_full(session),
                TableKey::Plain(_) => refusal::table_full(retry_after + ROOM_LAG),
            },
            Decision::ShareFull { retry_after } => {
                refusal::table_share_full(retry_after + ROOM_LAG)
            }
            Decision::Refused(reason) => reason.error(self.shared),
            Decision::RefusedBefore { up_to } => refusal::refused_before(up_to),
            Decision::Forgotten => refusal::call_unknown(),
            Decision::NoSlot => match &key {
                TableKey::Session(session, _) => {
                    self.refresh(session);
                    self.session_full(session)
                }
                TableKey::Plain(_) => refusal::window_full(limits.window, limits.max_bytes),
            },
            Decision::FarBeyondWindow => {
                if let TableKey::Session(session, _) = &key {
                    self.refresh(session);
                }
                refusal::far_beyond_window(limits.window)
            }
            Decision::Acknowledged => refusal::acknowledged(),
            Decision::Fenced => return self.refuse_fenced(call, method, &key),
        };
        self.refuse(call, &error);
    }

    /// Refuses an attempt of a call that is fenced in memory, and maybe not yet in the store.
    fn refuse_fenced(&mut self, call: &Call<'_, '_>, method: usize, key: &TableKey<Waiter>) {
        match key.call_key() {
            CallKey::Session(named) if self.shared.store.is_some() => {
                let fingerprint = fingerprint(self.shared, method, call.request);
                let method = call.request.method.as_ref().into();
                let waiter = call.waiter(self.outbox, &method, ReplyKind::Reply);
                waiter.emit(self.shared, EventKind::Refused(refusal::fenced().code));
                self.fence_or_run(waiter, named, Some(fingerprint));
            }
            _ => self.refuse(call, &refusal::fenced()),
        }
    }

    /// Which limit a call of the session, or its record, would go beyond.
    fn session_full(&self, session: &Session<Waiter>) -> ErrorObject {
        let sessions = &self.shared.table.sessions;
        let limits = sessions.limits();
        if sessions.is_full(session) {
            refusal::session_share_full(limits.max_total_bytes)
        } else {
            refusal::window_full(limits.window, limits.max_bytes)
        }
    }

    fn refuse(&mut self, call: &Call<'_, '_>, error: &ErrorObject) {
        call.emit(self.shared, EventKind::Refused(error.code));
        let outcome = &mut self.scratch.outcome;
        outcome.clear();
        encode_error(outcome, error);
        let kind = ReplyKind::refusal(call.key(), call.request.meta.attempt);
        self.reply(call, kind);
    }

    /// Answers with the outcome in the scratch: straight into the connection's buffer, unless a
    /// batch or a fault rule comes between.
    fn reply(&mut self, call: &Call<'_, '_>, kind: ReplyKind) {
        let outcome = &self.scratch.outcome;
        let Some(id) = &call.request.id else {
            call.skip();
            return;
        };
        if call.batch.is_none() && call.verdict.leaves_reply_alone() {
            call.observe_end(self.shared, EventKind::Replied, outcome, Duration::ZERO);
            write_framed_reply(self.out, call.request.dialect, id.raw(), outcome, kind);
        } else {
            let method = call.request.method.as_ref().into();
            let waiter = call.waiter(self.outbox, &method, kind);
            waiter.reply(self.shared, outcome);
        }
    }
}

/// Refuses those who wait for calls that their caller has acknowledged.
fn refuse_acknowledged(
    shared: &Arc<Shared>,
    session: &Arc<Session<Waiter>>,
    waiters: AckedWaiters<Waiter>,
) {
    for waiter in waiters.started {
        waiter.refuse(shared, &refusal::acknowledged());
    }
    // An acknowledgement becomes durable when it may. Until then a crash would let a copy run, so that
    // with a store no more is said than that the caller has acknowledged the call.
    let refusal = match shared.store {
        Some(_) => refusal::acknowledged(),
        None => refusal::cancelled(),
    };
    let queued = waiters.queued.into_iter();
    let queued = queued.filter_map(|number| execution::remove_queued(shared, session, number));
    for waiter in waiters.never.into_iter().chain(queued) {
        waiter.refuse(shared, &refusal);
    }
}

/// Clients with a session hear what is a replay.
fn replay_kind(key: &TableKey<Waiter>) -> ReplyKind {
    match key {
        TableKey::Plain(_) => ReplyKind::Reply,
        TableKey::Session(..) => ReplyKind::Replay,
    }
}

/// When the caller stops waiting, if it said so. Handlers reckon with it, so it is no further away than
/// any server waits.
fn deadline(request: &Request<'_>, now: Instant) -> Option<Instant> {
    let timeout = Duration::from_millis(request.meta.timeout_ms?);
    Some(clock::after(now, timeout))
}

/// How many answers a batch has, and how many bytes they take together if all of them give way.
fn least_answer(batch: &Batch<'_>) -> (usize, usize) {
    let ids = batch.requests().filter_map(|entry| match entry {
        Ok(request) => request.id.map(|id| id.raw().len()),
        Err(rejection) => Some(rejection.id.raw().len()),
    });
    ids.fold((0, 1), |(answers, bytes), id| {
        (answers + 1, bytes + id + LEAST_ANSWER_BYTES + 1)
    })
}

fn fingerprint(shared: &Shared, method: usize, request: &Request<'_>) -> Fingerprint {
    let seed = shared.router.method(method).fingerprint_seed;
    Fingerprint::new(seed, request.params.unwrap_or_default())
}

fn encoded(error: &ErrorObject) -> Vec<u8> {
    let mut outcome = Vec::new();
    encode_error(&mut outcome, error);
    outcome
}
