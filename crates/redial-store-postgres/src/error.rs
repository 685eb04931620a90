//! What can be wrong with a database, in words that say what to do.

use std::{error::Error as _, fmt};

use redial_server::store::StoreError;
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// Why a store could not be opened.
#[derive(Error)]
pub enum OpenError {
    /// The connection string makes no sense.
    #[error("not a connection string of PostgreSQL: {0}; expected postgres://USER@HOST/DATABASE")]
    Url(String),
    /// The database can't be reached, or has refused something.
    #[error("{}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The connection string asks for TLS, which can't be had.
    #[error("no TLS to the database: {0}")]
    Tls(String),
    /// No connection could be had.
    #[error("{0}; expected a server that takes connections")]
    Connect(String),
    /// The program's own migration has failed; nothing that it did was kept.
    #[error("the program's migration has failed, and nothing of it was kept: {}", describe(.0))]
    Migration(tokio_postgres::Error),
    /// The schema was written by a newer version.
    #[error(
        "the schema `redial` has version {found}; this program knows it up to {known}: update the program"
    )]
    Newer {
        /// What was found.
        found: i32,
        /// What this program knows.
        known: usize,
    },
    /// The tables were copied from another database, which may be served as well.
    #[error(
        "the tables in the schema `redial` were copied: they were made in database {made}, and this is {here}. \
         Served both, they would take each other's calls for their own. Nothing was changed. If the other one \
         serves no more, run here: DELETE FROM redial.place. If it does, run here: DROP SCHEMA \
         redial CASCADE, which makes this one a table of its own, without sessions and records"
    )]
    Copied {
        /// Where they were made: the cluster's identifier, and the database's.
        made: String,
        /// What was opened.
        here: String,
    },
    /// The thread of the store can't be started.
    #[error("the store's thread can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the database says of a statement, in its own words and with its code.
#[derive(Debug, Error)]
#[error("{}", describe(.0))]
pub struct SqlError(#[source] pub tokio_postgres::Error);

/// What an error says, with its code and what it is about.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("PostgreSQL: {} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("PostgreSQL: {error}: {source}"),
        (None, None) => format!("PostgreSQL: {error}"),
    }
}

/// Whether a prepared statement returns other columns than when it was prepared, since its tables were changed.
/// The code is that of many things; this is how PostgreSQL's own `RevalidateCachedQuery` says it.
pub(crate) fn is_stale_plan(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        *db.code() == SqlState::FEATURE_NOT_SUPPORTED
            && db.routine() == Some("RevalidateCachedQuery")
    })
}

/// Why a step has come to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// What it met there was in its way; it may go otherwise at once.
    Conflict,
    /// Another transaction holds the id: to be tried again in a while.
    Busy,
    /// A living server runs the call: to be asked again in a while.
    RunsElsewhere,
    /// The connection or the database is not there, before anything could become durable.
    Away(String),
    /// The same in the middle of a commit.
    Unanswered(String),
    /// This server has lost its epoch.
    Fenced,
    /// Anything else: to do it again would be the same.
    Fatal(StoreError),
}

impl Trouble {
    /// What an error means that came before a commit was sent.
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            return Self::Away(describe(error));
        };
        if [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(code)
            || is_stale_plan(error)
        {
            return Self::Conflict;
        }
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return Self::Busy;
        }
        if *code == SqlState::DIVISION_BY_ZERO {
            return Self::Fenced;
        }
        // It was closed because this server stood still.
        if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT {
            return Self::Away(describe(error));
        }
        // Shutdown, no more connections, not enough memory or disk, a standby.
        let is_of = |class: &&str| code.code().starts_with(*class);
        if ["08", "53", "57"].iter().any(is_of) || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return Self::Away(describe(error));
        }
        Self::Fatal(StoreError::nothing_done(describe(error)))
    }

    /// What to say when there is no more time.
    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Self::Conflict => StoreError::nothing_done(
                "other transactions were in the way until the deadline; nothing was done",
            ),
            Self::Busy | Self::RunsElsewhere => StoreError::uncertain(
                "the call runs at another server, and had not ended at the deadline",
            ),
            Self::Away(why) => StoreError::nothing_done(why),
            Self::Unanswered(why) => StoreError::uncertain(format!(
                "{why}; whether the commit took place could not be found out before the deadline"
            )),
            Self::Fenced => StoreError::nothing_done(
                "this server was away from the database for longer than its lease, and records nothing \
                 until it has a new one",
            ),
            Self::Fatal(error) => error,
        }
    }
}
