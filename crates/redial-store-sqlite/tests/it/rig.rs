//! A store in a folder of its own, whose handlers add to counters.

use std::{
    any::Any,
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use redial_server::{
    Abort, Context,
    store::{Store, TransactionMethod},
};
use redial_store_sqlite::{SqliteOptions, SqliteStore, Transaction, transaction_method};
use redial_store_tests::{Effect, End, Rig};

/// A folder that goes with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "redial-store-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// With the counters' table.
pub(crate) fn options() -> SqliteOptions {
    SqliteStore::options().migrate(|connection| {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS counter (key TEXT PRIMARY KEY, value INTEGER NOT NULL)
             WITHOUT ROWID",
        )?;
        Ok(())
    })
}

/// Adds to a counter, and ends as the effect says.
pub(crate) fn add(effect: &Effect, transaction: &Transaction<'_>) -> Result<i64, Abort> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO counter VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = value + excluded.value RETURNING value",
    )?;
    let value = add.query_row((&effect.key, effect.delta), |row| row.get(0))?;
    effect.finish(value)
}

pub(crate) fn counter(store: &SqliteStore, key: &str) -> i64 {
    let read = store.read(|connection| {
        connection.query_row(
            "SELECT coalesce((SELECT value FROM counter WHERE key = ?1), 0)",
            [key],
            |row| row.get(0),
        )
    });
    read.unwrap()
}

type Params = (String, i64, u8);

pub(crate) struct SqliteRig {
    folder: Folder,
    method: Arc<dyn TransactionMethod>,
    current: RefCell<Option<SqliteStore>>,
    lives: AtomicU32,
}

impl SqliteRig {
    pub(crate) fn new() -> Self {
        let method = transaction_method(
            |(key, delta, end): Params, transaction: &mut Transaction<'_>, _: Context| {
                let end = [End::Return, End::Fail, End::Panic, End::NoEffect][usize::from(end)];
                add(&Effect { key, delta, end }, transaction)
            },
        );
        Self {
            folder: Folder::new(),
            method,
            current: RefCell::new(None),
            lives: AtomicU32::new(0),
        }
    }

    /// Where the next life's file is: a copy of what the one before has written, made before that is
    /// closed, which would tidy up.
    fn next_file(&self) -> PathBuf {
        let life = self.lives.fetch_add(1, Relaxed);
        let file = self.folder.file(&format!("{life}.db"));
        if let Some(before) = self.current.borrow_mut().take() {
            for suffix in ["", "-wal"] {
                let name = |path: &Path| format!("{}{suffix}", path.display());
                if Path::new(&name(before.path())).exists() {
                    fs::copy(name(before.path()), name(&file)).unwrap();
                }
            }
        }
        file
    }
}

impl Rig for SqliteRig {
    fn open(&self) -> Arc<dyn Store> {
        let store = options().open(self.next_file()).unwrap();
        *self.current.borrow_mut() = Some(store.clone());
        Arc::new(store)
    }

    fn prepare(&self, effect: Effect) -> Box<dyn Any + Send> {
        let params = (effect.key, effect.delta, effect.end as u8);
        let params = serde_json::to_string(&params).unwrap();
        self.method
            .prepare(Some(&params), Context::default())
            .unwrap()
    }

    fn counter(&self, key: &str) -> i64 {
        counter(self.current.borrow().as_ref().unwrap(), key)
    }

    fn claims_plain_ids(&self) -> bool {
        false
    }
}
