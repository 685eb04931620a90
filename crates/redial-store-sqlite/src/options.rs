//! What can be chosen about a store.

use std::{error::Error, fmt, path::Path, time::Duration};

use rusqlite::Connection;

use crate::{error::OpenError, store::SqliteStore};

type Migration = Box<dyn FnOnce(&Connection) -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

/// What can be chosen about a [`SqliteStore`]. Made by [`SqliteStore::options`].
///
/// ```
/// use redial_store_sqlite::SqliteStore;
/// # let folder = std::env::temp_dir().join(format!("redial-options-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("orders.db");
///
/// let store = SqliteStore::options()
///     .migrate(|connection| {
///         connection.execute_batch(
///             "CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, count INTEGER NOT NULL)",
///         )?;
///         Ok(())
///     })
///     .open(&path)?;
/// # drop(store);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct SqliteOptions {
    pub(crate) migration: Option<Migration>,
    pub(crate) ttl: Duration,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) is_synced: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            migration: None,
            ttl: Duration::from_secs(10),
            max_bytes: None,
            is_synced: true,
        }
    }
}

impl SqliteOptions {
    /// Makes or changes the program's own tables, each time that the store is opened. It runs in a
    /// transaction of its own: if it fails, nothing that it did is kept, and the store does not open.
    /// `PRAGMA user_version` is the program's, to note how far it has come; names that begin with
    /// `redial_` are not.
    pub fn migrate(
        mut self,
        migration: impl FnOnce(&Connection) -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'static,
    ) -> Self {
        self.migration = Some(Box::new(migration));
        self
    }

    /// How long the record of a call with a plain id is kept, at least and up to half as long again, in time
    /// that the server is awake: the `ttl` of the server's
    /// [`Config`](redial_server::Config::ttl), whose default it shares: 10 s. A server with a longer one is not built
    /// ([`BuildError::StoreTtl`](redial_server::BuildError::StoreTtl)). Cost: the file holds the
    /// records of that time, 100 bytes and the outcome for each.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The largest that the file may grow, in bytes, without its `-wal` (which takes up to 16 MiB while
    /// no read lasts for long). A call that would need more is not executed, as on a full disk. Default:
    /// as the disk has room.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// **Breaks the promise**: nothing is synced, so that a power cut loses acknowledged calls, and may
    /// destroy the file. It is here to prove that tests of power cuts find such losses.
    pub fn dangerously_without_sync(mut self) -> Self {
        self.is_synced = false;
        self
    }

    /// Opens a file, or makes it.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, OpenError> {
        SqliteStore::start(path.as_ref(), self)
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("ttl", &self.ttl)
            .field("max_bytes", &self.max_bytes)
            .field("is_synced", &self.is_synced)
            .finish_non_exhaustive()
    }
}
