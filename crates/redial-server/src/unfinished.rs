//! The latest call of a session that a connection has run where it stood, until its outcome is
//! recorded: in one step with the next call of that session, or when the read that brought it has
//! been worked through. Until then no reply leaves the connection, so nobody hears of an outcome
//! that is not on record; whoever asks on another connection waits for it as for any running call.

use std::sync::Arc;

use crate::{shared::Shared, table::Session, waiter::Waiter};

#[derive(Default)]
pub(crate) struct Unfinished {
    call: Option<(Arc<Session<Waiter>>, u64)>,
    /// The call's outcome; a buffer to be filled if there is none.
    outcome: Vec<u8>,
}

impl Unfinished {
    /// A call has ended. Its outcome goes into another buffer, whose own goes out.
    pub(crate) fn put(
        &mut self,
        shared: &Arc<Shared>,
        session: Arc<Session<Waiter>>,
        number: u64,
        outcome: &mut Vec<u8>,
    ) {
        self.finish(shared);
        std::mem::swap(&mut self.outcome, outcome);
        self.call = Some((session, number));
    }

    /// The call and its outcome, for the next step of its session to record.
    pub(crate) fn of(&self, session: &Arc<Session<Waiter>>) -> Option<(u64, &[u8])> {
        let (own, number) = self.call.as_ref()?;
        Arc::ptr_eq(own, session).then_some((*number, &*self.outcome))
    }

    /// It was recorded: tells those who have waited for it, and lets the session go.
    pub(crate) fn tell(
        &mut self,
        shared: &Arc<Shared>,
        joined: Vec<Waiter>,
    ) -> Option<Arc<Session<Waiter>>> {
        let (session, _) = self.call.take()?;
        for waiter in joined {
            waiter.settle(shared, &self.outcome, true);
        }
        Some(session)
    }

    /// Records it now.
    pub(crate) fn finish(&mut self, shared: &Arc<Shared>) -> Option<Arc<Session<Waiter>>> {
        let (session, number) = self.call.as_ref()?;
        let joined = session.finish(*number, &self.outcome);
        self.tell(shared, joined)
    }

    pub(crate) fn give_back_memory(&mut self, keep_bytes: usize) {
        if self.outcome.capacity() > keep_bytes {
            self.outcome = Vec::new();
        }
    }
}

impl Drop for Unfinished {
    /// Reached with something left to record only if the connection's task has panicked.
    fn drop(&mut self) {
        if let Some((session, number)) = self.call.take() {
            session.finish(number, &self.outcome);
        }
    }
}
