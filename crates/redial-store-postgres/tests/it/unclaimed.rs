//! Kind of fault: a batch that claims nothing before its handlers run keeps the effect of a call that may not run.

use std::{
    ops::Range,
    sync::{Arc, mpsc},
    time::Duration,
};

use redial_server::{
    Context,
    store::{Acknowledged, Claimed, Executed, Store, StoreError, TransactionMethod},
};
use redial_store_postgres::{PostgresStore, Transaction, batched_method};
use redial_store_tests::client::{Answer, call, key, session, wait};

use crate::rig::{Database, Isolation, options};

/// Servers that share a database, all with session 1.
struct Servers {
    database: Database,
    stores: Vec<PostgresStore>,
    method: Arc<dyn TransactionMethod>,
}

impl Servers {
    fn new(count: usize) -> Option<Self> {
        let database = Database::new(Isolation::ReadCommitted)?;
        let open = || {
            let store = options().open(&database.url()).unwrap();
            let (done, opened) = mpsc::channel();
            store.open_session(session(1), None, Box::new(move |it| done.send(it).unwrap()));
            wait(&opened).unwrap();
            store
        };
        let stores = (0..count).map(|_| open()).collect();
        database.sql.run("INSERT INTO counter VALUES ('k', 0)");
        let method = batched_method(|(): (), transaction: &mut Transaction, _: Context| {
            Box::pin(async move {
                let add = "UPDATE counter SET value = value + 1 WHERE key = 'k' RETURNING value";
                Ok(transaction.query_one(add, &[]).await?.get::<_, i64>(0))
            })
        });
        Some(Self {
            database,
            stores,
            method,
        })
    }

    /// Calls at once, by the server of this number.
    fn execute(&self, at: usize, numbers: Range<u64>) -> Vec<Result<Executed, StoreError>> {
        let hand_in = |number| {
            let (done, answer): (_, Answer<Executed>) = mpsc::channel();
            let prepared = self.method.prepare(Some("[]"), Context::default()).unwrap();
            let done = Box::new(move |it| done.send(it).unwrap());
            self.stores[at].execute(call(key(1, number), 7), prepared, done);
            answer
        };
        let answers: Vec<_> = numbers.map(hand_in).collect();
        answers.iter().map(wait).collect()
    }

    fn counter(&self) -> i64 {
        self.database.counter("k")
    }

    /// Waits until a row is there that this selects.
    fn await_row(&self, select: &str) {
        let is_there = (0..100_000).any(|_| self.database.sql.number(select) > 0);
        assert!(is_there, "{select}");
    }
}

fn count_new(executed: &[Result<Executed, StoreError>]) -> usize {
    let new = executed
        .iter()
        .filter(|it| matches!(it, Ok(Executed::New(_))));
    new.count()
}

/// As when a client has lost its server, and asks another for what it was not answered.
#[test]
fn calls_that_ran_at_another_server_are_answered_from_the_record() {
    let Some(servers) = Servers::new(2) else {
        return;
    };
    assert_eq!(count_new(&servers.execute(0, 0..50)), 50);
    let executed = servers.execute(1, 25..75);
    assert_eq!(count_new(&executed[..25]), 0);
    for answer in &executed[..25] {
        let is_recorded = matches!(answer, Ok(Executed::Claimed(Claimed::Recorded(_))));
        assert!(is_recorded, "{answer:?}");
    }
    assert_eq!(count_new(&executed[25..]), 25);
    assert_eq!(servers.counter(), 75);
    // It is trusted again after a while, and the same calls come once more.
    for first in (100..1000).step_by(10) {
        assert_eq!(count_new(&servers.execute(1, first..first + 10)), 10);
    }
    assert_eq!(count_new(&servers.execute(1, 40..1000)), 25);
    assert_eq!(servers.counter(), 1000);
}

/// Of an answer that the client has not waited for.
#[test]
fn a_late_copy_of_a_call_that_was_acknowledged_at_another_server_does_not_run() {
    let Some(servers) = Servers::new(2) else {
        return;
    };
    let acknowledged = Acknowledged {
        below: 20,
        open: vec![10, 11],
    };
    servers.stores[0].acknowledge(session(1), acknowledged);
    servers.await_row("SELECT 1::bigint FROM redial.session WHERE below = 20");
    let executed = servers.execute(1, 8..24);
    for (number, answer) in (8..).zip(&executed) {
        let is_open = number >= 20 || [10, 11].contains(&number);
        match answer {
            Ok(Executed::New(_)) => assert!(is_open, "{number}"),
            Ok(Executed::Claimed(Claimed::Acknowledged)) => assert!(!is_open, "{number}"),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(servers.counter(), 6);
}

/// Its client has said goodbye to the other server.
#[test]
fn a_late_copy_of_a_call_of_a_session_that_is_over_does_not_run() {
    let Some(servers) = Servers::new(2) else {
        return;
    };
    servers.stores[0].forget_session(session(1));
    servers.await_row(
        "SELECT CASE WHEN EXISTS (SELECT FROM redial.session WHERE dead_since IS NULL) \
         THEN 0 ELSE 1 END::bigint",
    );
    for answer in servers.execute(1, 2..10) {
        let is_unknown = matches!(answer, Ok(Executed::Claimed(Claimed::SessionUnknown)));
        assert!(is_unknown, "{answer:?}");
    }
    assert_eq!(servers.counter(), 0);
}

/// Its lease is over, and can't be renewed.
#[test]
fn a_server_without_a_lease_keeps_nothing_of_a_batch() {
    let Some(mut servers) = Servers::new(1) else {
        return;
    };
    let soon = Duration::from_millis(300);
    let url = servers.database.url();
    let store = options().retry_for(soon).open(&url).unwrap();
    servers.stores = vec![store];
    assert_eq!(count_new(&servers.execute(0, 0..4)), 4);
    servers.database.sql.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'no lease'; END $$; \
         UPDATE redial.server SET expires = '-infinity'; \
         CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON redial.server \
         FOR EACH ROW EXECUTE FUNCTION refuse();",
    );
    for answer in servers.execute(0, 4..20) {
        let error = answer.unwrap_err();
        assert!(!error.is_uncertain, "{error}");
    }
    assert_eq!(servers.counter(), 4);
}

/// Whose slot is taken by a call that is still open, as with a client that has very many of them.
#[test]
fn a_call_whose_slot_is_taken_leaves_that_call_where_it_is() {
    let Some(servers) = Servers::new(1) else {
        return;
    };
    assert_eq!(count_new(&servers.execute(0, 0..40)), 40);
    assert_eq!(count_new(&servers.execute(0, 1024..1064)), 40);
    for numbers in [0..40, 1024..1064] {
        for answer in servers.execute(0, numbers) {
            let is_recorded = matches!(answer, Ok(Executed::Claimed(Claimed::Recorded(_))));
            assert!(is_recorded, "{answer:?}");
        }
    }
    assert_eq!(servers.counter(), 80);
}
