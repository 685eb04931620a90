//! What an outcome is sent as: how the kind of an attempt shows in the reply to it.

use redial_protocol::{
    CallKey, Dialect, ErrorCode, ErrorObject, Executed, Limits, ReplyMeta, encode_error,
    write_reply,
};

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
    pub(crate) fn write(self, out: &mut Vec<u8>, dialect: Dialect, id: &str, outcome: &[u8]) {
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
