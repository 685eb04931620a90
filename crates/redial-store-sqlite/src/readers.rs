//! Connections that only read. Each read sees one snapshot of what is durable.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Result, ffi};

/// How many idle connections are kept.
const KEPT: usize = 4;

/// How long a reader waits for a lock, which in WAL mode it needs only while the file is being recovered.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    /// `None` when the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    /// Reads in one snapshot. If `step` panics, its connection is closed.
    pub(crate) fn read<T, E>(&self, step: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<rusqlite::Error>,
    {
        let connection = self.take()?;
        connection.prepare_cached("BEGIN")?.execute([])?;
        let read = step(&connection);
        if connection.is_autocommit() {
            return read;
        }
        let ended = connection
            .prepare_cached("ROLLBACK")
            .and_then(|mut end| end.execute([]));
        if ended.is_ok() {
            self.give_back(connection);
        }
        read
    }

    /// Runs a statement that makes its own snapshot.
    pub(crate) fn read_without_snapshot<T>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let connection = self.take()?;
        let read = step(&connection);
        self.give_back(connection);
        read
    }

    /// Closes all that are idle. Those that read at present are closed when they end.
    pub(crate) fn drop_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut() {
            idle.clear();
        }
    }

    /// The same, for good.
    pub(crate) fn close(&self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn take(&self) -> Result<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connections) = idle.as_mut() else {
            let error = ffi::Error {
                code: ErrorCode::ApiMisuse,
                extended_code: ffi::SQLITE_MISUSE,
            };
            return Err(rusqlite::Error::SqliteFailure(
                error,
                Some("the store is closed".to_owned()),
            ));
        };
        if let Some(connection) = connections.pop() {
            return Ok(connection);
        }
        drop(idle);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut()
            && idle.len() < KEPT
        {
            idle.push(connection);
        }
    }
}
