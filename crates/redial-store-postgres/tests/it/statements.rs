//! Kind of fault: a statement that stays on a connection is used by others, or after its tables have changed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
    mpsc,
};

use redial_server::{
    Context,
    store::{Executed, Store, TransactionMethod},
};
use redial_store_postgres::{
    HandlerFuture, PostgresOptions, PostgresStore, Transaction, transaction_method,
};
use redial_store_tests::client::{call, key, session, wait};

use crate::rig::{Database, Isolation, options};

/// One number that a statement gives, whichever columns come after it.
fn number((sql,): (String,), transaction: &mut Transaction, _: Context) -> HandlerFuture<'_, i64> {
    Box::pin(async move { Ok(transaction.query_one(&sql, &[]).await?.get(0)) })
}

struct Client {
    store: PostgresStore,
    session: u64,
    method: Arc<dyn TransactionMethod>,
    calls: u64,
}

impl Client {
    /// With a session of its own.
    fn new(options: PostgresOptions, url: &str) -> Self {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let id = SESSIONS.fetch_add(1, Relaxed);
        let store = options.open(url).unwrap();
        let (sender, opened) = mpsc::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        store.open_session(session(id), None, done);
        wait(&opened).unwrap();
        let method = transaction_method(number);
        Self {
            store,
            session: id,
            method,
            calls: 0,
        }
    }

    /// What a statement gives, run as a call of its own.
    fn number(&mut self, sql: &str) -> i64 {
        let params = serde_json::to_string(&[sql]).unwrap();
        let prepared = self.method.prepare(Some(&params), Context::default());
        let (sender, ended) = mpsc::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        self.calls += 1;
        let call = call(key(self.session, self.calls), 7);
        self.store.execute(call, prepared.unwrap(), done);
        match wait(&ended).unwrap() {
            Executed::New(outcome) => {
                let bytes = String::from_utf8(outcome.into_bytes()).unwrap();
                bytes
                    .trim_start_matches("\"result\":")
                    .parse()
                    .expect(&bytes)
            }
            Executed::Claimed(claimed) => panic!("{claimed:?}"),
        }
    }

    /// How many statements are prepared on the connections that calls get.
    fn prepared(&mut self) -> i64 {
        let sql = "SELECT count(*) FROM pg_prepared_statements";
        (0..8).map(|_| self.number(sql)).max().unwrap()
    }
}

#[test]
fn statements_stay_on_a_connection_that_leads_to_one_process_and_on_no_other() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    assert!(Client::new(options(), &database.url()).prepared() > 0);
    let chosen = options().prepare_statements(false);
    assert_eq!(Client::new(chosen, &database.url()).prepared(), 0);
    if let Some(url) = database.bounced_url() {
        assert_eq!(Client::new(options(), &url).prepared(), 0);
    }
}

/// A column more is another result, which PostgreSQL refuses to a statement that was prepared before.
#[test]
fn a_table_may_change_under_a_server_that_has_prepared_statements_on_it() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    database
        .sql
        .run("CREATE TABLE stock (count bigint); INSERT INTO stock VALUES (7)");
    let mut client = Client::new(options(), &database.url());
    let sql = "SELECT * FROM stock";
    (0..8).for_each(|_| assert_eq!(client.number(sql), 7));
    for change in ["ADD COLUMN place text", "DROP COLUMN place"] {
        database.sql.run(&format!("ALTER TABLE stock {change}"));
        (0..8).for_each(|_| assert_eq!(client.number(sql), 7));
    }
}

/// Kind of fault: the answer of another engine is read as PostgreSQL's. Instance: processes with larger numbers,
/// at which the store's thread panicked when it was opened.
#[test]
fn processes_that_are_numbered_otherwise_are_taken_for_a_poolers() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    database.sql.run(
        "CREATE SCHEMA other; CREATE FUNCTION other.pg_backend_pid() RETURNS bigint \
         LANGUAGE sql AS 'SELECT 7::bigint'; \
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = other, pg_catalog, public', \
         current_database()); END $$",
    );
    assert_eq!(Client::new(options(), &database.url()).prepared(), 0);
}
