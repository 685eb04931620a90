//! What a connection asks the store about sessions that the table in memory does not know, and what that
//! has said: at a server that shares its store with others.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use redial_protocol::SessionId;
use tokio::sync::oneshot;

use crate::{
    shared::Shared,
    store::{Acknowledged, StoreError},
    waiter::Waiter,
};

/// How long a connection goes by the store's word that it can't say: what was sent behind it is not asked
/// for one by one.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// How much of what the store has said is kept once a message is done.
const KEPT: usize = 16;

/// What a connection asks the store about sessions, and what that has said.
#[derive(Default)]
pub(crate) struct Lookups {
    pending: Option<PendingLookup>,
    /// The message that asked has not been answered: it is to be taken up again.
    holds_message: bool,
    misses: Vec<CachedMiss>,
    /// What is acknowledged of a session is being asked for.
    pub(super) is_refreshing: Arc<AtomicBool>,
}

struct PendingLookup {
    session: SessionId,
    answer: oneshot::Receiver<LookupResult>,
    purpose: LookupPurpose,
}

/// What the store says.
pub(super) type LookupResult = Result<Option<SessionHold>, StoreError>;

/// A session that the store has found, and holds for this server from then on: it is left again unless the
/// table knows it by the time that this is dropped, wherever that is.
pub(super) struct SessionHold {
    pub(super) shared: Arc<Shared>,
    pub(super) session: SessionId,
    pub(super) acknowledged: Acknowledged,
}

impl Drop for SessionHold {
    fn drop(&mut self) {
        if self.shared.table.sessions.knows(self.session) {
            return;
        }
        let store = self.shared.store.as_deref();
        if let Some(store) = store.and_then(|store| store.as_shared()) {
            store.leave_session(self.session);
        }
    }
}

/// What goes on when the store has answered.
pub(super) enum LookupPurpose {
    /// The message that waits.
    Message,
    /// A hello whose token was verified before.
    Hello {
        waiter: Option<Waiter>,
        expires_ms: Option<u64>,
    },
}

/// Of a session that was not found.
struct CachedMiss {
    session: SessionId,
    word: Word,
}

pub(super) enum Word {
    /// For ever, since no session comes back.
    Unknown,
    /// There is no room for it here.
    Full { until: Instant },
    /// The store can't say.
    Failed { why: String, until: Instant },
}

/// An answer of the store, and what it was asked for.
pub(crate) struct FinishedLookup {
    pub(super) session: SessionId,
    pub(super) answer: LookupResult,
    pub(super) purpose: LookupPurpose,
}

impl Lookups {
    /// Whether what comes next has to wait for the store.
    pub(crate) fn holds_back(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the latest message has to be taken up again. Asked once for each.
    pub(crate) fn takes_back(&mut self) -> bool {
        std::mem::take(&mut self.holds_message)
    }

    /// Ready with what the store has said.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<FinishedLookup> {
        let Some(pending) = &mut self.pending else {
            return Poll::Pending;
        };
        let Poll::Ready(answer) = Pin::new(&mut pending.answer).poll(cx) else {
            return Poll::Pending;
        };
        let ended = |_| {
            Err(StoreError::nothing_done(
                "the store ended without an answer",
            ))
        };
        let answer = answer.unwrap_or_else(ended);
        self.pending.take().map_or(Poll::Pending, |pending| {
            Poll::Ready(FinishedLookup {
                session: pending.session,
                answer,
                purpose: pending.purpose,
            })
        })
    }

    /// What the store has said of a session, as far as that counts.
    pub(super) fn word(&self, session: SessionId, now: Instant) -> Option<&Word> {
        let is_it = |miss: &&CachedMiss| miss.session == session && miss.word.counts(now);
        self.misses.iter().rev().find(is_it).map(|miss| &miss.word)
    }

    pub(super) fn note(&mut self, session: SessionId, word: Word) {
        self.misses.retain(|miss| miss.session != session);
        self.misses.push(CachedMiss { session, word });
    }

    /// Begins a question. Its answer goes to what is returned.
    pub(super) fn ask(
        &mut self,
        session: SessionId,
        purpose: LookupPurpose,
    ) -> oneshot::Sender<LookupResult> {
        let (sender, answer) = oneshot::channel();
        self.pending = Some(PendingLookup {
            session,
            answer,
            purpose,
        });
        sender
    }

    /// A message was looked at: whether it has to be taken up again.
    pub(super) fn hold(&mut self, is_held: bool) {
        self.holds_message = is_held;
        if is_held {
            return;
        }
        // It needs no more of what was said for it.
        let surplus = self.misses.len().saturating_sub(KEPT);
        self.misses.drain(..surplus);
    }
}

impl Word {
    fn counts(&self, now: Instant) -> bool {
        match self {
            Self::Unknown => true,
            Self::Full { until } | Self::Failed { until, .. } => now < *until,
        }
    }
}
