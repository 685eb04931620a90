//! What this server knows of sessions: what their clients have acknowledged, until that is saved, and which
//! of them are on their way out.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redial_protocol::{SessionCall, SessionId};
use redial_server::store::Acknowledged;

use redial_server::store::encoding::{self, is_acknowledged, merge};
use tokio::sync::Notify;

use crate::schema::SLOTS;

/// A call so far behind the newest of its session is claimed before its handler runs. Written after it, it could come to
/// a slot that the next batch has locked for a later call: that batch would wait for rows that the handlers of this one
/// have changed, and this one for the slot.
const LATE: u64 = SLOTS / 2;

/// How many calls of a session may be acknowledged before that is saved at once: a slot is used again only when the
/// acknowledgement of its call is saved, and a call that finds its slot in use costs several times as much.
const URGENT: u64 = SLOTS / 4;

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    inner: Mutex<SessionMap>,
    /// Something is to be saved before the slots of a session run out.
    pub(crate) urgent: Notify,
}

#[derive(Debug, Default)]
struct SessionMap {
    known: HashMap<SessionId, Known>,
    /// Those whose clients have said goodbye.
    over: HashMap<SessionId, Goodbye>,
    /// How many goodbyes there were.
    goodbyes: u64,
}

/// A client has said goodbye to its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goodbye {
    /// Another one to the same session has another number.
    number: u64,
    /// By then.
    pub(crate) acknowledged: Acknowledged,
}

#[derive(Debug, Default)]
struct Known {
    acknowledged: Acknowledged,
    is_unsaved: bool,
    /// This server needs the session no longer than until this is saved.
    is_left: bool,
    /// Every number below it is saved as acknowledged, or open.
    saved_below: u64,
    /// What this server has saved of it last.
    saved: Acknowledged,
    /// The highest number that a call had here.
    highest: u64,
}

impl Known {
    fn is_urgent(&self) -> bool {
        self.acknowledged.below.saturating_sub(self.saved_below) >= URGENT
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, SessionMap> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call has come to this server, and what its client has acknowledged with it.
    pub(crate) fn note(&self, call: SessionCall, acknowledged: &Acknowledged) {
        self.note_some(call.session, Some(call.number), acknowledged);
    }

    /// A client has said so to this server, which holds the session from now on if it did not.
    pub(crate) fn acknowledge(&self, session: SessionId, acknowledged: &Acknowledged) {
        self.note_some(session, None, acknowledged);
    }

    fn note_some(&self, session: SessionId, number: Option<u64>, acknowledged: &Acknowledged) {
        let mut inner = self.lock();
        if inner.over.contains_key(&session) {
            return;
        }
        let known = inner.known.entry(session).or_default();
        known.highest = known.highest.max(number.unwrap_or(0));
        known.is_left = false;
        known.is_unsaved |= merge(&mut known.acknowledged, acknowledged);
        if known.is_urgent() {
            self.urgent.notify_one();
        }
    }

    /// The session's row says so. Returns what either knows.
    pub(crate) fn merge(&self, session: SessionId, stored: &Acknowledged) -> Acknowledged {
        match self.lock().known.get_mut(&session) {
            Some(known) => {
                merge(&mut known.acknowledged, stored);
                known.saved_below = known.saved_below.max(stored.below);
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

    /// Whether the call may be new, and its slot free: that of the call that lay there before it, it is saved that it is
    /// acknowledged; and no later call lies there, as may be if this one was refused for a while.
    pub(crate) fn is_slot_free(&self, call: SessionCall) -> bool {
        let inner = self.lock();
        if inner.over.contains_key(&call.session) {
            return false;
        }
        let Some(known) = inner.known.get(&call.session) else {
            return false;
        };
        if known.highest.saturating_sub(call.number) >= LATE {
            return false;
        }
        let is_free = match call.number.checked_sub(SLOTS) {
            Some(before) => {
                let lies_there =
                    |open: &u64| *open <= before && (call.number - open).is_multiple_of(SLOTS);
                known.saved.below > before && !known.saved.open.iter().any(lies_there)
            }
            None => true,
        };
        is_free && !is_acknowledged(&known.acknowledged, call.number)
    }

    /// What is to be saved; `is_urgent`: at once.
    pub(crate) fn unsaved(&self, is_urgent: bool) -> Vec<(SessionId, Acknowledged)> {
        let inner = self.lock();
        let is_due = |known: &Known| known.is_unsaved && (!is_urgent || known.is_urgent());
        let unsaved = inner.known.iter().filter(|(_, known)| is_due(known));
        let unsaved = unsaved.map(|(session, known)| (*session, known.acknowledged.clone()));
        unsaved.collect()
    }

    /// So much is saved. The client may have acknowledged more since.
    pub(crate) fn note_saved(&self, session: SessionId, saved: &Acknowledged) {
        let mut inner = self.lock();
        let Some(known) = inner.known.get_mut(&session) else {
            return;
        };
        known.is_unsaved &= known.acknowledged != *saved;
        known.saved_below = known.saved_below.max(saved.below);
        known.saved.clone_from(saved);
        if known.is_left && !known.is_unsaved {
            inner.known.remove(&session);
        }
    }

    /// The session is used by this server.
    pub(crate) fn hold(&self, session: SessionId) {
        self.lock().known.entry(session).or_default().is_left = false;
    }

    pub(crate) fn held(&self) -> Vec<i64> {
        let inner = self.lock();
        let held = inner.known.iter().filter(|(_, known)| !known.is_left);
        held.map(|(id, _)| encoding::session(*id)).collect()
    }

    /// This server needs the session no longer, once it is saved what its client has acknowledged here: that is
    /// returned. A copy of a call that was acknowledged may come to another server, which would run it.
    pub(crate) fn leave(&self, session: SessionId) -> Acknowledged {
        let mut inner = self.lock();
        let known = inner.known.entry(session).or_default();
        (known.is_left, known.is_unsaved) = (true, true);
        known.acknowledged.clone()
    }

    /// Its client has said goodbye.
    pub(crate) fn end(&self, session: SessionId) {
        let mut inner = self.lock();
        let known = inner.known.remove(&session).unwrap_or_default();
        inner.goodbyes += 1;
        let goodbye = Goodbye {
            number: inner.goodbyes,
            acknowledged: known.acknowledged,
        };
        inner.over.insert(session, goodbye);
    }

    /// The goodbye to a session that is over, if its row may not say so yet.
    pub(crate) fn over(&self, session: SessionId) -> Option<Goodbye> {
        self.lock().over.get(&session).cloned()
    }

    /// Those that are over, and whose rows may not say so yet.
    pub(crate) fn all_over(&self) -> Vec<SessionId> {
        self.lock().over.keys().copied().collect()
    }

    /// Its row says so. There may have been another goodbye since.
    pub(crate) fn forget(&self, session: SessionId, saved: &Goodbye) {
        let mut inner = self.lock();
        if inner.over.get(&session) == Some(saved) {
            inner.over.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Kind: what is begun counts as done. Instance: an acknowledgement that is being saved when the store is
    /// closed, which cuts that off, and that is then not saved at the end.
    #[test]
    fn what_is_being_saved_is_unsaved_until_it_is_saved() {
        let (sessions, session) = (Sessions::default(), SessionId::from_bits(1));
        let below = |below| Acknowledged {
            below,
            open: Vec::new(),
        };
        sessions.acknowledge(session, &below(1));
        for _ in 0..2 {
            assert_eq!(sessions.unsaved(false), [(session, below(1))]);
        }
        sessions.acknowledge(session, &below(2));
        sessions.note_saved(session, &below(1));
        assert_eq!(sessions.unsaved(false), [(session, below(2))]);
        sessions.note_saved(session, &below(2));
        assert_eq!(sessions.unsaved(false), []);
    }

    /// Kind: what failed once is given up. Instance: the acknowledgements of a session that is left while the database is
    /// away. A late copy of a call that no one will ask for again ran at another server.
    #[test]
    fn what_is_left_is_known_until_it_is_saved() {
        let (sessions, session) = (Sessions::default(), SessionId::from_bits(1));
        let below = |below| Acknowledged {
            below,
            open: Vec::new(),
        };
        sessions.acknowledge(session, &below(1));
        sessions.note_saved(session, &below(1));
        assert_eq!(sessions.held().len(), 1);
        // It could not be saved, and is tried again.
        assert_eq!(sessions.leave(session), below(1));
        assert!(sessions.held().is_empty());
        assert_eq!(sessions.unsaved(false), [(session, below(1))]);
        sessions.note_saved(session, &below(1));
        assert_eq!(sessions.unsaved(false), []);
        assert!(sessions.lock().known.is_empty());
        // Its client comes back before it is saved.
        sessions.acknowledge(session, &below(2));
        sessions.leave(session);
        sessions.hold(session);
        sessions.note_saved(session, &below(2));
        assert_eq!(sessions.held().len(), 1);
    }

    /// Kind: what is done for one is taken for done for the next. Instance: a goodbye that was saved after the session
    /// had been used again, when its client had said goodbye once more: that one was lost, and with it what was
    /// acknowledged.
    #[test]
    fn a_goodbye_that_was_saved_is_not_the_next_one() {
        let (sessions, session) = (Sessions::default(), SessionId::from_bits(1));
        let below = |below| Acknowledged {
            below,
            open: Vec::new(),
        };
        sessions.end(session);
        let first = sessions.over(session).unwrap();
        sessions.forget(session, &first);
        assert_eq!(sessions.over(session), None);
        sessions.acknowledge(session, &below(1));
        sessions.end(session);
        // It was saved twice, side by side.
        sessions.forget(session, &first);
        let second = sessions.over(session).unwrap();
        assert_eq!(second.acknowledged, below(1));
        // Nothing was acknowledged in between, and a call may have ended.
        sessions.end(session);
        sessions.forget(session, &second);
        assert!(sessions.over(session).is_some());
    }

    #[test]
    fn a_slot_is_free_when_it_is_saved_that_what_lay_there_is_acknowledged() {
        let (sessions, session) = (Sessions::default(), SessionId::from_bits(1));
        let is_free = |number| sessions.is_slot_free(SessionCall { session, number });
        let acknowledged = |below, open: &[u64]| Acknowledged {
            below,
            open: open.to_vec(),
        };
        assert!(!is_free(0), "nothing is known of the session");
        sessions.acknowledge(session, &acknowledged(5, &[3]));
        assert_eq!([2, 3, 4, 5].map(is_free), [false, true, false, true]);
        assert!(is_free(SLOTS - 1) && !is_free(SLOTS), "it is not saved");
        // Another server has saved it, and may have saved it at a primary that is gone.
        sessions.merge(session, &acknowledged(6, &[3]));
        assert!(!is_free(SLOTS));
        sessions.note_saved(session, &acknowledged(6, &[3]));
        let free = [0, 2, 3, 4, 5, 6].map(|number| is_free(SLOTS + number));
        assert_eq!(free, [true, true, false, true, true, false]);
        let late = [2, 3].map(|number| is_free(7 * SLOTS + number));
        assert_eq!(late, [false, false], "it is not saved");
        sessions.note_saved(session, &acknowledged(7 * SLOTS, &[3]));
        let late = [2, 3].map(|number| is_free(7 * SLOTS + number));
        assert_eq!(late, [true, false], "one lies there since long ago");
        sessions.note(
            SessionCall {
                session,
                number: 7 * SLOTS + LATE,
            },
            &acknowledged(7 * SLOTS, &[]),
        );
        let late = [0, 1].map(|number| is_free(7 * SLOTS + number));
        assert_eq!(late, [false, true], "a later one may lie there");
        sessions.end(session);
        assert!(!is_free(7 * SLOTS + 5));
    }

    /// Kind: what is done at intervals falls behind at speed. Instance: acknowledgements that were saved every 50 ms,
    /// while a session used its 1,024 slots up in less: each tenth call found its slot in use, and ran by itself.
    #[test]
    fn acknowledgements_are_saved_before_the_slots_run_out() {
        let (sessions, session) = (Sessions::default(), SessionId::from_bits(1));
        let below = |below| Acknowledged {
            below,
            open: Vec::new(),
        };
        let is_urgent = || sessions.urgent.notified().now_or_never().is_some();
        sessions.acknowledge(session, &below(URGENT - 1));
        assert!(!is_urgent(), "the next interval does");
        sessions.acknowledge(session, &below(URGENT));
        assert!(is_urgent());
        sessions.acknowledge(session, &below(URGENT + 1));
        assert!(is_urgent(), "it is not saved yet");
        let other = SessionId::from_bits(2);
        sessions.acknowledge(other, &below(1));
        assert_eq!(sessions.unsaved(true), [(session, below(URGENT + 1))]);
        assert_eq!(sessions.unsaved(false).len(), 2);
        sessions.note_saved(session, &below(URGENT + 1));
        sessions.acknowledge(session, &below(2 * URGENT));
        assert!(!is_urgent(), "it is saved");
        // What another server has saved counts, too.
        sessions.merge(session, &below(3 * URGENT));
        sessions.acknowledge(session, &below(4 * URGENT - 1));
        assert!(!is_urgent());
        sessions.acknowledge(session, &below(4 * URGENT));
        assert!(is_urgent());
    }
}
