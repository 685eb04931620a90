//! Who waits for the outcome of a call: one attempt, the connection it came on, and what the
//! fault rules have in store for its reply.

use std::sync::Arc;

use redial_protocol::{Dialect, ErrorObject, ReplyMeta, reply, write_frame};

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
    pub(crate) fn refuse(self, shared: &Arc<Shared>, error: &ErrorObject) {
        self.tell(shared, EventKind::Refused(error.code));
        let mut outcome = Vec::new();
        reply::encode_error(&mut outcome, error);
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
                let meta = ReplyMeta::default();
                reply::write(&mut answer, self.dialect, &self.id, outcome, meta);
                place.fill(answer);
            }
            None => self.owed.outbox().send(|out| {
                write_reply(out, self.dialect, &self.id, outcome);
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
        write_reply(&mut frame, self.dialect, &self.id, outcome);
        frame
    }
}

/// Appends a reply in its frame. Outcomes are made to fit when they are recorded, so that no
/// limit needs to be held against them here.
pub(crate) fn write_reply(out: &mut Vec<u8>, dialect: Dialect, id: &str, outcome: &[u8]) {
    write_frame(out, u32::MAX as usize, |out| {
        reply::write(out, dialect, id, outcome, ReplyMeta::default())
    })
    .expect("outcomes are made to fit into a frame");
}
