//! What can be chosen about a store.

use std::{fmt, time::Duration};

use crate::{error::OpenError, store::PostgresStore};

/// What can be chosen about a [`PostgresStore`]. Made by [`PostgresStore::options`].
#[derive(Clone)]
#[must_use]
pub struct PostgresOptions {
    pub(crate) migration: Option<String>,
    pub(crate) ttl: Duration,
    pub(crate) max_connections: usize,
    pub(crate) worker_threads: usize,
    pub(crate) server_lease: Duration,
    pub(crate) session_lease: Duration,
    pub(crate) retry_for: Duration,
    pub(crate) join_for: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) keeps_statements: Option<bool>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<redial_tls::ClientTls>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            migration: None,
            ttl: Duration::from_secs(10),
            max_connections: 16,
            worker_threads: 1,
            server_lease: Duration::from_secs(10),
            session_lease: Duration::from_secs(30 * 60),
            retry_for: Duration::from_secs(10),
            join_for: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            keeps_statements: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl PostgresOptions {
    /// SQL that makes or changes the program's own tables, each time that the store is opened. It runs in one
    /// transaction, by one server at a time: if it fails, nothing that it did is kept, and the store does not
    /// open.
    pub fn migrate(mut self, sql: impl Into<String>) -> Self {
        self.migration = Some(sql.into());
        self
    }

    /// How long the record of a call with a plain id is kept, at least, by the database's clock. Default: 10 s, like
    /// [`Config::ttl`](redial_server::Config::ttl) of the server. Records go a minute later. Cost: a
    /// row for each.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How many connections to the database there may be, 2 or more. Default: 16. One renews the server's
    /// lease, and each of the others serves one handler at a time; more handlers wait. Cost: a process of
    /// the database's for each.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(2);
        self
    }

    /// How many threads handlers run on, 1 or more. Default: 1, which serves tens of thousands of calls a second of
    /// handlers that wait for the database. More help handlers that compute. Cost: the threads wake each other. A
    /// handler that blocks its thread until another step of the store ends waits for ever where it is the only one.
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.worker_threads = threads.max(1);
        self
    }

    /// How long the calls that a server has started stay its own when nothing is heard of it, by the database's clock.
    /// Default: 10 s, renewed three times as often. A shorter one lets others take over sooner, and makes a
    /// server that stands still for longer lose what it was at. A transaction in which nothing is asked of the database for
    /// so long is undone, so that what it has locked is free again.
    pub fn server_lease(mut self, lease: Duration) -> Self {
        self.server_lease = lease;
        self
    }

    /// How long a session stays that no server has used. Default: 30 minutes, as the server's
    /// [`Config::session_lease`](redial_server::Config::session_lease). Cost: its records until then.
    pub fn session_lease(mut self, lease: Duration) -> Self {
        self.session_lease = lease;
        self
    }

    /// Whether statements are prepared once on each connection, those of handlers, too, which saves the database the
    /// reading and planning. Default: where each connection leads to one process of the database's, which is asked
    /// when it is made. A pooler such as pgbouncer in transaction mode hands connections on to others, with what was
    /// prepared on them: once one is found to be in between, nothing more is prepared. To choose `true` behind a pooler is
    /// safe only if that looks after prepared statements itself. Cost: memory for each statement and connection.
    pub fn prepare_statements(mut self, prepare: bool) -> Self {
        self.keeps_statements = Some(prepare);
        self
    }

    /// How long one connection to the database may take to be made, where the connection string says nothing of it
    /// (`connect_timeout`). Default: 5 s; more than 0. One that is taken by a host which says nothing is given as
    /// long once more. Cost: with a list of hosts, one that is silent holds each connection up for so long.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a step is tried again when transactions are in each other's way or the database is away. Default:
    /// 10 s. After that its caller hears that nothing was done, and tries again itself. Cost: the caller waits.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// How long a duplicate waits for a call that runs at another server, and how long it is asked what a commit
    /// came to that had no answer, as in a fail-over; after that the outcome is unknown here. Default: 60 s. Cost: its caller waits, and a look every 100 ms.
    pub fn join_for(mut self, time: Duration) -> Self {
        self.join_for = time;
        self
    }

    /// Connections are encrypted, with these authorities and, if need be, a certificate of this server's
    /// own. Default: as the connection string says; `sslmode=require` and `verify-full` are the same here: the
    /// certificate has to be signed by one of the system's authorities, or by one in the file that
    /// `sslrootcert` names, for the name of the host. There is no mode that does not verify.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: redial_tls::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Opens the database, and makes what is missing in its schema `redial`.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub fn open(self, url: &str) -> Result<PostgresStore, OpenError> {
        PostgresStore::start(url, self)
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("ttl", &self.ttl)
            .field("max_connections", &self.max_connections)
            .field("server_lease", &self.server_lease)
            .finish_non_exhaustive()
    }
}
