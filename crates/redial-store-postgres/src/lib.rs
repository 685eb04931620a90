//! A durable table for [`redial_server`] in a PostgreSQL database: effect and record of a call are one
//! transaction.
//!
//! ```no_run
//! use redial_server::Server;
//! use redial_store_postgres::{PostgresMethods, PostgresStore, Transaction};
//!
//! let store = PostgresStore::options()
//!     .migrate("CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, cents bigint NOT NULL)")
//!     .open("postgres://bank@localhost/bank")?;
//! let server = Server::builder()
//!     .store(store)
//!     .transaction_named(
//!         "deposit",
//!         |(name, cents): (String, i64), transaction: &mut Transaction, _| {
//!             Box::pin(async move {
//!                 let deposit = "INSERT INTO account AS a VALUES ($1, $2) ON CONFLICT (name) \
//!                                DO UPDATE SET cents = a.cents + excluded.cents RETURNING cents";
//!                 let row = transaction.query_one(deposit, &[&name, &cents]).await?;
//!                 Ok(row.get::<_, i64>(0))
//!             })
//!         },
//!     )
//!     .build()?;
//! # drop(server);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which kind of method to choose
//!
//! | registered as | its handler | its process dies in the middle |
//! |---|---|---|
//! | [`transaction`](PostgresMethods::transaction) | is async, and runs its SQL in the transaction that holds the call's record: both become durable, or neither | nothing has happened: a retry executes the call |
//! | [`mutation`](redial_server::ServerBuilder::mutation) | has its effect elsewhere; the intent is durable before it starts, the outcome after it has ended | the call is *interrupted* (-32008), or runs again if the method is resumable |
//!
//! # How it works
//!
//! The tables lie in the schema `redial`, which is made or brought up to date when a store is opened. An id is
//! claimed with a unique key, by the first statement of the call's transaction; a call that comes second gets what the
//! first has recorded. It waits for that without a connection of the database's.
//!
//! A server has an epoch, a row that it renews. Each commit checks that it is not over: a server that stood
//! still for longer than its lease ([`PostgresOptions::server_lease`]) records nothing in it.
//!
//! A commit is as durable as the database makes it: `synchronous_commit = off` is overruled for
//! these transactions, and every other setting stays the database's. Where its default isolation is *repeatable read*, it is
//! *serializable* here.

mod answer;
mod batch;
mod claim;
mod clock;
mod connection;
mod direct;
mod doubt;
mod error;
mod hosts;
mod loose;
mod maintenance;
mod methods;
mod on_batch;
mod on_record;
mod open;
mod options;
mod patience;
mod queue;
mod record;
mod recover;
mod schema;
mod sessions;
mod steps;
mod store;
#[cfg(feature = "tls")]
mod tls;
mod transaction;
mod url;

pub use error::{OpenError, SqlError};
pub use methods::{PostgresMethods, batched_method, transaction_method};
pub use options::PostgresOptions;
pub use store::PostgresStore;
pub use tokio_postgres;
pub use transaction::{HandlerFuture, Param, Transaction};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
