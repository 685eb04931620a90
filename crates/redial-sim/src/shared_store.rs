//! A model of a store that several servers share, on a model of a database: one server's, in one of its lives.
//!
//! It keeps the same rules as `redial-store-postgres`: an id is claimed by holding it, the look at what is
//! committed comes after that, every commit asks for the server's epoch first, and a commit that had no
//! answer is found out by claiming the id again.

mod background;
mod calls;
mod seam;

use std::{
    collections::BTreeMap,
    future::Future,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_protocol::SessionId;
use redial_server::store::{Acknowledged, Done, StoreCall, StoreError};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    acknowledged::merged,
    bug::Bug,
    clock,
    database::{Database, Trouble},
    frost::Frost,
    rng::Rng,
    service::Ledger,
};

/// For how long a step is tried again.
const RETRY_FOR: Duration = Duration::from_secs(2);

/// The longest pause before it is.
const PAUSE_MS: u64 = 40;

/// The store of one life of one server. All clones are the same one.
#[derive(Clone)]
pub(crate) struct SharedTableStore(Arc<SharedLife>);

struct SharedLife {
    database: Database,
    ledger: Ledger,
    frost: Frost,
    life: u32,
    bug: Option<Bug>,
    leases: Leases,
    state: Mutex<SharedState>,
}

#[derive(Clone, Copy)]
pub(crate) struct Leases {
    /// How long a server may record things after it was last heard of.
    pub(crate) server: Duration,
    /// How long a session stays that no server holds.
    pub(crate) session: Duration,
}

struct SharedState {
    rng: Rng,
    epoch: u64,
    /// The sessions that this server holds.
    known: BTreeMap<SessionId, Known>,
    /// Those whose clients have said goodbye, with what was acknowledged by then.
    over: BTreeMap<SessionId, Acknowledged>,
    /// The calls whose handlers run here between intent and outcome, and in which epoch they began.
    started: BTreeMap<String, u64>,
    /// The outcomes of some of them that could not be recorded in time.
    late: Vec<(String, Option<Vec<u8>>)>,
    problem: Option<StoreError>,
    tasks: Vec<AbortHandle>,
    background: Vec<AbortHandle>,
    is_closed: bool,
    is_dead: bool,
}

#[derive(Default)]
struct Known {
    acknowledged: Acknowledged,
    is_unsaved: bool,
    /// This server needs the session no longer than until this is saved.
    is_left: bool,
}

/// How long one step is tried.
struct Patience {
    until: Instant,
    /// A commit had no answer, and it is not known yet whether it took place.
    is_uncertain: bool,
}

impl SharedTableStore {
    pub(crate) fn open(
        database: &Database,
        ledger: &Ledger,
        frost: &Frost,
        life: u32,
        leases: Leases,
        rng: Rng,
        bug: Option<Bug>,
    ) -> Self {
        let state = SharedState {
            rng,
            epoch: database.at_once(|tables| tables.enter(leases.server)),
            known: BTreeMap::new(),
            over: BTreeMap::new(),
            started: BTreeMap::new(),
            late: Vec::new(),
            problem: None,
            tasks: Vec::new(),
            background: Vec::new(),
            is_closed: false,
            is_dead: false,
        };
        let store = Self(Arc::new(SharedLife {
            database: database.clone(),
            ledger: ledger.clone(),
            frost: frost.clone(),
            life,
            bug,
            leases,
            state: Mutex::new(state),
        }));
        store.start_background();
        store
    }

    /// The process dies: nothing is called back any more.
    pub(crate) fn die(&self) {
        let mut state = self.lock();
        state.is_dead = true;
        let tasks = mem::take(&mut state.tasks);
        let background = mem::take(&mut state.background);
        drop(state);
        tasks.iter().chain(&background).for_each(AbortHandle::abort);
    }

    /// Runs a step, and calls back.
    fn run<T: Send + 'static>(
        &self,
        done: Done<T>,
        step: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) {
        let mut state = self.lock();
        if state.is_dead {
            return;
        }
        let is_closed = state.is_closed;
        let task = tokio::spawn(self.0.frost.clone().around(async move {
            let ended = if is_closed {
                Err(StoreError::nothing_done("the store is closed"))
            } else {
                step.await
            };
            done(ended);
        }));
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(task.abort_handle());
    }

    fn has(&self, bug: Bug) -> bool {
        self.0.bug == Some(bug)
    }

    fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    fn patience(&self) -> Patience {
        Patience {
            until: clock::now() + RETRY_FOR,
            is_uncertain: false,
        }
    }

    /// Waits before a step is tried again.
    async fn pause(&self, patience: &mut Patience, trouble: Trouble) -> Result<(), StoreError> {
        let is_unanswered = matches!(trouble, Trouble::Unanswered);
        if is_unanswered && self.has(Bug::UnansweredMeansFailed) {
            return Err(StoreError::nothing_done("the commit had no answer"));
        }
        patience.is_uncertain |= is_unanswered;
        let is_over = clock::now() >= patience.until;
        if is_over || matches!(trouble, Trouble::Fatal(_)) {
            let error = trouble.into_error();
            let is_uncertain = patience.is_uncertain || error.is_uncertain;
            return Err(StoreError {
                is_uncertain,
                ..error
            });
        }
        let pause = self.lock().rng.ms(1..=PAUSE_MS);
        sleep(pause).await;
        Ok(())
    }

    /// What a call says of its session.
    fn note(&self, call: &StoreCall) {
        if let Some(redial_protocol::CallKey::Session(named)) = &call.key {
            self.lock().acknowledge(named.session, &call.acknowledged);
        }
    }
}

impl SharedState {
    /// A client has said so to this server, which holds the session from now on if it did not.
    fn acknowledge(&mut self, session: SessionId, acknowledged: &Acknowledged) {
        if self.over.contains_key(&session) {
            return;
        }
        let known = self.known.entry(session).or_default();
        known.is_left = false;
        let all = merged(&known.acknowledged, acknowledged);
        known.is_unsaved |= all != known.acknowledged;
        known.acknowledged = all;
    }

    /// So much is saved. The client may have acknowledged more since.
    fn note_saved(&mut self, session: SessionId, saved: &Acknowledged) {
        let Some(known) = self.known.get_mut(&session) else {
            return;
        };
        known.is_unsaved &= known.acknowledged != *saved;
        if known.is_left && !known.is_unsaved {
            self.known.remove(&session);
        }
    }

    /// The session's row says so. Returns what either knows.
    fn merge(&mut self, session: SessionId, stored: &Acknowledged) -> Acknowledged {
        match self.known.get_mut(&session) {
            Some(known) => {
                known.acknowledged = merged(&known.acknowledged, stored);
                known.acknowledged.clone()
            }
            None => stored.clone(),
        }
    }
}

impl Trouble {
    /// What to say when there is no more time.
    fn into_error(self) -> StoreError {
        match self {
            Self::Busy => StoreError::uncertain("the call is in other hands"),
            Self::Away => StoreError::nothing_done("the database can't be reached"),
            Self::Unanswered => StoreError::uncertain("the commit had no answer"),
            Self::Fenced => StoreError::nothing_done("this server has lost its epoch"),
            Self::Fatal(error) => error,
        }
    }
}
