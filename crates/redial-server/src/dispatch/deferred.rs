//! The latest call of a session that a connection has run in place, until its outcome is recorded:
//! in one step with the next call of that session, or when the read that brought it ends. No reply
//! leaves the connection before that, so no caller hears an outcome that is not on record; an
//! attempt on another connection joins the call like any that is running.

use std::sync::Arc;

use crate::{
    shared::Shared,
    table::{DeferredOutcome, Session},
    waiter::{Waiter, complete_all},
};

#[derive(Default)]
pub(super) struct DeferredRecord {
    call: Option<DeferredCall>,
    /// The call's outcome; an empty buffer if there is no call.
    outcome: Vec<u8>,
    /// The session of the call before, for the next one: to count another holder of it, and then one
    /// less, for each call takes as long as a tenth of the call.
    spare: Option<Arc<Session<Waiter>>>,
}

struct DeferredCall {
    session: Arc<Session<Waiter>>,
    number: u64,
}

impl DeferredRecord {
    /// Takes over a call that has finished. Its outcome is swapped for an empty buffer.
    pub(super) fn put(
        &mut self,
        shared: &Arc<Shared>,
        session: Arc<Session<Waiter>>,
        number: u64,
        outcome: &mut Vec<u8>,
    ) {
        self.finish(shared);
        std::mem::swap(&mut self.outcome, outcome);
        self.call = Some(DeferredCall { session, number });
    }

    /// Another holder of a session: the one of the call before, if that was one of it.
    pub(super) fn hold(&mut self, session: &Arc<Session<Waiter>>) -> Arc<Session<Waiter>> {
        let spare = self.spare.take_if(|spare| Arc::ptr_eq(spare, session));
        spare.unwrap_or_else(|| Arc::clone(session))
    }

    /// The call, if it is one of this session, whose next step is about to record it.
    pub(super) fn of(&self, session: &Arc<Session<Waiter>>) -> Option<DeferredOutcome<'_>> {
        let call = self.call.as_ref()?;
        Arc::ptr_eq(&call.session, session).then_some(DeferredOutcome {
            number: call.number,
            outcome: &self.outcome,
        })
    }

    /// The call is on record: answers those who have joined it.
    pub(super) fn recorded(&mut self, shared: &Arc<Shared>, joined: Vec<Waiter>) {
        if let Some(call) = self.call.take() {
            self.spare = Some(call.session);
        }
        complete_all(shared, joined, &self.outcome, true);
    }

    /// Records the call now, if there is one.
    pub(super) fn finish(&mut self, shared: &Arc<Shared>) {
        if let Some(call) = &self.call {
            let joined = call.session.finish(call.number, &self.outcome);
            self.recorded(shared, joined);
        }
    }

    pub(super) fn shrink(&mut self, keep_bytes: usize) {
        self.spare = None;
        if self.outcome.capacity() > keep_bytes {
            self.outcome = Vec::new();
        }
    }
}

impl Drop for DeferredRecord {
    /// Reached with a call only if the connection's task has panicked.
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.session.finish(call.number, &self.outcome);
        }
    }
}
