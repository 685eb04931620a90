//! Start reading here: a handle on the store, which starts a task for each step on the store's runtime.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use deadpool_postgres::Pool;
use redial_protocol::{CallKey, Principal, SessionId};
use redial_server::store::{
    Acknowledged, Begun, CommitWatcher, Done, Executed, Fenced, Intent, Recovered, SharedStore,
    Store, StoreCall, StoreError,
};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answer::Answer,
    connection::{Connection, Style},
    error::{OpenError, Trouble},
    open::{self, Pools},
    options::PostgresOptions,
    queue::{Batches, Waiting},
    sessions::Sessions,
    transaction::{Param, Prepared},
};

/// The name of the store's threads.
pub(crate) const THREAD: &str = "redial-postgres";

/// How long a connection that has begun a transaction for a batch is kept from others that wait for one. A handler of the
/// batch before may be among them.
const SPARING: Duration = Duration::from_millis(10);

/// A durable table in a PostgreSQL database, in its schema `redial`.
///
/// A clone is another handle on the same store. Its connections are closed by the server that it is given
/// to, or when the last handle is dropped. Open it after a `fork`, not before.
#[derive(Clone)]
pub struct PostgresStore {
    handle: Arc<Handle>,
}

/// A call that has ended, and its outcome.
pub(crate) type Late = (CallKey, Option<Vec<u8>>);

/// What the handles and the store's tasks share.
pub(crate) struct Shared {
    pub(crate) pools: Pools,
    pub(crate) style: Style,
    pub(crate) options: PostgresOptions,
    pub(crate) sessions: Sessions,
    pub(crate) batches: Arc<Batches>,
    /// The calls whose handlers run here between intent and outcome, and in which epoch they began.
    started: Mutex<HashMap<CallKey, i64>>,
    /// The outcomes of some of them that could not be recorded in time.
    late: Mutex<VecDeque<Late>>,
    /// This server's, until it is lost.
    epoch: AtomicI64,
    table: String,
    /// Who hears of each commit.
    commits: Arc<OnceLock<CommitWatcher>>,
    has_problem: AtomicBool,
    problem: Mutex<Option<StoreError>>,
    pub(crate) steps: TaskTracker,
    pub(crate) closing: CancellationToken,
    /// Whether all is to be saved at the end.
    pub(crate) is_orderly: AtomicBool,
}

struct Handle {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PostgresStore {
    /// Opens a database with the defaults, and makes what is missing in its schema `redial`.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub fn open(url: &str) -> Result<Self, OpenError> {
        Self::options().open(url)
    }

    /// What can be chosen.
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    pub(crate) fn start(url: &str, options: PostgresOptions) -> Result<Self, OpenError> {
        let pools = Pools::new(url, &options)?;
        let workers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.worker_threads)
            .thread_name(THREAD)
            .enable_all()
            .build()?;
        // Of its own, so that no handler that blocks keeps the lease from being renewed.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tasks = workers.handle().clone();
        let (sender, opened) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || {
                let shared = match runtime.block_on(open::open(pools, options)) {
                    Ok(shared) => Arc::new(shared),
                    Err(error) => return drop(sender.send(Err(error))),
                };
                drop(sender.send(Ok(Arc::clone(&shared))));
                runtime.block_on(crate::maintenance::run(&shared, workers.handle()));
                workers.shutdown_timeout(Duration::from_secs(1));
                runtime.shutdown_timeout(Duration::from_secs(1));
            })?;
        let shared = opened.recv().unwrap_or_else(|_| {
            Err(OpenError::Connect(
                "the store's thread has ended".to_owned(),
            ))
        })?;
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                runtime: tasks,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Reads what is committed with one statement, which can't write.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with what the database says.
    pub async fn read(
        &self,
        sql: &str,
        params: Vec<Box<dyn Param + Send>>,
    ) -> Result<Vec<Row>, StoreError> {
        let shared = Arc::clone(&self.handle.shared);
        let sql = sql.to_owned();
        let read = self.handle.runtime.spawn(async move {
            let mut connection = shared.connection().await?;
            connection.read(&sql, &params).await
        });
        let ended = |_| Err(Trouble::Away("the store is closed".to_owned()));
        read.await
            .unwrap_or_else(ended)
            .map_err(Trouble::into_error)
    }

    /// Every session and every record, but those of calls that run at another server now.
    #[doc(hidden)]
    pub fn read_all(&self) -> Result<Vec<Recovered>, StoreError> {
        let (sender, read) = mpsc::channel();
        let shared = Arc::clone(&self.handle.shared);
        let task = async move { drop(sender.send(crate::recover::read_all(&shared).await)) };
        drop(self.handle.runtime.spawn(task));
        let closed = |_| Err(Trouble::Away("the store is closed".to_owned()));
        let read = read.recv().unwrap_or_else(closed);
        read.map_err(Trouble::into_error)
    }

    /// Runs a step on the store's runtime.
    fn run<T, F>(&self, done: Done<T>, step: impl FnOnce(Arc<Shared>) -> F)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let shared = &self.handle.shared;
        if shared.closing.is_cancelled() {
            // On another thread, since nothing is called back from within.
            let refused = StoreError::nothing_done("the store is closed");
            drop(thread::spawn(move || done(Err(refused))));
            return;
        }
        let answer = Answer::new(done);
        let step = step(Arc::clone(shared));
        let task = async move { answer.give(step.await) };
        drop(shared.steps.spawn_on(task, &self.handle.runtime));
    }
}

impl Store for PostgresStore {
    fn table(&self) -> String {
        self.handle.shared.table.clone()
    }

    /// What other servers have left is found when a client asks for it.
    fn recover(&self, _: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        Ok(())
    }

    fn execute(&self, call: StoreCall, transaction: Box<dyn Any + Send>, done: Done<Executed>) {
        let prepared = transaction.downcast::<Prepared>();
        let prepared = prepared.expect("a call of a method that this crate has registered");
        let shared = &self.handle.shared;
        if shared.closing.is_cancelled() || !Waiting::is_for(&call, &prepared) {
            return self.run(done, |shared| async move {
                shared.execute(call, *prepared, false).await
            });
        }
        let waiting = Waiting::new(call, *prepared, Answer::new(done));
        shared.execute_in_batch(waiting, &self.handle.runtime);
    }

    fn begin(&self, call: StoreCall, intent: Intent, done: Done<Begun>) {
        self.run(
            done,
            |shared| async move { shared.begin(call, intent).await },
        );
    }

    fn finish(&self, key: CallKey, outcome: Option<Vec<u8>>, done: Done<()>) {
        self.run(
            done,
            |shared| async move { shared.finish(key, outcome).await },
        );
    }

    fn fence(&self, key: CallKey, done: Done<Fenced>) {
        self.run(done, |shared| async move { shared.fence(key).await });
    }

    fn open_session(&self, session: SessionId, owner: Option<&Principal>, done: Done<()>) {
        let owner = owner.cloned();
        self.run(done, move |shared| async move {
            shared.open_session(session, owner).await
        });
    }

    fn forget_session(&self, session: SessionId) {
        self.handle.shared.sessions.end(session);
        self.run(Box::new(drop), move |shared| async move {
            shared.forget_session(session).await
        });
    }

    /// Each step has begun when it was handed in.
    fn flush(&self) {}

    fn acknowledge(&self, session: SessionId, acknowledged: Acknowledged) {
        self.handle
            .shared
            .sessions
            .acknowledge(session, &acknowledged);
    }

    fn ttl(&self) -> Option<Duration> {
        Some(self.handle.shared.options.ttl)
    }

    /// Records expire by the database's clock.
    fn tick(&self, _awake: Duration) {}

    fn as_shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }

    fn watch_commits(&self, watcher: CommitWatcher) {
        // A store serves one server.
        let _: Result<(), CommitWatcher> = self.handle.shared.commits.set(watcher);
    }

    fn problem(&self) -> Option<StoreError> {
        let shared = &self.handle.shared;
        if !shared.has_problem.load(Relaxed) {
            return None;
        }
        shared
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn close(&self) {
        self.handle.shared.is_orderly.store(true, Relaxed);
        self.handle.end();
    }
}

impl SharedStore for PostgresStore {
    fn find_session(
        &self,
        session: SessionId,
        owner: Option<&Principal>,
        done: Done<Option<Acknowledged>>,
    ) {
        let owner = owner.cloned();
        self.run(done, move |shared| async move {
            shared.find_session(session, owner).await
        });
    }

    fn leave_session(&self, session: SessionId) {
        self.run(Box::new(drop), move |shared| async move {
            shared.leave_session(session).await
        });
    }
}

impl Shared {
    pub(crate) fn new(
        pools: Pools,
        style: Style,
        options: PostgresOptions,
        table: String,
        epoch: i64,
    ) -> Self {
        Self {
            pools,
            style,
            options,
            sessions: Sessions::default(),
            batches: Arc::default(),
            started: Mutex::default(),
            late: Mutex::default(),
            epoch: AtomicI64::new(epoch),
            table,
            commits: Arc::default(),
            has_problem: AtomicBool::new(false),
            problem: Mutex::new(None),
            steps: TaskTracker::new(),
            closing: CancellationToken::new(),
            is_orderly: AtomicBool::new(false),
        }
    }

    pub(crate) async fn connection(&self) -> Result<Connection, Trouble> {
        let mut connecting = pin!(self.connection_of(&self.pools.work));
        if let Ok(connected) = timeout(SPARING, &mut connecting).await {
            return connected;
        }
        // While this waits, none is kept any more.
        self.batches.release();
        connecting.await
    }

    /// Whether something waits until a connection is free.
    pub(crate) fn is_connection_wanted(&self) -> bool {
        self.pools.work.status().waiting > 0
    }

    /// The one that renews the lease.
    pub(crate) async fn lease_connection(&self) -> Result<Connection, Trouble> {
        self.connection_of(&self.pools.lease).await
    }

    async fn connection_of(&self, pool: &Pool) -> Result<Connection, Trouble> {
        let keeps_statements = &self.pools.keeps_statements;
        Connection::get(pool, keeps_statements, &self.commits).await
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.epoch.load(Relaxed)
    }

    pub(crate) fn set_epoch(&self, epoch: i64) {
        self.epoch.store(epoch, Relaxed);
    }

    pub(crate) fn started(&self) -> MutexGuard<'_, HashMap<CallKey, i64>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn late(&self) -> MutexGuard<'_, VecDeque<Late>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_problem(&self, problem: Option<StoreError>) {
        self.has_problem.store(problem.is_some(), Relaxed);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl Handle {
    /// Ends the store's thread, and waits for it unless this is one of its own.
    fn end(&self) {
        self.shared.closing.cancel();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread::current().name() != Some(THREAD)
        {
            // It doesn't panic.
            drop(thread.join());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("table", &self.table())
            .finish_non_exhaustive()
    }
}
