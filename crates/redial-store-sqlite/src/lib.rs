//! A durable table for [`redial_server`] in one SQLite file.
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
