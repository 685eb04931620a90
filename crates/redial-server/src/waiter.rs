//! Who waits for the outcome of a call: one attempt, the connection it came on, and what the
//! fault rules have in store for its reply.

use std::sync::Arc;

use redial_protocol::{Dialect, ErrorCode, ErrorObject, ReplyMeta, reply, write_frame};

use crate::{
    batch::BatchPlace,
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

/// What an outcome is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The reply to the call.
    Reply,
    /// The same, to a client that wants to know that it was recorded before.
    Replay,
    /// The answer to somebody who has asked for the outcome of the call.
    Resolution,
}

impl Waits for Waiter {
    fn is_there(&self) -> bool {
        !self.owed.outbox().is_closed()
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

    /// Answers the attempt with an error for which nothing was executed.
    pub(crate) fn refuse(mut self, shared: &Arc<Shared>, error: &ErrorObject) {
        let mut outcome = Vec::new();
        match self.form {
            Form::Reply | Form::Replay => reply::encode_error(&mut outcome, error),
            // It is the call that was refused, and not who asked about it.
            Form::Resolution => reply::encode_error(&mut outcome, &ask_again()),
        }
        self.form = Form::Reply;
        self.tell(shared, EventKind::Refused(error.code));
        self.deliver(shared, &outcome);
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
    fn write(self, out: &mut Vec<u8>, dialect: Dialect, id: &str, outcome: &[u8]) {
        let replayed = (self == Self::Replay).then_some(true);
        let wrapped;
        let outcome = match self {
            Self::Reply | Self::Replay => outcome,
            Self::Resolution => {
                wrapped = [br#""result":{"state":"done","#, outcome, b"}"].concat();
                &wrapped
            }
        };
        reply::write(out, dialect, id, outcome, ReplyMeta { replayed });
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

/// What is said to somebody who waits for the outcome of a call that was refused meanwhile.
fn ask_again() -> ErrorObject {
    let detail = "the call was turned away before it started; ask again what became of it";
    ErrorObject::raised(ErrorCode::OVERLOADED, detail).with_retry_after_ms(1)
}
