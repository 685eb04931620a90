//! A durable table for [`redial_server`] in one SQLite file: a call that was acknowledged is never lost,
//! through `kill -9` and power cuts, with nothing to install.
//!
//! ```
//! use redial_server::Server;
//! use redial_store_sqlite::{SqliteMethods, SqliteStore};
//! # let folder = std::env::temp_dir().join(format!("redial-lib-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("bank.db");
//!
//! let store = SqliteStore::options()
//!     .migrate(|connection| {
//!         connection.execute_batch(
//!             "CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, cents INTEGER NOT NULL)",
//!         )?;
//!         Ok(())
//!     })
//!     .open(&path)?;
//! let server = Server::builder()
//!     .store(store.clone())
//!     .transaction_named("deposit", |(name, cents): (String, i64), transaction, _| {
//!         let mut deposit = transaction.prepare_cached(
//!             "INSERT INTO account VALUES (?1, ?2)
//!              ON CONFLICT (name) DO UPDATE SET cents = cents + excluded.cents
//!              RETURNING cents",
//!         )?;
//!         Ok(deposit.query_row((name, cents), |row| row.get::<_, i64>(0))?)
//!     })
//!     .read_named("balance", &store, |(name,): (String,), connection| {
//!         let mut balance = connection.prepare_cached("SELECT cents FROM account WHERE name = ?1")?;
//!         Ok(balance.query_row([name], |row| row.get::<_, i64>(0))?)
//!     })
//!     .build()?;
//! # drop((server, store));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which kind of method to choose
//!
//! | registered as | its handler | its process dies in the middle |
//! |---|---|---|
//! | [`transaction`](SqliteMethods::transaction) | runs its SQL in the transaction that holds the call's record: both become durable, or neither | nothing has happened: a retry executes the call |
//! | [`mutation`](redial_server::ServerBuilder::mutation) | is async, and has its effect elsewhere; the intent is durable before it starts, the outcome after it has ended | the call is *interrupted* (-32008), or runs again if the method is resumable |
//! | [`read`](SqliteMethods::read) | reads one snapshot of what is durable | nothing has happened |
//!
//! # How it works
//!
//! One thread owns the connection that writes. Whatever waits for it is run as one transaction and made
//! durable by one sync, and only then answered: the more there is to do, the less each call pays for
//! the disk. A call that fails undoes its own writes alone.
//!
//! The file is in WAL mode with `synchronous = FULL`. Its tables `redial_*` are Redial's, all others
//! are the program's. The record of a session's call lies in a slot that is used again once the
//! client has acknowledged the call, so the file does not grow with the number of calls; what a
//! record said stays readable in the file until then. The view `redial_calls` shows all records to
//! those who open the file with `sqlite3 -readonly`.
//!
//! One store uses a file at a time: a lock on `FILE.lock` keeps others out, and ends with its process. The
//! lock file may stay, and should: if it is removed and another store opens the file, the first one commits
//! nothing any more. A store whose file was moved, removed or replaced notices within 100 ms and executes
//! nothing more; put back, it goes on. A file must not have two hard links, since SQLite keeps a log for each
//! name. Ids of sessions must never be used twice on one file.
//!
//! # When the disk fails
//!
//! Nothing is acknowledged that isn't durable. When a commit fails the file is opened again, to see
//! whether the batch is in it; if that works, each call is answered for certain. Until it
//! works new mutations are refused, queries go on where they can, and the file is tried again: with each
//! call that is handed in, and after at most 5 seconds.
//!
//! # Backups
//!
//! [`SqliteStore::backup_to`] writes a copy of one moment while the store goes on. To restore it, stop
//! the server, move the old file and its `-wal` and `-shm` away, and put the copy in their place. Calls
//! that were made after that moment are lost with the old file, for their callers too: a session that is
//! older than the copy may be asked to run a call again that the copy does not know. So after restoring a
//! copy restart the clients, too.

mod backup;
mod batch;
mod clock;
mod encoding;
mod error;
mod guard;
mod lock;
mod memory;
mod methods;
mod open;
mod options;
mod owned;
mod plain;
mod queue;
mod quiet;
mod readers;
mod recover;
mod schema;
mod statements;
mod store;
mod transaction;
mod writer;

pub use error::{OpenError, Owner};
pub use methods::{ReadHandler, SqliteMethods, transaction_method};
pub use options::SqliteOptions;
pub use rusqlite;
pub use store::SqliteStore;
pub use transaction::{Transaction, TransactionHandler};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
