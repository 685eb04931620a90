//! A connection's hold on a session: while there is one, the session lives.

use std::{sync::Arc, time::Instant};

use redial_protocol::{Principal, SessionId};

use crate::{
    caller::Caller,
    observe::{Event, EventKind},
    origin::Origin,
    shared::Shared,
    store::Acknowledged,
    table::Session,
    waiter::Waiter,
};

/// The session's lease begins when the last of its attachments is dropped, or it ends then.
pub(super) struct Attachment {
    shared: Arc<Shared>,
    session: Arc<Session<Waiter>>,
    /// Up to where queries have acknowledged its calls: most repeat the one before.
    acknowledged: u64,
}

impl Attachment {
    /// Makes a session, which is the caller's. `None` if there is no room for another.
    pub(super) fn open(shared: &Arc<Shared>, caller: &Caller, now: Instant) -> Option<Self> {
        let mut waiters = Vec::new();
        shared.table.sessions.renew(&Origin::here());
        let (sessions, owner) = (&shared.table.sessions, caller.principal());
        let session = sessions.open(&caller.peer(), owner, now, &mut waiters);
        shared.refuse_forgotten(waiters);
        let session = session?;
        let kind = EventKind::SessionOpened;
        shared.observe(kind, || Event {
            peer: caller.address,
            principal: caller.principal(),
            session: Some(session.id()),
            ..Event::of(kind)
        });
        Some(Self::new(shared, session))
    }

    /// Attaches to a session that exists and belongs to this owner.
    pub(super) fn to(
        shared: &Arc<Shared>,
        id: SessionId,
        owner: Option<&Principal>,
        now: Instant,
    ) -> Option<Self> {
        let sessions = &shared.table.sessions;
        let session = sessions
            .is_of(std::process::id())
            .then(|| sessions.attach(id, owner, now))??;
        Some(Self::new(shared, session))
    }

    /// Attaches to a session of the caller's that another server has opened on the same store. `None` if
    /// there is no room for another.
    pub(super) fn adopt(
        shared: &Arc<Shared>,
        id: SessionId,
        caller: &Caller,
        acknowledged: &Acknowledged,
        now: Instant,
    ) -> Option<Self> {
        let mut waiters = Vec::new();
        let (sessions, peer, owner) = (&shared.table.sessions, caller.peer(), caller.principal());
        let session = sessions.adopt(id, &peer, owner, acknowledged, now, &mut waiters);
        shared.refuse_forgotten(waiters);
        Some(Self::new(shared, session?))
    }

    pub(super) fn session(&self) -> &Arc<Session<Waiter>> {
        &self.session
    }

    /// Whether no query has brought this acknowledgement before, or one that goes further.
    pub(super) fn is_news(&mut self, ack: u64) -> bool {
        let before = self.acknowledged;
        self.acknowledged = before.max(ack);
        ack > before
    }

    fn new(shared: &Arc<Shared>, session: Arc<Session<Waiter>>) -> Self {
        let shared = Arc::clone(shared);
        Self {
            shared,
            session,
            acknowledged: 0,
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let sessions = &self.shared.table.sessions;
        if sessions.detach(&self.session, self.shared.awake.now()) {
            self.shared.forget_sessions();
        }
    }
}
