//! A connection of the pool and the transaction on it. One that is left in the middle of a transaction goes
//! back to the pool when that is undone, or is closed, which undoes it, too.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use deadpool_postgres::{Object, Pool};
use futures_util::future::join_all;
use redial_server::store::CommitWatcher;
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::{
    Client, Error, Row, Statement,
    error::{DbError, Severity, SqlState},
    types::{ToSql, Type},
};

use crate::{
    error::{Trouble, describe, is_stale_plan},
    transaction::Param,
};

/// A parameter and its type. With its type a statement needs no preparation: it takes one round trip, and
/// leaves nothing behind on a connection that others may get next.
pub(crate) type Typed<'a> = (&'a (dyn ToSql + Sync), Type);

/// How a transaction begins.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// `BEGIN`, and what holds for this transaction alone. The id is claimed with a short
    /// `lock_timeout`, so that a duplicate waits without a connection.
    pub(crate) begin: String,
    /// The same for one that may have found the id locked before.
    begin_again: String,
    /// The same for a batch, which holds the locks of many calls and waits a moment for those of others.
    pub(crate) begin_batch: String,
    /// `COMMIT AND CHAIN` and the same settings, which commits and begins the transaction of another batch. `None` where
    /// the engine does not know it.
    pub(crate) begin_after: Option<String>,
    /// The database's own `lock_timeout`, for what comes after the claim.
    pub(crate) lock_timeout: String,
}

/// How long a claim waits on the connection for another transaction: at first, later on, and in a batch.
const CLAIM_LOCK_TIMEOUTS: [&str; 3] = ["30ms", "2ms", "100ms"];

/// How many transactions follow each other on a connection before others may have it. A pooler that looks after prepared
/// statements itself hands it on between transactions alone.
const MOST_IN_A_ROW: u32 = 64;

/// How long an open transaction may take to be undone before its connection is closed instead.
const UNDOING: Duration = Duration::from_secs(1);

impl Style {
    /// How the transaction of a claim begins.
    pub(crate) fn begin(&self, is_again: bool) -> &str {
        if is_again {
            &self.begin_again
        } else {
            &self.begin
        }
    }

    /// As the database's settings say, but for those that would break a promise.
    pub(crate) async fn of(client: &Client, lease: Duration) -> Result<Self, Error> {
        let row = client
            .query_typed_one(
                "SELECT current_setting('default_transaction_isolation'), \
                 current_setting('synchronous_commit'), current_setting('lock_timeout'), \
                 (SELECT setting FROM pg_settings \
                 WHERE name = 'idle_in_transaction_session_timeout')",
                &[],
            )
            .await?;
        // A claim has to see what was committed before it, or to be in conflict with that.
        let isolation = match row.get::<_, String>(0).as_str() {
            "repeatable read" | "serializable" => "SERIALIZABLE",
            _ => "READ COMMITTED",
        };
        // A server that stands still in the middle of a transaction keeps others waiting for no longer.
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let own: Option<String> = row.get(3);
        let own = own.and_then(|own| own.parse().ok()).filter(|own| *own > 0);
        let idle = own.unwrap_or(lease).min(lease).clamp(1, i32::MAX as u64);
        let mut settings = format!("SET LOCAL idle_in_transaction_session_timeout = {idle}");
        // What is answered has to be durable.
        if row.get::<_, String>(1) == "off" {
            settings.push_str("; SET LOCAL synchronous_commit = on");
        }
        let settings = CLAIM_LOCK_TIMEOUTS
            .map(|timeout| format!("{settings}; SET LOCAL lock_timeout = '{timeout}'"));
        let begin = |settings| format!("BEGIN ISOLATION LEVEL {isolation} READ WRITE; {settings}");
        let has_chain = has_chain(client).await?;
        let begin_after = has_chain.then(|| format!("COMMIT AND CHAIN; {}", settings[2]));
        let [begin, begin_again, begin_batch] = settings.map(begin);
        Ok(Self {
            begin_after,
            begin,
            begin_again,
            begin_batch,
            lock_timeout: row.get(2),
        })
    }
}

/// Whether the engine knows `COMMIT AND CHAIN` (SQL:1999; PostgreSQL since 12), and does it: there is a transaction
/// then, or there is no savepoint.
async fn has_chain(client: &Client) -> Result<bool, Error> {
    let mut has_chain = true;
    for sql in ["BEGIN; COMMIT AND CHAIN", "SAVEPOINT chained"] {
        has_chain &= client.batch_execute(sql).await.is_ok();
    }
    client.batch_execute("ROLLBACK").await?;
    Ok(has_chain)
}

/// A connection.
pub(crate) struct Connection {
    object: Option<Object>,
    is_in_transaction: bool,
    /// How many transactions in a row have begun here with the commit of the one before.
    begun_again: u32,
    /// Statements are prepared once, and stay on the connection.
    keeps_statements: bool,
    commits: Arc<OnceLock<CommitWatcher>>,
    /// How many steps the next commit makes durable.
    pub(crate) steps: usize,
}

/// A statement that is ready to be sent: what waits for it on the same connection may be sent right after.
pub(crate) struct Ready<'s> {
    sql: &'s str,
    statement: Option<Statement>,
}

impl Connection {
    pub(crate) async fn get(
        pool: &Pool,
        keeps_statements: &AtomicBool,
        commits: &Arc<OnceLock<CommitWatcher>>,
    ) -> Result<Self, Trouble> {
        match pool.get().await {
            Ok(object) => Ok(Self {
                object: Some(object),
                is_in_transaction: false,
                begun_again: 0,
                keeps_statements: keeps_statements.load(Relaxed),
                commits: Arc::clone(commits),
                steps: 1,
            }),
            Err(deadpool_postgres::PoolError::Backend(error)) => {
                Err(Trouble::Away(describe(&error)))
            }
            Err(error) => Err(Trouble::Away(format!(
                "no connection to PostgreSQL: {error}"
            ))),
        }
    }

    /// To be set before `BEGIN` is sent.
    pub(crate) fn enter(&mut self) {
        self.is_in_transaction = true;
    }

    /// To be set when a transaction has ended.
    pub(crate) fn left(&mut self) {
        self.is_in_transaction = false;
    }

    pub(crate) async fn roll_back(&mut self) -> Result<(), Trouble> {
        let rolled_back = self.batch_execute("ROLLBACK").await;
        rolled_back.map_err(|error| Trouble::of(&error))?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// Of a transaction in which nothing was changed.
    pub(crate) async fn commit(&mut self) -> Result<(), Trouble> {
        let committed = self.batch_execute("COMMIT").await;
        committed.map_err(|error| Trouble::of(&error))?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// The last statements and the commit, in one round trip. Each of them fails where nothing may be
    /// committed, so that the `COMMIT` behind them undoes everything.
    pub(crate) async fn commit_with(
        &mut self,
        statements: &[(&str, &[Typed<'_>])],
    ) -> Result<(), CommitTrouble> {
        self.commit_and(None, statements).await
    }

    /// Whether others need not have the connection before another transaction begins.
    pub(crate) fn may_begin_again(&self) -> bool {
        self.begun_again < MOST_IN_A_ROW
    }

    /// As [`commit_with`](Self::commit_with). `next` commits and begins another transaction.
    pub(crate) async fn commit_and(
        &mut self,
        next: Option<&str>,
        statements: &[(&str, &[Typed<'_>])],
    ) -> Result<(), CommitTrouble> {
        // Before the `COMMIT` is sent.
        let mut ready = Vec::with_capacity(statements.len());
        for (sql, params) in statements {
            match self.ready(sql, params).await {
                Ok(statement) => ready.push((statement, *params)),
                Err(error) => return Err(CommitTrouble::of_statement(&error)),
            }
        }
        let last = ready
            .iter()
            .map(|(statement, params)| self.execute_ready(statement, params));
        let (last, committed) =
            tokio::join!(join_all(last), self.batch_execute(next.unwrap_or("COMMIT")),);
        let last: Result<Vec<_>, _> = last.into_iter().collect();
        if let Err(error) = last {
            return Err(match error.code() {
                // The commit may have taken place before the connection was lost, be it that of a pooler,
                // which says so.
                None => CommitTrouble::Other(Trouble::Unanswered(describe(&error))),
                Some(code) if code.code().starts_with("08") => {
                    CommitTrouble::Other(Trouble::Unanswered(describe(&error)))
                }
                Some(_) => {
                    self.is_in_transaction = committed.is_err() || next.is_some();
                    CommitTrouble::of_statement(&error)
                }
            });
        }
        match committed {
            Ok(()) => {
                self.is_in_transaction = next.is_some();
                self.begun_again += u32::from(next.is_some());
                if let Some(watcher) = self.commits.get() {
                    watcher(self.steps);
                }
                Ok(())
            }
            Err(error) => Err(match CommitTrouble::of_commit(&error) {
                // It may be about what came after the commit.
                CommitTrouble::Refused(why) if next.is_some() => {
                    CommitTrouble::Other(Trouble::Unanswered(why))
                }
                trouble => trouble,
            }),
        }
    }

    /// One statement that can't write, in one round trip.
    pub(crate) async fn read(
        &mut self,
        sql: &str,
        params: &[Box<dyn Param + Send>],
    ) -> Result<Vec<Row>, Trouble> {
        let params: Vec<Typed<'_>> = params.iter().map(|param| param.typed()).collect();
        self.enter();
        let (begun, rows, ended) = tokio::join!(
            self.batch_execute("BEGIN READ ONLY"),
            self.query_typed(sql, &params),
            self.batch_execute("COMMIT"),
        );
        let result = begun.and(rows).map_err(|error| Trouble::of(&error));
        self.is_in_transaction = ended.is_err();
        result
    }

    pub(crate) async fn rows(&self, sql: &str, params: &[Typed<'_>]) -> Result<Vec<Row>, Trouble> {
        let rows = self.query_any(sql, params).await;
        rows.map_err(|error| Trouble::of(&error))
    }

    pub(crate) async fn change(&self, sql: &str, params: &[Typed<'_>]) -> Result<u64, Trouble> {
        let changed = self.execute_any(sql, params).await;
        changed.map_err(|error| Trouble::of(&error))
    }

    /// As [`ready`](Self::ready), before a commit.
    pub(crate) async fn prepared<'s>(
        &self,
        sql: &'s str,
        params: &[Typed<'_>],
    ) -> Result<Ready<'s>, Trouble> {
        let ready = self.ready(sql, params).await;
        ready.map_err(|error| Trouble::of(&error))
    }

    pub(crate) async fn ready_rows(
        &self,
        ready: &Ready<'_>,
        params: &[Typed<'_>],
    ) -> Result<Vec<Row>, Trouble> {
        let rows = self.query_ready(ready, params).await;
        rows.map_err(|error| Trouble::of(&error))
    }

    /// Prepares a statement, if that is worth while and was not done before.
    async fn ready<'s>(&self, sql: &'s str, params: &[Typed<'_>]) -> Result<Ready<'s>, Error> {
        let object = self.object.as_ref().filter(|_| self.keeps_statements);
        let statement = match object {
            Some(object) => {
                let types: Vec<Type> = params.iter().map(|(_, of)| of.clone()).collect();
                Some(object.prepare_typed_cached(sql, &types).await?)
            }
            None => None,
        };
        Ok(Ready { sql, statement })
    }

    async fn query_ready(
        &self,
        ready: &Ready<'_>,
        params: &[Typed<'_>],
    ) -> Result<Vec<Row>, Error> {
        self.heed(match &ready.statement {
            Some(statement) => self.query(statement, &values(params)).await,
            None => self.query_typed(ready.sql, params).await,
        })
    }

    async fn execute_ready(&self, ready: &Ready<'_>, params: &[Typed<'_>]) -> Result<u64, Error> {
        self.heed(match &ready.statement {
            Some(statement) => self.execute(statement, &values(params)).await,
            None => self.execute_typed(ready.sql, params).await,
        })
    }

    pub(crate) async fn query_any(
        &self,
        sql: &str,
        params: &[Typed<'_>],
    ) -> Result<Vec<Row>, Error> {
        let ready = self.ready(sql, params).await?;
        self.query_ready(&ready, params).await
    }

    pub(crate) async fn one(&self, sql: &str, params: &[Typed<'_>]) -> Result<Row, Error> {
        let ready = self.ready(sql, params).await?;
        self.heed(match &ready.statement {
            Some(statement) => self.query_one(statement, &values(params)).await,
            None => self.query_typed_one(sql, params).await,
        })
    }

    pub(crate) async fn opt(&self, sql: &str, params: &[Typed<'_>]) -> Result<Option<Row>, Error> {
        let ready = self.ready(sql, params).await?;
        self.heed(match &ready.statement {
            Some(statement) => self.query_opt(statement, &values(params)).await,
            None => self.query_typed_opt(sql, params).await,
        })
    }

    /// Statements that were prepared before their tables changed are not used again: the next run prepares
    /// them anew.
    fn heed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let (Err(error), Some(object)) = (&result, &self.object)
            && is_stale_plan(error)
        {
            object.statement_cache.clear();
        }
        result
    }

    pub(crate) async fn execute_any(&self, sql: &str, params: &[Typed<'_>]) -> Result<u64, Error> {
        let ready = self.ready(sql, params).await?;
        self.execute_ready(&ready, params).await
    }
}

fn values<'a>(params: &[Typed<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|(value, _)| *value).collect()
}

/// Why a commit did not take place, or is not known to.
pub(crate) enum CommitTrouble {
    /// What the handler has written breaks a rule of the database's; nothing is committed.
    Refused(String),
    Other(Trouble),
}

impl CommitTrouble {
    fn of_statement(error: &Error) -> Self {
        if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) {
            return Self::Refused("a statement of the handler has failed".to_owned());
        }
        Self::Other(Trouble::of(error))
    }

    fn of_commit(error: &Error) -> Self {
        match error.code() {
            Some(code) if refuses_commit(error, code) => Self::Refused(describe(error)),
            Some(code)
                if [
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                ]
                .contains(code) =>
            {
                Self::Other(Trouble::Conflict)
            }
            _ => Self::Other(Trouble::Unanswered(describe(error))),
        }
    }
}

/// Whether the call itself is refused, by a constraint that is checked now or a trigger that runs now: by bad data,
/// a broken constraint, or whatever code the program raises. It would be the same if it ran again.
fn refuses_commit(error: &Error, code: &SqlState) -> bool {
    let is_of = |classes: &[&str]| classes.iter().any(|class| code.code().starts_with(class));
    let is_error = || {
        let db = error.as_db_error();
        db.and_then(DbError::parsed_severity) == Some(Severity::Error)
    };
    is_of(&["22", "23", "P0"]) || is_error() && !is_of(&CIRCUMSTANCES)
}

/// Classes of codes that are about the circumstances of a commit, and some of which leave open whether it took
/// place: connections, the state of the transaction, other transactions, resources, locks, operators, the system.
const CIRCUMSTANCES: [&str; 11] = [
    "08", "25", "40", "53", "54", "55", "57", "58", "F0", "HV", "XX",
];

impl From<CommitTrouble> for Trouble {
    fn from(trouble: CommitTrouble) -> Self {
        match trouble {
            CommitTrouble::Refused(why) => {
                Self::Fatal(redial_server::store::StoreError::nothing_done(why))
            }
            CommitTrouble::Other(trouble) => trouble,
        }
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.object
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(object) = self.object.take_if(|_| self.is_in_transaction) {
            let undoing = Undoing(Some(object));
            // Without a runtime it is closed, which undoes it, too.
            if let Ok(runtime) = Handle::try_current() {
                drop(runtime.spawn(undoing.run()));
            }
        }
    }
}

/// A connection whose transaction is undone before anyone else gets it.
struct Undoing(Option<Object>);

impl Undoing {
    async fn run(mut self) {
        let Some(object) = &self.0 else {
            return;
        };
        // It may be in the middle of a statement.
        let undone = timeout(UNDOING, object.batch_execute("ROLLBACK")).await;
        if matches!(undone, Ok(Ok(()))) {
            // To the pool.
            drop(self.0.take());
        }
    }
}

impl Drop for Undoing {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
