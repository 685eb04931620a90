//! A call that has ended.

use std::time::Instant;

use redial_protocol::ReplyMeta;

use crate::{
    inline_bytes::InlineBytes,
    mux::pending_call::{Answer, CallId, RemovedCall},
    retry::Completion,
};

/// A call that has ended, removed from the pending ones in the same step.
pub(super) struct Finished {
    /// Until it is concluded.
    pub(super) completion: Option<Completion>,
    pub(super) removed: RemovedCall,
    pub(super) is_unknown: bool,
    pub(super) at: Instant,
    /// How many connections the client had made by then.
    pub(super) connects: u64,
    /// What the server's answer said beside the outcome, if there was one.
    pub(super) answered: Option<ReplyMeta>,
}

impl Finished {
    /// The result, if there is one and it has not been taken.
    pub(super) fn result(&self) -> Option<&InlineBytes> {
        match &self.completion {
            Some(Completion::Answer(Answer::Result(result, _))) => Some(result),
            _ => None,
        }
    }

    /// The id that a reservation got.
    pub(super) fn reserved_id(&self) -> Option<CallId> {
        matches!(self.completion, Some(Completion::IdReserved)).then_some(self.removed.id)
    }
}
