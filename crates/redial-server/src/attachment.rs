//! A connection's standing with a session: as long as there is one, the session lives.

use std::{sync::Arc, time::Instant};

use redial_protocol::SessionId;

use crate::{clock, shared::Shared, table::Session, waiter::Waiter};

/// Attached; the lease begins when the last of these goes.
pub(crate) struct Attachment {
    shared: Arc<Shared>,
    session: Arc<Session<Waiter>>,
}

impl Attachment {
    /// Makes a session. `None` if there is no room for another.
    pub(crate) fn open(shared: &Arc<Shared>, now: Instant) -> Option<Self> {
        let mut gone = Vec::new();
        let session = shared.table.sessions.open(now, &mut gone);
        shared.tell_forgotten(gone);
        Some(Self::new(shared, session?))
    }

    /// Attaches to a session that there is.
    pub(crate) fn to(shared: &Arc<Shared>, id: SessionId, now: Instant) -> Option<Self> {
        let session = shared.table.sessions.attach(id, now)?;
        Some(Self::new(shared, session))
    }

    pub(crate) fn session(&self) -> &Arc<Session<Waiter>> {
        &self.session
    }

    fn new(shared: &Arc<Shared>, session: Arc<Session<Waiter>>) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, session }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let sessions = &self.shared.table.sessions;
        sessions.detach(&self.session, clock::now());
    }
}
