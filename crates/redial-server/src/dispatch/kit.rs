//! What a connection keeps between calls, so that they need not allocate it, look it up, or tell
//! other connections of it, one by one.

use std::{cell::Cell, sync::Arc, time::Instant};

use redial_protocol::{Limits, RequestReader, SessionId};

use crate::{
    attachment::Attachment, clock::Watch, execution, handler::Place, shared::Shared, stats::Tally,
    table::Session, unfinished::Unfinished, waiter::Waiter,
};

/// See above. What has gathered is told in [`settle`](Self::settle).
pub(crate) struct Kit {
    pub(super) reader: RequestReader,
    /// Where futures are polled, for each method that this connection has called.
    pub(super) places: Vec<Place>,
    pub(super) outcome: Vec<u8>,
    /// The sessions that the connection has said hello to. They live as long as it does.
    pub(super) sessions: Vec<Attachment>,
    /// The session of the latest call that belonged to another one.
    pub(super) other_session: Option<Attachment>,
    /// The method of the latest call.
    pub(super) latest_method: usize,
    /// The session of the latest call that was run here, for the next one to hold.
    pub(super) latest_session: Option<Arc<Session<Waiter>>>,
    /// A place among the running calls, which those that one read brings hold in turn.
    pub(super) has_place: Cell<bool>,
    /// What was run here and has not been counted yet.
    pub(super) tally: Tally,
    /// What was run here and has not been recorded yet.
    pub(super) unfinished: Unfinished,
    pub(super) watch: Watch,
}

impl Kit {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            reader: RequestReader::new(limits),
            places: Vec::new(),
            outcome: Vec::new(),
            sessions: Vec::new(),
            other_session: None,
            latest_method: 0,
            latest_session: None,
            has_place: Cell::new(false),
            tally: Tally::default(),
            unfinished: Unfinished::default(),
            watch: Watch::new(now),
        }
    }

    /// The session, if the connection is attached to it.
    pub(super) fn session(&self, id: SessionId) -> Option<&Arc<Session<Waiter>>> {
        // The latest first: it is the one in use.
        let attached = self.sessions.iter().rev().chain(&self.other_session);
        let mut sessions = attached.map(Attachment::session);
        sessions.find(|session| session.id() == id)
    }

    /// The same, to be held by a call.
    pub(super) fn hold_session(&mut self, id: SessionId) -> Option<Arc<Session<Waiter>>> {
        let session = self.session(id)?;
        if let Some(latest) = &self.latest_session
            && Arc::ptr_eq(latest, session)
        {
            return self.latest_session.take();
        }
        Some(Arc::clone(session))
    }

    /// A read begins to be worked through.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.watch.set(now);
    }

    /// A read has been worked through: tells what has gathered meanwhile, and gives the place back.
    pub(crate) fn settle(&mut self, shared: &Arc<Shared>) {
        self.finish_latest(shared);
        shared.counters.add(std::mem::take(&mut self.tally));
        if self.has_place.take() {
            execution::leave(shared);
        }
    }

    /// Records what was run here.
    pub(super) fn finish_latest(&mut self, shared: &Arc<Shared>) {
        if let Some(session) = self.unfinished.finish(shared) {
            self.latest_session = Some(session);
        }
    }

    /// Lets go of a buffer that a large reply has left behind.
    pub(crate) fn give_back_memory(&mut self, keep_bytes: usize) {
        if self.outcome.capacity() > keep_bytes {
            self.outcome = Vec::new();
        }
        self.unfinished.give_back_memory(keep_bytes);
    }
}

/// The place for the futures of a method.
pub(super) fn place(places: &mut Vec<Place>, method: usize) -> &mut Place {
    if places.len() <= method {
        places.resize_with(method + 1, || None);
    }
    &mut places[method]
}
