//! The way of one message through the server: read, routed, judged by the fault rules, looked up
//! in the table, admitted, and run where it stands if its handler doesn't have to wait.

mod call;
mod kit;
mod refusal;
mod rpc;
mod run;

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use redial_protocol::{
    Batch, CallKey, ErrorObject, Incoming, MethodKind, Rejection, ReplyMeta, Request, SessionId,
    reply,
};

use self::{
    call::Call,
    refusal::{
        Refusal, already_acknowledged, fenced, id_reused, no_slot, refused_before, session_unknown,
        table_full, too_many_joined,
    },
    run::admit,
};
pub(crate) use self::{kit::Kit, refusal::call_unknown};
use crate::{
    admission::Ticket,
    attachment::Attachment,
    batch::BatchAnswer,
    execution,
    fault::Arrival,
    observe::EventKind,
    outbox::Outbox,
    shared::Shared,
    table::{Acknowledged, Admitted, Attempt, Begin, Fingerprint, Session, TableKey, Told},
    waiter::{Form, Waiter, write_reply},
};

/// What names a call in the server's table.
type Key = TableKey<Waiter>;

impl Key {
    /// Clients with a session are told what is a replay.
    fn replay_form(&self) -> Form {
        match self {
            Self::Plain(_) => Form::Reply,
            Self::Session(..) => Form::Replay,
        }
    }
}

/// What a connection lends to the messages of one read.
pub(crate) struct Turn<'c> {
    pub(crate) shared: &'c Arc<Shared>,
    pub(crate) outbox: &'c Arc<Outbox>,
    /// Replies that are ready at once go here, and leave in one write.
    pub(crate) out: &'c mut Vec<u8>,
    pub(crate) kit: &'c mut Kit,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) now: Instant,
    /// A fault rule has broken the connection: the rest of what was read is lost.
    pub(crate) cut: bool,
}

/// A frame that was no request. Too many of them end the connection.
pub(crate) struct ProtocolError;

impl Turn<'_> {
    /// Takes in one frame.
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Result<(), ProtocolError> {
        // Looked at where it is: a request is large, and moving it costs as much as reading it.
        match &self.kit.reader.read(frame) {
            Ok(Incoming::Request(request)) => {
                self.request(request, None);
                Ok(())
            }
            Ok(Incoming::Batch(batch)) => self.batch(batch),
            Err(Rejection { dialect, id, error }) => {
                let outcome = encoded(error);
                self.shared
                    .tell(EventKind::Refused(error.code), Some(id.raw()), 1, "");
                write_reply(self.out, *dialect, id.raw(), &outcome, Form::Reply);
                Err(ProtocolError)
            }
        }
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), ProtocolError> {
        let max_frame_bytes = self.shared.config.limits.max_frame_bytes;
        let answer = BatchAnswer::new(batch.len(), self.outbox, max_frame_bytes);
        let mut result = Ok(());
        for (index, entry) in batch.requests().enumerate() {
            match entry {
                // The rest came too late: the connection was cut before it.
                Ok(_) if self.cut => answer.place(index).skip(),
                Ok(request) => self.request(&request, Some((&answer, index))),
                Err(Rejection { dialect, id, error }) => {
                    let mut text = Vec::new();
                    reply::write(
                        &mut text,
                        dialect,
                        id.raw(),
                        &encoded(&error),
                        ReplyMeta::default(),
                    );
                    self.shared
                        .tell(EventKind::Refused(error.code), Some(id.raw()), 1, "");
                    answer.place(index).fill(text);
                    result = Err(ProtocolError);
                }
            }
        }
        answer.read();
        result
    }

    fn request(&mut self, request: &Request<'_>, batch: Option<(&Arc<BatchAnswer>, usize)>) {
        let verdict = self.shared.faults.judge(&request.method);
        let call = Call {
            deadline: deadline(request, self.now),
            request,
            verdict,
            batch,
        };
        match verdict.arrival {
            Arrival::Pass => {}
            Arrival::Drop => {
                call.tell(self.shared, EventKind::RequestDropped);
                call.skip();
                return;
            }
            Arrival::Cut => {
                call.tell(self.shared, EventKind::Cut);
                self.outbox.cut();
                self.cut = true;
                return;
            }
        }
        self.route(&call);
        if verdict.duplicate && batch.is_none() {
            call.tell(self.shared, EventKind::Duplicated);
            self.route(&call);
        }
    }

    fn route(&mut self, call: &Call<'_, '_>) {
        let Some(method) = self.method(&call.request.method) else {
            // It may ask for what was run just now.
            self.kit.finish_latest(self.shared);
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
                        self.mutation(call, method, &mut Some(key));
                    }
                    None => self.refuse(call, &session_unknown(named.session)),
                },
                Some(key) => {
                    let key = TableKey::Plain(self.shared.table.plain.key(key));
                    self.mutation(call, method, &mut Some(key));
                }
            },
        }
    }

    /// The place of a method among those that are registered: most often that of the call before.
    fn method(&mut self, name: &str) -> Option<usize> {
        let router = &self.shared.router;
        if !router.is_at(self.kit.latest_method, name) {
            self.kit.latest_method = router.find(name)?;
        }
        Some(self.kit.latest_method)
    }

    /// The session, to which the connection is attached from now on, if there is such a session.
    /// It stays attached to the one that it has said hello to.
    fn attach(&mut self, id: SessionId) -> Option<Arc<Session<Waiter>>> {
        if let Some(session) = self.kit.hold_session(id) {
            return Some(session);
        }
        self.kit.finish_latest(self.shared);
        let attachment = Attachment::to(self.shared, id, self.now)?;
        let attachment = self.kit.other_session.insert(attachment);
        Some(Arc::clone(attachment.session()))
    }

    /// Takes an acknowledgement that rides on a query, which the table is not asked about.
    fn acknowledge(&mut self, call: &Call<'_, '_>) {
        let Some(ack) = call.request.meta.ack else {
            return;
        };
        let Some(CallKey::Session(named)) = call.key() else {
            return;
        };
        let Some(session) = self.attach(named.session) else {
            return;
        };
        self.kit.finish_latest(self.shared);
        let limits = self.shared.table.sessions.limits();
        let (_, told) = session.acknowledge(ack, &[], limits);
        self.tell_acknowledged(&session, told);
    }

    /// Tells those who waited for calls that their caller says are over.
    fn tell_acknowledged(&self, session: &Arc<Session<Waiter>>, told: Acknowledged<Waiter>) {
        for waiter in told.begun {
            waiter.refuse(self.shared, &already_acknowledged());
        }
        for waiter in told.never {
            waiter.refuse(self.shared, &execution::cancelled());
        }
        for number in told.waiting {
            execution::remove_queued(self.shared, session, number);
        }
    }

    /// A call that leaves no record: a query, a notification, or an id that only correlates.
    fn unrecorded(&mut self, call: &Call<'_, '_>, method: usize) {
        self.make_way();
        match self.admit() {
            Ok(ticket) => self.start(call, method, &mut None, ticket),
            Err(refusal) => self.refuse(call, &refusal.into()),
        }
    }

    /// A call with a name: found or created in one step, before any delay, queue or handler.
    fn mutation(&mut self, call: &Call<'_, '_>, method: usize, key: &mut Option<Key>) {
        let Some(name) = key else { return };
        let shared = self.shared;
        self.make_way();
        let attempt = Attempt {
            fingerprint: fingerprint(shared, method, call.request),
            deadline: call.deadline,
            now: self.now,
            number: call.request.meta.attempt.max(1),
            ack: call.request.meta.ack,
        };
        let (mut told, outbox) = (Told::default(), self.outbox);
        let Kit {
            outcome,
            unfinished,
            has_place,
            ..
        } = &mut *self.kit;
        outcome.clear();
        let ended = match name {
            TableKey::Session(session, _) => unfinished.of(session),
            TableKey::Plain(_) => None,
        };
        let is_recorded = ended.is_some();
        let begin = shared.table.begin(
            name,
            attempt,
            || admit_mutation(shared, call, has_place),
            || call.waiter(outbox, &shared.router.method(method).name, Form::Reply),
            outcome,
            (ended, &mut told),
        );
        if is_recorded {
            self.kit.latest_session = self.kit.unfinished.tell(shared, told.joined);
        }
        if let Some(acknowledged) = told.acknowledged
            && let TableKey::Session(session, _) = name
        {
            self.tell_acknowledged(session, acknowledged);
        }
        match begin {
            Begin::Start(ticket) => self.start(call, method, key, ticket),
            Begin::Joined => call.tell(shared, EventKind::Joined),
            Begin::Replayed => {
                call.tell(shared, EventKind::Replayed);
                let form = name.replay_form();
                self.reply_kept(call, form);
            }
            Begin::IdReused => self.refuse(call, &id_reused()),
            Begin::TooManyJoined => self.refuse(call, &too_many_joined(shared)),
            Begin::Full { retry_after } => self.refuse(call, &table_full(retry_after)),
            Begin::Refused(refusal) => self.refuse(call, &refusal.into()),
            Begin::RefusedBefore { up_to } => self.refuse(call, &refused_before(up_to)),
            Begin::NoSlot => self.refuse(call, &no_slot(shared.table.sessions.limits())),
            Begin::Stale => self.refuse(call, &already_acknowledged()),
            Begin::Fenced => self.refuse(call, &fenced()),
        }
    }

    fn refuse(&mut self, call: &Call<'_, '_>, error: &ErrorObject) {
        call.tell(self.shared, EventKind::Refused(error.code));
        let attempt = call.request.meta.attempt;
        self.reply_as(call, &encoded(error), Form::refusal(call.key(), attempt));
    }

    fn reply(&mut self, call: &Call<'_, '_>, outcome: &[u8]) {
        self.reply_as(call, outcome, Form::Reply);
    }

    fn reply_as(&mut self, call: &Call<'_, '_>, outcome: &[u8], form: Form) {
        answer(self.shared, self.outbox, self.out, call, outcome, form);
    }

    /// Answers with the outcome in the kit.
    fn reply_kept(&mut self, call: &Call<'_, '_>, form: Form) {
        let outcome = &self.kit.outcome;
        answer(self.shared, self.outbox, self.out, call, outcome, form);
    }
}

/// Answers now: straight into the connection's buffer, unless a batch or a fault rule has a word
/// in it.
fn answer(
    shared: &Arc<Shared>,
    outbox: &Arc<Outbox>,
    out: &mut Vec<u8>,
    call: &Call<'_, '_>,
    outcome: &[u8],
    form: Form,
) {
    let Some(id) = &call.request.id else {
        call.skip();
        return;
    };
    if call.batch.is_none() && call.verdict.replies_plainly() {
        call.tell(shared, EventKind::Replied);
        write_reply(out, call.request.dialect, id.raw(), outcome, form);
    } else {
        let method = call.request.method.as_ref().into();
        call.waiter(outbox, &method, form).deliver(shared, outcome);
    }
}

fn admit_mutation(
    shared: &Shared,
    call: &Call<'_, '_>,
    has_place: &Cell<bool>,
) -> Result<Admitted<Ticket>, Refusal> {
    let ticket = admit(shared, has_place)?;
    let at_once = ticket == Ticket::Run && call.verdict.delay_execution.is_none();
    Ok(Admitted { ticket, at_once })
}

/// When the caller stops waiting; none if it did not say, or if that is beyond all clocks.
fn deadline(request: &Request<'_>, now: Instant) -> Option<Instant> {
    let timeout = Duration::from_millis(request.meta.timeout_ms?);
    now.checked_add(timeout)
}

fn fingerprint(shared: &Shared, method: usize, request: &Request<'_>) -> Fingerprint {
    let seed = shared.router.method(method).fingerprint_seed;
    Fingerprint::new(seed, request.params.unwrap_or_default())
}

fn encoded(error: &ErrorObject) -> Vec<u8> {
    let mut outcome = Vec::new();
    reply::encode_error(&mut outcome, error);
    outcome
}
