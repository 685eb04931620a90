//! What a connection keeps from call to call, so that calls need not allocate it, look it up, or
//! share it with other threads, one by one.

use std::{sync::Arc, time::Instant};

use redial_protocol::{Dialect, RequestReader, SessionId, rpc::KnownCalls};

use super::{attachment::Attachment, deferred::DeferredRecord, lookup::Lookups, permit::Permits};
use crate::{
    caller::Caller, clock, clock::CoarseClock, counters::Tally, gate::Gate, handler::FutureSlot,
    peer::Peer, shared::Shared, table::Session, waiter::Waiter,
};

/// What has gathered during a read is given out by [`end_read`](Self::end_read).
pub(crate) struct ConnectionScratch {
    pub(super) reader: RequestReader,
    /// Where futures are polled, for each method that this connection has called.
    pub(super) future_slots: Vec<FutureSlot>,
    /// The outcome of the current call.
    pub(super) outcome: Vec<u8>,
    /// The sessions that the connection has said hello to. They live as long as it does.
    pub(super) sessions: Vec<Attachment>,
    /// The dialect of the latest hello, if there was one.
    pub(crate) said_hello: Option<Dialect>,
    /// The session of the latest call that belonged to another one.
    pub(super) other_session: Option<Attachment>,
    /// The method of the latest call.
    pub(super) latest_method: usize,
    pub(super) permits: Permits,
    /// Executions of this read that are not counted yet.
    pub(super) tally: Tally,
    pub(super) deferred: DeferredRecord,
    /// Calls of this read were handed to the store.
    pub(super) has_stored: bool,
    pub(super) clock: CoarseClock,
    /// Where the server asks for tokens.
    pub(crate) gate: Option<Box<Gate>>,
    /// Where other servers may have opened sessions, too.
    pub(crate) lookups: Option<Box<Lookups>>,
}

impl ConnectionScratch {
    pub(crate) fn new(shared: &Arc<Shared>, caller: &Caller, now: Instant, awake: Instant) -> Self {
        Self {
            reader: RequestReader::new(shared.config.limits),
            future_slots: Vec::new(),
            outcome: Vec::new(),
            sessions: Vec::new(),
            said_hello: None,
            other_session: None,
            latest_method: 0,
            permits: Permits::new(shared, &caller.peer()),
            gate: shared.authentication.is_some().then(|| {
                let due = clock::after(awake, shared.config.auth_timeout);
                Box::new(Gate::new(caller, due))
            }),
            lookups: shared.is_store_shared().then(Box::default),
            tally: Tally::default(),
            deferred: DeferredRecord::default(),
            has_stored: false,
            clock: CoarseClock::new(now),
        }
    }

    /// The session, if the connection is attached to it.
    pub(super) fn session(&self, id: SessionId) -> Option<&Arc<Session<Waiter>>> {
        // The latest first: it is the one in use.
        let attached = self.sessions.iter().rev().chain(&self.other_session);
        let mut sessions = attached.map(Attachment::session);
        sessions.find(|session| session.id() == id)
    }

    /// What the table knows of each session that the connection is attached to.
    pub(crate) fn known(&self) -> Vec<KnownCalls> {
        let attached = self.sessions.iter().chain(&self.other_session);
        let sessions = attached.map(Attachment::session);
        let known = sessions.map(|session| KnownCalls {
            session: session.id(),
            calls: session.known(),
        });
        known.collect()
    }

    /// The same, held for one call.
    pub(super) fn hold_session(&mut self, id: SessionId) -> Option<Arc<Session<Waiter>>> {
        let attached = self.sessions.iter().rev().chain(&self.other_session);
        let mut sessions = attached.map(Attachment::session);
        let session = sessions.find(|session| session.id() == id)?;
        Some(self.deferred.hold(session))
    }

    /// Whether an acknowledgement that rides on a query has to be looked at.
    pub(super) fn is_news(&mut self, id: SessionId, ack: u64) -> bool {
        let mut attached = self
            .sessions
            .iter_mut()
            .rev()
            .chain(&mut self.other_session);
        let attachment = attached.find(|attachment| attachment.session().id() == id);
        attachment.is_none_or(|attachment| attachment.is_news(ack))
    }

    /// The connection turns out to be another peer's.
    pub(crate) fn change_peer(&mut self, peer: &Peer) {
        self.permits.change_peer(peer);
    }

    pub(crate) fn begin_read(&mut self, now: Instant) {
        self.clock.set(now);
    }

    /// The calls of a read have been dispatched: records, counts and releases what is left of them.
    pub(crate) fn end_read(&mut self, shared: &Arc<Shared>) {
        self.deferred.finish(shared);
        shared.counters.add(std::mem::take(&mut self.tally));
        self.permits.release();
        if std::mem::take(&mut self.has_stored)
            && let Some(store) = &shared.store
        {
            store.flush();
        }
    }

    /// Frees buffers that large replies have left behind.
    pub(crate) fn shrink(&mut self, keep_bytes: usize) {
        if self.outcome.capacity() > keep_bytes {
            self.outcome = Vec::new();
        }
        self.deferred.shrink(keep_bytes);
    }
}

/// The slot for the futures of a method.
pub(super) fn future_slot(slots: &mut Vec<FutureSlot>, method: usize) -> &mut FutureSlot {
    if slots.len() <= method {
        slots.resize_with(method + 1, || None);
    }
    &mut slots[method]
}
