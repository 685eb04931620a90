//! One attempt that waits for an outcome: its connection, its id, how its reply is spelled, and
//! what the fault rules do to that reply.

use std::sync::Arc;

use redial_protocol::{
    CallKey, Dialect, ErrorCode, ErrorObject, Executed, Id, Limits, ReplyMeta, encode_error,
    write_frame, write_reply,
};
use serde_json::value::RawValue;

use crate::{
    batch::BatchSlot,
    fault::{ReplyFault, Verdict},
    observe::EventKind,
    outbox::ReplyPermit,
    refusal,
    shared::Shared,
    table::TableWaiter,
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
}

/// The outcome of `rpc.resolve` for a call that was not executed and never will be.
pub(crate) const NEVER: &[u8] = br#""result":{"state":"never"}"#;

/// What an outcome is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    /// The reply to the call.
    Reply,
    /// The refusal of this attempt of a session's call.
    Refusal { attempt: u32 },
    /// A recorded reply, to a client that wants to know that it is one.
    Replay,
    /// The answer to `rpc.resolve` for a session's call.
    Resolution,
    /// The answer to `rpc.resolve` for a call with a plain id.
    PlainResolution,
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
    pub(crate) fn refuse(mut self, shared: &Arc<Shared>, error: &ErrorObject) {
        let mut outcome = Vec::new();
        match (self.kind, error.executed()) {
            // Nothing was executed, and the id was fenced because of this question.
            (ReplyKind::Resolution, Executed::No) => outcome.extend_from_slice(NEVER),
            // Another attempt may be executed at any time, so nothing is certain.
            (ReplyKind::PlainResolution, Executed::No) => {
                encode_error(&mut outcome, &refusal::call_unknown());
            }
            _ => encode_error(&mut outcome, error),
        }
        self.kind = if self.is_question() {
            ReplyKind::Reply
        } else {
            ReplyKind::refusal(self.key(), self.attempt)
        };
        self.emit(shared, EventKind::Refused(error.code));
        self.reply(shared, &outcome);
    }

    pub(crate) fn emit(&self, shared: &Shared, kind: EventKind) {
        shared.emit(kind, Some(&self.id), self.attempt, &self.method);
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
                outbox.send(|out| out.extend_from_slice(&frame[..frame.len() / 2]));
                outbox.cut();
            }
            ReplyFault::CutAfter => {
                self.emit(shared, EventKind::Cut);
                let frame = self.frame(outcome);
                outbox.send(|out| out.extend_from_slice(&frame));
                outbox.cut();
            }
        }
    }

    fn send(self, shared: &Shared, outcome: &[u8]) {
        self.emit(shared, EventKind::Replied);
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

impl ReplyKind {
    /// How an attempt of the call of that name is refused: clients with a session hear which
    /// attempt it was.
    pub(crate) fn refusal(key: Option<CallKey>, attempt: u32) -> Self {
        match key {
            Some(CallKey::Session(_)) => Self::Refusal { attempt },
            _ => Self::Reply,
        }
    }

    #[inline]
    fn write(self, out: &mut Vec<u8>, dialect: Dialect, id: &str, outcome: &[u8]) {
        if self == Self::Reply {
            write_reply(out, dialect, id, outcome, ReplyMeta::default());
        } else {
            self.write_other(out, dialect, id, outcome);
        }
    }

    #[inline(never)]
    fn write_other(self, out: &mut Vec<u8>, dialect: Dialect, id: &str, outcome: &[u8]) {
        let wrapped;
        let outcome = match self {
            Self::Resolution | Self::PlainResolution => {
                wrapped = [br#""result":{"state":"done","#, outcome, b"}"].concat();
                &wrapped
            }
            Self::Refusal { attempt } if attempt >= Limits::MAX_ATTEMPT => {
                wrapped = unnoted(outcome);
                &wrapped
            }
            _ => outcome,
        };
        write_reply(out, dialect, id, outcome, self.meta());
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

/// What a refusal of the highest attempt says: it is noted as the one below, so that an attempt is left
/// to be made, and a copy of it may run. What no attempt runs under is refused for good.
#[cold]
fn unnoted(outcome: &[u8]) -> Vec<u8> {
    let text = outcome.strip_prefix(br#""error":"#);
    let error = text.and_then(|text| serde_json::from_slice::<ErrorObject>(text).ok());
    let is_final = |code| {
        let for_good = [
            ErrorCode::STALE,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::METHOD_NOT_FOUND,
            ErrorCode::INVALID_PARAMS,
        ];
        for_good.contains(&code)
    };
    match error {
        Some(error) if error.executed() == Executed::No && !is_final(error.code) => {
            let mut outcome = Vec::new();
            encode_error(&mut outcome, &error.with_executed(Executed::Unknown));
            outcome
        }
        _ => outcome.to_vec(),
    }
}

/// Answers all attempts that have joined an execution. Nearly always there are none.
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
