//! A model of a database with serialisable transactions: each statement takes a while on its way and back,
//! an id is held by one transaction at a time, and a commit may be turned away (as with 40001), or be left
//! without an answer, whether it took place or not.
//!
//! It is a machine of its own: what was sent to it happens, though the server that sent it is frozen or dead.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_protocol::{CallKey, SessionCall, SessionId};
use redial_server::store::{Acknowledged, Resumable, StoreError};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout},
};

use crate::{
    acknowledged::{covers, merged},
    clock,
    rng::{Rng, Stream},
    scenario::DatabasePlan,
};

/// How long a transaction waits for an id that another one holds.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// The database. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Database(Arc<DatabaseShared>);

struct DatabaseShared {
    plan: DatabasePlan,
    state: Mutex<DatabaseState>,
    /// A transaction has ended.
    ended: Notify,
}

struct DatabaseState {
    rng: Rng,
    tables: Tables,
    /// The ids that transactions hold.
    held: BTreeMap<String, u64>,
    transactions: u64,
    /// Set once all calls have ended: from then on every statement is answered.
    is_calm: bool,
}

/// What is committed.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) sessions: BTreeMap<SessionId, SessionRow>,
    /// By the id as text, so that their order is always the same.
    pub(crate) calls: BTreeMap<String, CallRow>,
    counters: BTreeMap<u32, CounterRow>,
    /// Until when each server may record anything, by its epoch.
    servers: BTreeMap<u64, Instant>,
    epochs: u64,
}

pub(crate) struct SessionRow {
    pub(crate) acknowledged: Acknowledged,
    /// When a server has last said that it holds the session.
    pub(crate) touched: Instant,
    pub(crate) dead_since: Option<Instant>,
}

#[derive(Clone)]
pub(crate) struct CallRow {
    pub(crate) session: Option<SessionCall>,
    pub(crate) fingerprint: u128,
    pub(crate) state: RowState,
}

#[derive(Clone)]
pub(crate) enum RowState {
    Finished(Vec<u8>),
    Fenced,
    Started {
        /// The epoch of its server.
        owner: u64,
        resumable: Option<Resumable>,
    },
}

#[derive(Clone, Copy, Default)]
struct CounterRow {
    value: i64,
    /// How often it was changed.
    version: u64,
}

/// Why a step has come to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It was turned away for what others have changed, or another transaction holds the id, or a living
    /// server runs the call: to be tried again.
    Busy,
    /// The connection broke before anything was to be committed.
    Away,
    /// It broke in the middle of a commit.
    Unanswered,
    /// The server's epoch is over.
    Fenced,
    /// To do it again would be the same.
    Fatal(StoreError),
}

/// A transaction: what it holds is free again once it is dropped.
pub(crate) struct Transaction {
    database: Database,
    number: u64,
    held: Option<String>,
    /// The counters that it has read, and how often those had been changed.
    read: Vec<(u32, u64)>,
}

/// One way to the database and back.
struct Trip {
    there: Duration,
    back: Duration,
    arrives: bool,
    is_answered: bool,
}

impl Database {
    pub(crate) fn new(seed: u64, plan: DatabasePlan) -> Self {
        let state = DatabaseState {
            rng: Rng::new(seed, Stream::Database),
            tables: Tables::default(),
            held: BTreeMap::new(),
            transactions: 0,
            is_calm: false,
        };
        Self(Arc::new(DatabaseShared {
            plan,
            state: Mutex::new(state),
            ended: Notify::new(),
        }))
    }

    /// From now on every statement is answered.
    pub(crate) fn calm(&self) {
        self.lock().is_calm = true;
    }

    /// Does something at once, as a server that starts or ends in good order.
    pub(crate) fn at_once<T>(&self, what: impl FnOnce(&mut Tables) -> T) -> T {
        what(&mut self.lock().tables)
    }

    /// A transaction of one statement.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        statement: impl FnOnce(&mut Tables) -> T + Send + 'static,
    ) -> Result<T, Trouble> {
        let (sender, answer) = oneshot::channel();
        let database = self.clone();
        tokio::spawn(async move {
            let trip = database.trip();
            sleep(trip.there).await;
            if trip.arrives {
                let said = statement(&mut database.lock().tables);
                trip.answer(sender, said).await;
            }
        });
        answer.await.map_err(|_| Trouble::Unanswered)
    }

    /// Begins a transaction that holds an id, waits for it if another one has it, and looks at what is
    /// committed then.
    pub(crate) async fn hold<T: Send + 'static>(
        &self,
        id: &str,
        look: impl FnOnce(&Tables) -> T + Send + 'static,
    ) -> Result<(Transaction, T), Trouble> {
        let (sender, answer) = oneshot::channel();
        let (database, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            let trip = database.trip();
            sleep(trip.there).await;
            if !trip.arrives {
                return;
            }
            let Ok(transaction) = timeout(LOCK_TIMEOUT, database.held(id)).await else {
                trip.answer(sender, Err(Trouble::Busy)).await;
                return;
            };
            let seen = look(&database.lock().tables);
            trip.answer(sender, Ok((transaction, seen))).await;
        });
        answer.await.unwrap_or(Err(Trouble::Away))
    }

    async fn held(&self, id: String) -> Transaction {
        loop {
            let ended = self.0.ended.notified();
            if !self.lock().held.contains_key(&id) {
                let mut transaction = self.begin();
                self.lock().held.insert(id.clone(), transaction.number);
                transaction.held = Some(id);
                return transaction;
            }
            ended.await;
        }
    }

    /// A transaction that holds nothing.
    pub(crate) fn begin(&self) -> Transaction {
        let mut state = self.lock();
        state.transactions += 1;
        Transaction {
            database: self.clone(),
            number: state.transactions,
            held: None,
            read: Vec::new(),
        }
    }

    fn trip(&self) -> Trip {
        let (plan, mut state) = (&self.0.plan, self.lock());
        let loses = if state.is_calm { 0.0 } else { plan.lost / 2.0 };
        Trip {
            there: state.rng.ms(0..=plan.slow_ms),
            back: state.rng.ms(0..=plan.slow_ms),
            arrives: !state.rng.happens(loses),
            is_answered: !state.rng.happens(loses),
        }
    }

    fn lock(&self) -> MutexGuard<'_, DatabaseState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trip {
    async fn answer<T>(&self, to: oneshot::Sender<T>, said: T) {
        sleep(self.back).await;
        if self.is_answered {
            // A dead server's transaction is rolled back.
            drop(to.send(said));
        }
    }
}

impl Transaction {
    /// Reads a counter, which must not change before the commit.
    pub(crate) async fn read(&mut self, key: u32) -> Result<i64, Trouble> {
        let counter = move |tables: &mut Tables| tables.counters.get(&key).copied();
        let asked = self.database.ask(counter).await;
        let counter = asked.map_err(|_| Trouble::Away)?.unwrap_or_default();
        self.read.push((key, counter.version));
        Ok(counter.value)
    }

    /// Commits what this writes, unless that says otherwise.
    pub(crate) async fn commit<T: Send + 'static>(
        self,
        write: impl FnOnce(&mut Tables) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let (sender, answer) = oneshot::channel();
        tokio::spawn(async move {
            let trip = self.database.trip();
            sleep(trip.there).await;
            if trip.arrives {
                let written = self.write(write);
                trip.answer(sender, written).await;
            }
        });
        answer.await.unwrap_or(Err(Trouble::Unanswered))
    }

    fn write<T>(self, write: impl FnOnce(&mut Tables) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut state = self.database.lock();
        let aborts = if state.is_calm {
            0.0
        } else {
            self.database.0.plan.aborts
        };
        if state.rng.happens(aborts) {
            return Err(Trouble::Busy);
        }
        let counters = &state.tables.counters;
        let has_changed = |(key, version): &(u32, u64)| {
            counters.get(key).copied().unwrap_or_default().version != *version
        };
        if self.read.iter().any(has_changed) {
            return Err(Trouble::Busy);
        }
        write(&mut state.tables)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(id) = &self.held {
            self.database.lock().held.remove(id);
            self.database.0.ended.notify_waiters();
        }
    }
}

impl Tables {
    /// A server that may record things from now on, for so long. Returns its epoch.
    pub(crate) fn enter(&mut self, lease: Duration) -> u64 {
        self.epochs += 1;
        self.servers.insert(self.epochs, clock::now() + lease);
        self.epochs
    }

    /// The same for so long again. False if the epoch is over.
    pub(crate) fn renew(&mut self, epoch: u64, lease: Duration) -> bool {
        let is_alive = self.is_alive(epoch);
        if is_alive {
            self.servers.insert(epoch, clock::now() + lease);
        }
        is_alive
    }

    pub(crate) fn leave(&mut self, epoch: u64) {
        self.servers.remove(&epoch);
    }

    pub(crate) fn is_alive(&self, epoch: u64) -> bool {
        let until = self.servers.get(&epoch);
        until.is_some_and(|until| clock::now() < *until)
    }

    /// What every commit of a server asks first.
    pub(crate) fn check(&self, epoch: u64) -> Result<(), Trouble> {
        self.is_alive(epoch).then_some(()).ok_or(Trouble::Fenced)
    }

    pub(crate) fn set_counter(&mut self, key: u32, value: i64) {
        let counter = self.counters.entry(key).or_default();
        *counter = CounterRow {
            value,
            version: counter.version + 1,
        };
    }

    pub(crate) fn put(&mut self, key: &CallKey, fingerprint: u128, state: RowState) {
        let session = match key {
            CallKey::Session(call) => Some(*call),
            _ => None,
        };
        let row = CallRow {
            session,
            fingerprint,
            state,
        };
        self.calls.insert(key.to_string(), row);
    }

    /// A session that is not on its way out.
    pub(crate) fn living(&mut self, session: SessionId) -> Option<&mut SessionRow> {
        let row = self.sessions.get_mut(&session)?;
        row.dead_since.is_none().then_some(row)
    }

    /// Notes what a client has acknowledged, and removes that. A session that is over dies, unless a call of it
    /// has an outcome that is not acknowledged.
    pub(crate) fn save(&mut self, session: SessionId, known: &Acknowledged, is_over: bool) {
        let Some(row) = self.sessions.get_mut(&session) else {
            return;
        };
        row.acknowledged = merged(&row.acknowledged, known);
        row.touched = clock::now();
        let acknowledged = row.acknowledged.clone();
        let is_of_it = |call: &CallRow| call.session.filter(|call| call.session == session);
        self.calls.retain(|_, call| {
            is_of_it(call).is_none_or(|named| !covers(&acknowledged, named.number))
        });
        let mut left = self.calls.values().filter(|call| is_of_it(call).is_some());
        if is_over && left.all(|call| matches!(call.state, RowState::Fenced)) {
            row.dead_since.get_or_insert_with(clock::now);
        }
    }
}
