//! How it is said for good that a call was not executed and never will be: with a store, not before the
//! fence that makes it true is durable. Until then a crash would let a delayed copy of the call run.

use redial_protocol::{ErrorObject, SessionCall, encode_error};

use crate::{
    refusal,
    reply_kind::{NEVER, ReplyKind},
    store::{Claimed, Done, Fenced, StoreError},
};

/// How those are refused who wait for a call that never runs.
pub(crate) type Refusal = fn() -> ErrorObject;

/// What those hear who wait for a call, or ask about it, that a store was to fence.
pub(crate) struct FencedReply {
    pub(crate) outcome: Vec<u8>,
    /// `None` for a refusal.
    pub(crate) kind: Option<ReplyKind>,
}

/// Of `rpc.resolve`.
pub(crate) fn resolution(fenced: Fenced) -> FencedReply {
    let claimed = match fenced {
        Fenced::Never | Fenced::Claimed(Claimed::Fenced) => {
            return FencedReply {
                outcome: NEVER.to_vec(),
                kind: Some(ReplyKind::Reply),
            };
        }
        Fenced::Claimed(claimed) => claimed,
        Fenced::Left(_) => return left_behind().into(),
    };
    let error = match claimed {
        Claimed::Recorded(outcome) => {
            let kind = Some(ReplyKind::Resolution);
            return FencedReply { outcome, kind };
        }
        Claimed::Acknowledged => refusal::acknowledged(),
        Claimed::Interrupted => refusal::interrupted(),
        Claimed::Fenced | Claimed::IdReused | Claimed::SessionUnknown => refusal::call_unknown(),
    };
    error.into()
}

/// Of an attempt. In a store that others share the record may be of a call with other params.
pub(crate) fn reply(
    fenced: Fenced,
    call: SessionCall,
    refusal: Refusal,
    is_shared: bool,
) -> FencedReply {
    let claimed = match fenced {
        Fenced::Never => return refusal().into(),
        Fenced::Claimed(claimed) => claimed,
        Fenced::Left(_) => return left_behind().into(),
    };
    let error = match claimed {
        Claimed::Recorded(_) if is_shared => {
            refusal::outcome_not_known_yet("it ran at another server")
        }
        Claimed::Recorded(outcome) => {
            let kind = Some(ReplyKind::Replay);
            return FencedReply { outcome, kind };
        }
        Claimed::Fenced => refusal(),
        Claimed::Interrupted => refusal::interrupted(),
        Claimed::Acknowledged => refusal::acknowledged(),
        Claimed::SessionUnknown => refusal::session_unknown(call.session),
        Claimed::IdReused => refusal::call_unknown(),
    };
    error.into()
}

/// What is said of a call that the next attempt or question runs again.
fn left_behind() -> ErrorObject {
    refusal::outcome_not_known_yet(
        "the server that ran it is gone, and the next attempt runs it again",
    )
}

/// What is said where a fence has failed. If the call runs at another server, nothing is known of it.
pub(crate) fn fence_failed(error: &StoreError) -> ErrorObject {
    if error.is_uncertain {
        refusal::outcome_not_known_yet(&error.message)
    } else {
        refusal::store_unavailable(&error.message)
    }
}

impl From<ErrorObject> for FencedReply {
    fn from(error: ErrorObject) -> Self {
        let mut outcome = Vec::new();
        encode_error(&mut outcome, &error);
        Self {
            outcome,
            kind: None,
        }
    }
}

/// A callback of a store that may spawn, as replies do that a fault rule delays.
pub(crate) fn on_runtime<T: 'static>(
    done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
) -> Done<T> {
    let runtime = tokio::runtime::Handle::try_current().ok();
    Box::new(move |result| {
        let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
        done(result);
    })
}
