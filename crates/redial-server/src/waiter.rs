//! Who waits for the outcome of a call: one attempt, the connection it came on, and what the
//! fault rules have in store for its reply.

use std::sync::Arc;

use redial_protocol::{
    CallKey, Dialect, ErrorCode, ErrorObject, Executed, Id, ReplyMeta, reply, write_frame,
};
use serde_json::value::RawValue;

use crate::{
    batch::BatchPlace,
    dispatch::call_unknown,
    fault::{Departure, Verdict},
    observe::EventKind,
    outbox::Owed,
    shared::Shared,
    table::Waits,
};

/// One attempt that will be answered later.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) owed: Owed,
    /// The place in a batch's answer, if the attempt came in a batch.
    pub(crate) batch: Option<BatchPlace>,
    pub(crate) dialect: Dialect,
    /// The id as it was written.
    pub(crate) id: Box<str>,
    pub(crate) method: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) verdict: Verdict,
    pub(crate) form: Form,
}

/// The outcome of asking about a call that was not executed and never will be.
pub(crate) const NEVER: &[u8] = br#""result":{"state":"never"}"#;

/// What an outcome is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The reply to the call.
    Reply,
    /// The refusal of this attempt of a session's call.
    Refusal { attempt: u32 },
    /// The same, to a client that wants to know that it was recorded before.
    Replay,
    /// The answer to somebody who has asked for the outcome of a session's call.
    Resolution,
    /// The answer to somebody who has asked for the outcome of a call with a plain id.
    PlainResolution,
}

impl Waits for Waiter {
    fn is_there(&self) -> bool {
        !self.owed.outbox().is_closed()
    }

    fn asks(&self) -> bool {
        matches!(self.form, Form::Resolution | Form::PlainResolution)
    }
}

impl Waiter {
    /// Answers the attempt, or loses the answer if that was its verdict.
    pub(crate) fn deliver(self, shared: &Arc<Shared>, outcome: &[u8]) {
        match self.verdict.delay_reply {
            None => self.depart(shared, outcome),
            Some(delay) => {
                let (shared, outcome) = (Arc::clone(shared), outcome.to_vec());
                let tracker = shared.executions.clone();
                tracker.spawn(async move {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(delay) => {}
                        () = shared.cut_off.cancelled() => {}
                    }
                    self.depart(&shared, &outcome);
                });
            }
        }
    }

    /// Answers the attempt, now that the execution has ended. An outcome that is not recorded is
    /// none for somebody who only asks: the call had no effect.
    pub(crate) fn settle(mut self, shared: &Arc<Shared>, outcome: &[u8], recorded: bool) {
        match (recorded, self.asks()) {
            (false, true) => self.refuse(shared, &without_effect()),
            (true, _) => self.deliver(shared, outcome),
            (false, false) => {
                // Another attempt may run, and a copy of this one has the same answer.
                self.form = Form::refusal(self.key(), self.attempt);
                self.deliver(shared, outcome);
            }
        }
    }

    /// Answers the attempt with an error, which says whether the call was executed.
    pub(crate) fn refuse(mut self, shared: &Arc<Shared>, error: &ErrorObject) {
        let mut outcome = Vec::new();
        match (self.form, error.executed()) {
            // Nothing was executed, and whoever said so has fenced the id because of the question.
            (Form::Resolution, Executed::No) => outcome.extend_from_slice(NEVER),
            // Another attempt may be executed at any time, so nobody knows.
            (Form::PlainResolution, Executed::No) => {
                reply::encode_error(&mut outcome, &call_unknown());
            }
            _ => reply::encode_error(&mut outcome, error),
        }
        self.form = match self.form {
            Form::Resolution | Form::PlainResolution => Form::Reply,
            _ => Form::refusal(self.key(), self.attempt),
        };
        self.tell(shared, EventKind::Refused(error.code));
        self.deliver(shared, &outcome);
    }

    fn key(&self) -> Option<CallKey> {
        let raw: &RawValue = serde_json::from_str(&self.id).ok()?;
        Id::parse(raw).ok()?.key(self.dialect)
    }

    pub(crate) fn tell(&self, shared: &Shared, kind: EventKind) {
        shared.tell(kind, Some(&self.id), self.attempt, &self.method);
    }

    fn depart(self, shared: &Shared, outcome: &[u8]) {
        match self.verdict.departure {
            Departure::Pass => self.send(shared, outcome),
            Departure::Drop => {
                self.tell(shared, EventKind::ReplyDropped);
                self.skip();
            }
            Departure::CutBefore => {
                self.tell(shared, EventKind::Cut);
                self.owed.outbox().cut();
            }
            Departure::CutMid => {
                self.tell(shared, EventKind::Cut);
                let frame = self.frame(outcome);
                self.owed
                    .outbox()
                    .send(|out| out.extend_from_slice(&frame[..frame.len() / 2]));
                self.owed.outbox().cut();
            }
            Departure::CutAfter => {
                self.tell(shared, EventKind::Cut);
                let frame = self.frame(outcome);
                self.owed.outbox().send(|out| out.extend_from_slice(&frame));
                self.owed.outbox().cut();
            }
        }
    }

    fn send(self, shared: &Shared, outcome: &[u8]) {
        self.tell(shared, EventKind::Replied);
        match self.batch {
            Some(place) => {
                let mut answer = Vec::new();
                self.form
                    .write(&mut answer, self.dialect, &self.id, outcome);
                place.fill(answer);
            }
            None => self.owed.outbox().send(|out| {
                write_reply(out, self.dialect, &self.id, outcome, self.form);
            }),
        }
    }

    fn skip(self) {
        if let Some(place) = self.batch {
            place.skip();
        }
    }

    fn frame(&self, outcome: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_reply(&mut frame, self.dialect, &self.id, outcome, self.form);
        frame
    }
}

impl Form {
    /// How an attempt of the call of that name is refused: clients with a session are told which
    /// attempt it was.
    pub(crate) fn refusal(key: Option<CallKey>, attempt: u32) -> Self {
        match key {
            Some(CallKey::Session(_)) => Self::Refusal { attempt },
            _ => Self::Reply,
        }
    }

    fn write(self, out: &mut Vec<u8>, dialect: Dialect, id: &str, outcome: &[u8]) {
        let wrapped;
        let outcome = match self {
            Self::Resolution | Self::PlainResolution => {
                wrapped = [br#""result":{"state":"done","#, outcome, b"}"].concat();
                &wrapped
            }
            _ => outcome,
        };
        reply::write(out, dialect, id, outcome, self.meta());
    }

    fn meta(self) -> ReplyMeta {
        let mut meta = ReplyMeta::default();
        match self {
            Self::Replay => meta.replayed = Some(true),
            Self::Refusal { attempt } => meta.attempt = Some(attempt),
            _ => {}
        }
        meta
    }
}

/// Appends a reply in its frame. Outcomes are made to fit when they are recorded, so that no
/// limit needs to be held against them here.
pub(crate) fn write_reply(
    out: &mut Vec<u8>,
    dialect: Dialect,
    id: &str,
    outcome: &[u8],
    form: Form,
) {
    write_frame(out, u32::MAX as usize, |out| {
        form.write(out, dialect, id, outcome);
    })
    .expect("outcomes are made to fit into a frame");
}

/// What is said of a call whose handler has begun and says that it had no effect.
fn without_effect() -> ErrorObject {
    let detail = "the handler says that the call had no effect";
    ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, detail).with_executed(Executed::No)
}
