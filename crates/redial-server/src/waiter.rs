//! One attempt that waits for an outcome: its connection, its id, how its reply is spelled, and
//! what the fault rules do to that reply.

use std::sync::Arc;

use redial_protocol::{
    CallKey, Dialect, ErrorObject, Executed, Id, SessionCall, encode_error, write_frame,
};
use serde_json::value::RawValue;

pub(crate) use crate::reply_kind::{NEVER, ReplyKind};
use crate::{
    batch::BatchSlot,
    fault::{ReplyFault, Verdict},
    never::{self, Refusal},
    observe::{Event, EventContext, EventKind, error_of},
    outbox::ReplyPermit,
    refusal,
    shared::Shared,
    store::{Fenced, StoreError},
    table::TableWaiter,
    traces::AttemptSpan,
};

/// One attempt that is answered later.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) permit: ReplyPermit,
    /// Its slot in a batch's answer, if the attempt came in a batch.
    pub(crate) batch: Option<BatchSlot>,
    pub(crate) dialect: Dialect,
    /// The id as it was written.
    pub(crate) id: Box<str>,
    pub(crate) method: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) verdict: Verdict,
    pub(crate) kind: ReplyKind,
    /// The call of a session that it asks about (`rpc.resolve`).
    pub(crate) asks_about: Option<SessionCall>,
    /// What observers hear of it, where there are any.
    pub(crate) event_context: Option<Box<EventContext>>,
    pub(crate) span: AttemptSpan,
}

impl TableWaiter for Waiter {
    fn is_connected(&self) -> bool {
        !self.permit.outbox().is_closed()
    }

    fn is_question(&self) -> bool {
        matches!(
            self.kind,
            ReplyKind::Resolution | ReplyKind::PlainResolution
        )
    }
}

impl Waiter {
    /// Answers the attempt, now or after the delay of its verdict.
    pub(crate) fn reply(self, shared: &Arc<Shared>, outcome: &[u8]) {
        let Some(delay) = self.verdict.delay_reply else {
            return self.reply_now(shared, outcome);
        };
        let (shared, outcome) = (Arc::clone(shared), outcome.to_vec());
        let tracker = shared.executions.clone();
        tracker.spawn(async move {
            tokio::select! {
                biased;
                () = tokio::time::sleep(delay) => {}
                () = shared.cut_off.cancelled() => {}
            }
            self.reply_now(&shared, &outcome);
        });
    }

    /// Answers the attempt with the outcome of the execution. An outcome that is not recorded
    /// answers no question: the call had no effect.
    pub(crate) fn complete(mut self, shared: &Arc<Shared>, outcome: &[u8], is_recorded: bool) {
        if is_recorded {
            self.reply(shared, outcome);
        } else if self.is_question() {
            self.refuse(shared, &refusal::no_effect());
        } else {
            // Another attempt may run, and a copy of this one has the same answer.
            self.kind = ReplyKind::refusal(self.key(), self.attempt);
            self.reply(shared, outcome);
        }
    }

    /// Answers the attempt with an error, which says whether the call was executed.
    pub(crate) fn refuse(self, shared: &Arc<Shared>, error: &ErrorObject) {
        let mut outcome = Vec::new();
        match (self.asks_about, self.kind, error.executed()) {
            // Nothing was executed, and the id was fenced because of this question.
            (Some(call), _, Executed::No) => {
                return self.fence(shared, call, refusal::fenced);
            }
            // Another attempt may be executed at any time, so nothing is certain.
            (_, ReplyKind::PlainResolution, Executed::No) => {
                encode_error(&mut outcome, &refusal::call_unknown());
            }
            _ => encode_error(&mut outcome, error),
        }
        self.emit(shared, EventKind::Refused(error.code));
        let kind = self.refusal_kind();
        self.conclude(shared, kind, &outcome);
    }

    /// Answers an attempt of a call that the table in memory lets run no more, or a question about it,
    /// when that is as durable as the calls are.
    pub(crate) fn fence(self, shared: &Arc<Shared>, call: SessionCall, refusal: Refusal) {
        self.emit(shared, EventKind::Refused(refusal().code));
        let Some(store) = shared.store.clone() else {
            return self.say(shared, call, refusal, Ok(Fenced::Never));
        };
        let answering = Arc::clone(shared);
        // The shutdown waits for it as for an execution.
        let token = shared.executions.token();
        let done = never::on_runtime(move |fenced| {
            self.say(&answering, call, refusal, fenced);
            drop(token);
        });
        store.fence(CallKey::Session(call), done);
        store.flush();
    }

    /// Answers with what the store has said.
    pub(crate) fn say(
        self,
        shared: &Arc<Shared>,
        call: SessionCall,
        refusal: Refusal,
        fenced: Result<Fenced, StoreError>,
    ) {
        shared.settle_fence(call, &fenced);
        let is_shared = shared.is_store_shared();
        let reply = match fenced {
            Ok(fenced) if self.is_question() => never::resolution(fenced),
            Ok(fenced) => never::reply(fenced, call, refusal, is_shared),
            // Nothing was executed in this life of the server; of a later one nothing is said.
            Err(error) => never::fence_failed(&error).into(),
        };
        let kind = reply.kind.unwrap_or_else(|| self.refusal_kind());
        self.conclude(shared, kind, &reply.outcome);
    }

    /// Answers with this outcome as a reply of this kind.
    fn conclude(mut self, shared: &Arc<Shared>, kind: ReplyKind, outcome: &[u8]) {
        self.kind = kind;
        self.reply(shared, outcome);
    }

    /// How it is refused.
    fn refusal_kind(&self) -> ReplyKind {
        if self.is_question() {
            ReplyKind::Reply
        } else {
            ReplyKind::refusal(self.key(), self.attempt)
        }
    }

    pub(crate) fn emit(&self, shared: &Shared, kind: EventKind) {
        self.span.note(kind, || None);
        shared.emit(kind, || self.event(kind));
    }

    pub(crate) fn event(&self, kind: EventKind) -> Event<'_> {
        let event_context = self.event_context.as_ref();
        Event {
            id: Some(&self.id),
            attempt: self.attempt,
            method: &self.method,
            ..event_context.map_or_else(
                || Event::of(kind),
                |event_context| event_context.event(kind),
            )
        }
    }

    fn key(&self) -> Option<CallKey> {
        let raw: &RawValue = serde_json::from_str(&self.id).ok()?;
        Id::parse(raw).ok()?.key(self.dialect)
    }

    /// Sends the reply, or does to it what its verdict says.
    fn reply_now(self, shared: &Shared, outcome: &[u8]) {
        let outbox = self.permit.outbox();
        match self.verdict.reply {
            ReplyFault::None => self.send(shared, outcome),
            ReplyFault::Drop => {
                self.emit(shared, EventKind::ReplyDropped);
                outbox.withhold();
                if let Some(slot) = self.batch {
                    slot.skip();
                }
            }
            ReplyFault::CutBefore => {
                self.emit(shared, EventKind::Cut);
                outbox.cut();
            }
            ReplyFault::CutMid => {
                self.emit(shared, EventKind::Cut);
                let frame = self.frame(outcome);
                outbox.send_last(&frame[..frame.len() / 2]);
            }
            ReplyFault::CutAfter => {
                self.emit(shared, EventKind::Cut);
                let frame = self.frame(outcome);
                outbox.send_last(&frame);
            }
        }
    }

    fn send(self, shared: &Shared, outcome: &[u8]) {
        self.span.note(EventKind::Replied, || error_of(outcome));
        shared.observe(EventKind::Replied, || Event {
            error: error_of(outcome),
            ..self.event(EventKind::Replied)
        });
        let Some(slot) = self.batch else {
            return self.permit.outbox().send(|out| {
                write_framed_reply(out, self.dialect, &self.id, outcome, self.kind);
            });
        };
        let mut answer = Vec::new();
        self.kind
            .write(&mut answer, self.dialect, &self.id, outcome);
        slot.fill(answer);
    }

    fn frame(&self, outcome: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_framed_reply(&mut frame, self.dialect, &self.id, outcome, self.kind);
        frame
    }
}

/// Answers all attempts that have joined an execution. Nearly always there isn't one.
#[inline]
pub(crate) fn complete_all(
    shared: &Arc<Shared>,
    joined: Vec<Waiter>,
    outcome: &[u8],
    is_recorded: bool,
) {
    if !joined.is_empty() {
        for waiter in joined {
            waiter.complete(shared, outcome, is_recorded);
        }
    }
}

/// Appends an error that answers no request, in its frame.
pub(crate) fn write_unasked_error(out: &mut Vec<u8>, error: &ErrorObject) {
    let mut outcome = Vec::new();
    encode_error(&mut outcome, error);
    let (id, kind) = (Id::NULL.raw(), ReplyKind::Reply);
    write_framed_reply(out, Dialect::JsonRpc2, id, &outcome, kind);
}

/// Appends a reply in its frame. Outcomes are made to fit when they are recorded, so that no
/// limit needs to be held against them here.
pub(crate) fn write_framed_reply(
    out: &mut Vec<u8>,
    dialect: Dialect,
    id: &str,
    outcome: &[u8],
    kind: ReplyKind,
) {
    write_frame(out, u32::MAX as usize, |out| {
        kind.write(out, dialect, id, outcome);
    })
    .expect("outcomes are made to fit into a frame");
}
