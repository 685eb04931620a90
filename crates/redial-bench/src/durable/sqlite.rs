//! The limit: plain SQLite in this process, with the SQL of `counter-server`, and a row for each call. It
//! undoes no single call.
//!
//! With unique ids it makes 72,000 to 78,000 calls/s on one core, in batches of 64 and of 256; with rows that
//! are only appended 264,000 to 270,000 and 392,000 to 401,000. A server of durable calls is held against
//! unique ids, because that is its job: to find each id again and to run no call twice. A row that is only
//! appended finds no duplicate; its figures say how much of the cost is the index.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rusqlite::{Connection, params};

use super::{KEY, Records, Subject, outcome};

const COUNTERS: &str =
    "CREATE TABLE counters (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID";

/// What a row can be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Its id, which is claimed once: the usual way to make a retry safe.
    Unique,
    /// Nothing. A duplicate would not be noticed: the least that a row can cost.
    Appended,
}

impl Rows {
    fn table(self) -> &'static str {
        match self {
            Self::Unique => {
                "CREATE TABLE record (id BLOB NOT NULL UNIQUE, fingerprint BLOB NOT NULL, outcome BLOB)"
            }
            Self::Appended => {
                "CREATE TABLE record (id BLOB NOT NULL, fingerprint BLOB NOT NULL, outcome BLOB)"
            }
        }
    }
}

const UPSERT: &str = "INSERT INTO counters VALUES (?1, ?2)
    ON CONFLICT (key) DO UPDATE SET value = value + ?2 RETURNING value";

/// What the store sets. Without the third line SQLite keeps what `RETURNING`
/// returns in a temporary file, which costs more than all the rest.
const SETUP: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -16384;
    PRAGMA journal_size_limit = 16777216";

/// Grows the log to more than it holds between two checkpoints, after which it is overwritten from its
/// beginning: to sync a file that grows costs many times what it costs later, and a measurement of so few commits
/// would see nothing else.
const GROW: &str = "
    CREATE TABLE grown (bytes BLOB);
    INSERT INTO grown VALUES (zeroblob(6000000));
    DROP TABLE grown;
    PRAGMA wal_checkpoint";

/// A file with counters and records.
pub struct Sqlite {
    connection: Connection,
    records: Records,
}

impl Sqlite {
    /// Makes the file.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn create(folder: &Path, rows: Rows) -> Result<Self> {
        let path = folder.join("limit.db");
        for end in ["", "-wal", "-shm"] {
            drop(fs::remove_file(format!("{}{end}", path.display())));
        }
        let connection =
            Connection::open(&path).with_context(|| format!("can't make {}", path.display()))?;
        connection.execute_batch(SETUP)?;
        connection.execute_batch(COUNTERS)?;
        connection.execute_batch(rows.table())?;
        connection.execute_batch(GROW)?;
        Ok(Self {
            connection,
            records: Records::new(),
        })
    }

    fn call(&mut self) -> Result<()> {
        let record = self.records.next();
        let mut upsert = self.connection.prepare_cached(UPSERT)?;
        let value: i64 = upsert.query_row(params![KEY, 1], |row| row.get(0))?;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3)")?;
        let outcome = outcome(value);
        insert.execute(params![
            &record.id[..],
            &record.fingerprint[..],
            outcome.as_bytes()
        ])?;
        Ok(())
    }
}

impl Subject for Sqlite {
    fn run(&mut self, batch: usize) -> Result<()> {
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])?;
        for _ in 0..batch {
            self.call()?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}
