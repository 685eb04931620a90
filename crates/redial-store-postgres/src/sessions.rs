//! What this server knows of sessions: what their clients have acknowledged, until that is saved, and which
//! of them are on their way out.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use redial_protocol::{SessionCall, SessionId};
use redial_server::store::Acknowledged;

use crate::encoding::{is_acknowledged, merge};

#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<SessionId, Known>,
    forgotten: HashSet<SessionId>,
}

#[derive(Debug, Default)]
struct Known {
    acknowledged: Acknowledged,
    is_unsaved: bool,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has said so to this server, which holds the session.
    pub(crate) fn acknowledge(&self, session: SessionId, acknowledged: &Acknowledged) {
        if let Some(known) = self.lock().known.get_mut(&session)
            && merge(&mut known.acknowledged, acknowledged)
        {
            known.is_unsaved = true;
        }
    }

    /// The session's row says so. Returns what either knows.
    pub(crate) fn merge(&self, session: SessionId, stored: &Acknowledged) -> Acknowledged {
        match self.lock().known.get_mut(&session) {
            Some(known) => {
                merge(&mut known.acknowledged, stored);
                known.acknowledged.clone()
            }
            None => stored.clone(),
        }
    }

    /// Whether the client will never ask for the call again.
    pub(crate) fn is_acknowledged(&self, call: SessionCall) -> bool {
        let inner = self.lock();
        let known = inner.known.get(&call.session);
        known.is_some_and(|known| is_acknowledged(&known.acknowledged, call.number))
    }

    /// What is to be saved. It counts as saved then.
    pub(crate) fn take_unsaved(&self) -> Vec<(SessionId, Acknowledged)> {
        let mut inner = self.lock();
        let unsaved = inner.known.iter_mut().filter(|(_, known)| known.is_unsaved);
        let taken = unsaved.map(|(session, known)| {
            known.is_unsaved = false;
            (*session, known.acknowledged.clone())
        });
        taken.collect()
    }

    /// It could not be saved.
    pub(crate) fn give_back(&self, session: SessionId) {
        if let Some(known) = self.lock().known.get_mut(&session) {
            known.is_unsaved = true;
        }
    }

    /// The session is used by this server.
    pub(crate) fn hold(&self, session: SessionId) {
        self.lock().known.entry(session).or_default();
    }

    pub(crate) fn held(&self) -> Vec<i64> {
        let inner = self.lock();
        inner
            .known
            .keys()
            .map(|id| crate::encoding::session(*id))
            .collect()
    }

    pub(crate) fn forget(&self, session: SessionId) {
        let mut inner = self.lock();
        inner.known.remove(&session);
        inner.forgotten.insert(session);
    }

    /// Whether it is on its way out, and its row may not say so yet.
    pub(crate) fn is_forgotten(&self, session: SessionId) -> bool {
        self.lock().forgotten.contains(&session)
    }

    /// Its row says so.
    pub(crate) fn is_gone(&self, session: SessionId) {
        self.lock().forgotten.remove(&session);
    }
}
