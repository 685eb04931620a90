//! Start reading here: a handle on the store, which hands everything to the writer's thread.

use std::{
    any::Any,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use redial_protocol::{CallKey, Principal, SessionId};
use redial_server::store::{
    Acknowledged, Begun, CommitWatcher, Done, Executed, Fenced, Intent, Recovered, Store,
    StoreCall, StoreError,
};
use rusqlite::Connection;

use crate::{
    error::{OpenError, no_room, nothing_done},
    lock::Lock,
    open,
    options::SqliteOptions,
    owned::Owned,
    plain::Plain,
    queue::{Job, Queue, WriterMode},
    readers::Readers,
    recover,
    transaction::Prepared,
    writer::Writer,
};

/// A durable table in one SQLite file, and the file itself: the program's own tables lie in it, too.
///
/// A clone is another handle on the same store. The file is closed by the server that it is given to, or
/// when the last handle is dropped. Open it after a `fork`, not before.
#[derive(Clone)]
pub struct SqliteStore {
    handle: Arc<Handle>,
}

/// What the handles and the writer's thread share.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) readers: Readers,
    /// The name of the table of calls.
    pub(crate) table: String,
    path: PathBuf,
    ttl: Duration,
    /// Who hears of each commit.
    pub(crate) commits: OnceLock<CommitWatcher>,
    has_problem: AtomicBool,
    problem: Mutex<Option<StoreError>>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens a file with the defaults, or makes it.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::options().open(path)
    }

    /// What can be chosen.
    pub fn options() -> SqliteOptions {
        SqliteOptions::default()
    }

    pub(crate) fn start(path: &Path, mut options: SqliteOptions) -> Result<Self, OpenError> {
        let path = open::resolve(path)?;
        let lock = Lock::take(&path)?;
        let writable = open::open(&path, &mut options)?;
        let mut owned = Owned::new(&path);
        let claimed = owned.claim(&writable.connection);
        let plain = Plain::new(options.ttl, Duration::ZERO);
        let memory = recover::load(&writable.connection, plain)
            .map_err(|error| OpenError::sqlite(&path, error))?;
        let shared = Arc::new(Shared {
            queue: Queue::new(),
            readers: Readers::new(&path),
            table: writable.table.clone(),
            path: path.clone(),
            ttl: options.ttl,
            commits: OnceLock::new(),
            has_problem: AtomicBool::new(false),
            problem: Mutex::new(None),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            path: path.clone(),
            options,
            memory,
            owned,
            lock,
        };
        let first = match claimed {
            Ok(()) => Some(writable),
            // What needs no room goes on; the writer begins when there is some.
            Err(error) if no_room(&error).is_some() => {
                shared.set_problem(Some(nothing_done(&path, &error)));
                None
            }
            Err(error) => return Err(OpenError::sqlite(&path, error)),
        };
        let thread = thread::Builder::new()
            .name("redial-sqlite".to_owned())
            .spawn(move || writer.run(first))
            .map_err(|error| OpenError::io(&path, error))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            handle: Arc::new(Handle { shared, thread }),
        })
    }

    /// Reads what is durable, in one snapshot: no crash undoes a value that was read.
    ///
    /// It blocks for as long as `step` takes. A short read may run in an async handler; a long one belongs
    /// on a thread of its own (`spawn_blocking`). While one lasts the `-wal` file can't shrink.
    ///
    /// ```
    /// # use redial_store_sqlite::SqliteStore;
    /// # let folder = std::env::temp_dir().join(format!("redial-read-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let store = SqliteStore::open(folder.join("read.db"))?;
    /// let calls: i64 = store.read(|connection| {
    ///     connection.query_row("SELECT count(*) FROM redial_calls", [], |row| row.get(0))
    /// })?;
    /// assert_eq!(calls, 0);
    /// # drop(store);
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What `step` returns, or [`rusqlite::Error`] if there is no connection to be had.
    pub fn read<T, E>(&self, step: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<rusqlite::Error>,
    {
        self.handle.shared.readers.read(step)
    }

    /// Writes a copy of the whole file as it is at this moment, while the store goes on. The copy is a store like
    /// any other; it is opened in place of the lost one, with the same [`table`](Store::table). It must not
    /// exist before. It has the name with `.part` until it is whole; remove that one if a crash has left it.
    ///
    /// # Errors
    ///
    /// [`rusqlite::Error`] if it can't be written.
    pub fn backup_to(&self, path: impl AsRef<Path>) -> rusqlite::Result<()> {
        crate::backup::write(&self.handle.shared.readers, path.as_ref())
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.handle.shared.path
    }

    fn queue(&self) -> &Queue {
        &self.handle.shared.queue
    }
}

impl Store for SqliteStore {
    fn table(&self) -> String {
        self.handle.shared.table.clone()
    }

    fn recover(&self, recovered: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        let read = self.read(|connection| recover::read_all(connection, recovered));
        read.map_err(|error| nothing_done(self.path(), &error))
    }

    fn execute(&self, call: StoreCall, transaction: Box<dyn Any + Send>, done: Done<Executed>) {
        let prepared = transaction.downcast::<Prepared>();
        let prepared = prepared.expect("a call of a method that this crate has registered");
        self.queue().push(Job::Execute(call, *prepared, done));
    }

    fn begin(&self, call: StoreCall, intent: Intent, done: Done<Begun>) {
        self.queue().push(Job::Begin(call, intent, done));
    }

    fn finish(&self, key: CallKey, outcome: Option<Vec<u8>>, done: Done<()>) {
        self.queue().push(Job::Finish(key, outcome, done));
    }

    fn fence(&self, key: CallKey, done: Done<Fenced>) {
        self.queue().push(Job::Fence(key, done));
    }

    fn open_session(&self, session: SessionId, owner: Option<&Principal>, done: Done<()>) {
        self.queue().push(Job::Open(session, owner.cloned(), done));
    }

    fn forget_session(&self, session: SessionId) {
        self.queue().push(Job::Forget(session));
    }

    fn flush(&self) {
        self.queue().flush();
    }

    fn acknowledge(&self, session: SessionId, acknowledged: Acknowledged) {
        self.queue().push(Job::Acknowledge(session, acknowledged));
    }

    fn ttl(&self) -> Option<Duration> {
        Some(self.handle.shared.ttl)
    }

    fn tick(&self, awake: Duration) {
        self.queue().tick(awake);
    }

    fn watch_commits(&self, watcher: CommitWatcher) {
        // A store serves one server.
        let _: Result<(), CommitWatcher> = self.handle.shared.commits.set(watcher);
    }

    fn problem(&self) -> Option<StoreError> {
        self.handle.shared.problem()
    }

    fn close(&self) {
        self.handle.end(WriterMode::Close);
    }
}

impl Shared {
    fn problem(&self) -> Option<StoreError> {
        if !self.has_problem.load(Relaxed) {
            return None;
        }
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.clone()
    }

    pub(crate) fn set_problem(&self, problem: Option<StoreError>) {
        self.has_problem.store(problem.is_some(), Relaxed);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl Handle {
    /// Ends the writer's thread, and waits for it unless this is that thread.
    fn end(&self, mode: WriterMode) {
        self.shared.queue.end(mode);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // It doesn't panic.
            drop(thread.join());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(WriterMode::Abandon);
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
