//! Kind of fault: a batch that claims nothing before its handlers run keeps the effect of a call that may not run.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use redial_server::{
    Context,
    store::{Acknowledged, Claimed, Executed, Store, StoreError, TransactionMethod},
};
use redial_store_postgres::{PostgresStore, Transaction, batched_method};
use redial_store_tests::client::{Answer, call, key, session, wait};
use tokio::sync::Semaphore;

use crate::rig::{Database, Isolation, Sql, options};

/// Servers that share a database, all with session 1.
struct Servers {
    database: Database,
    stores: Vec<PostgresStore>,
    method: Arc<dyn TransactionMethod>,
    /// A handler runs when it gets a permit, and does not keep it.
    gate: Arc<Semaphore>,
}

impl Servers {
    fn new(count: usize) -> Option<Self> {
        Self::with(Isolation::ReadCommitted, count)
    }

    fn with(isolation: Isolation, count: usize) -> Option<Self> {
        let database = Database::new(isolation)?;
        let open = || {
            let store = options().open(&database.url()).unwrap();
            open_session(&store, 1);
            store
        };
        let stores = (0..count).map(|_| open()).collect();
        database.sql.run("INSERT INTO counter VALUES ('k', 0)");
        let gate = Arc::new(Semaphore::new(1));
        let entrance = Arc::clone(&gate);
        let method = batched_method(move |(): (), transaction: &mut Transaction, _: Context| {
            let entrance = Arc::clone(&entrance);
            Box::pin(async move {
                drop(entrance.acquire().await);
                let add = "UPDATE counter SET value = value + 1 WHERE key = 'k' RETURNING value";
                Ok(transaction.query_one(add, &[]).await?.get::<_, i64>(0))
            })
        });
        Some(Self {
            database,
            stores,
            method,
            gate,
        })
    }

    /// Calls at once, by the server of this number.
    fn execute(&self, at: usize, numbers: Range<u64>) -> Vec<Result<Executed, StoreError>> {
        self.execute_all(at, numbers.map(|number| (1, number)))
    }

    /// The same for calls of any session.
    fn execute_all(
        &self,
        at: usize,
        calls: impl Iterator<Item = (u64, u64)>,
    ) -> Vec<Result<Executed, StoreError>> {
        let hand_in = |(session, number)| {
            let (done, answer): (_, Answer<Executed>) = mpsc::channel();
            let prepared = self.method.prepare(Some("[]"), Context::default()).unwrap();
            let done = Box::new(move |it| done.send(it).unwrap());
            self.stores[at].execute(call(key(session, number), 7), prepared, done);
            answer
        };
        // All of them wait before the second batch begins.
        let closed = self.gate.try_acquire().unwrap();
        let answers: Vec<_> = calls.map(hand_in).collect();
        drop(closed);
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

fn open_session(store: &PostgresStore, number: u64) {
    let (done, opened) = mpsc::channel();
    let done = Box::new(move |it| done.send(it).unwrap());
    store.open_session(session(number), None, done);
    wait(&opened).unwrap();
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

/// Whose slot is taken by a call that is still open, as with a client that has very many of them; or by a later one, as
/// when the call was refused for a while.
#[test]
fn a_call_whose_slot_is_taken_leaves_that_call_where_it_is() {
    let Some(servers) = Servers::new(1) else {
        return;
    };
    let all = [0..40, 2048..2088, 1024..1064];
    for numbers in all.clone() {
        assert_eq!(count_new(&servers.execute(0, numbers)), 40);
    }
    for numbers in all {
        for answer in servers.execute(0, numbers) {
            let is_recorded = matches!(answer, Ok(Executed::Claimed(Claimed::Recorded(_))));
            assert!(is_recorded, "{answer:?}");
        }
    }
    assert_eq!(servers.counter(), 120);
}

/// Kind: what is out of the ordinary makes itself. Instance: calls that were refused for a while, and whose slots were taken
/// when they came: each ran by itself, held the rows that the batches wanted, and so made the next ones late.
#[test]
fn calls_whose_slots_are_taken_share_transactions_all_the_same() {
    let Some(servers) = Servers::new(1) else {
        return;
    };
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    servers.stores[0].watch_commits(Box::new(move |steps| {
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(steps);
    }));
    open_session(&servers.stores[0], 2);
    assert_eq!(
        count_new(&servers.execute_all(0, [(2, 100_000)].into_iter())),
        1
    );
    commits.lock().unwrap().clear();
    for (other, numbers) in (0..).step_by(40).zip([0..40, 2048..2088, 1024..1064]) {
        // Together with calls that are late, too, and whose slots are free.
        let calls = numbers.clone().zip(other..);
        let calls = calls.flat_map(|(number, other)| [(1, number), (2, other)]);
        assert_eq!(count_new(&servers.execute_all(0, calls)), 80);
        let commits = std::mem::take(&mut *commits.lock().unwrap());
        println!("{numbers:?}: {commits:?}");
        assert_eq!(commits.iter().sum::<usize>(), 80);
        assert!(commits.len() <= 10, "{numbers:?}: {commits:?}");
    }
    // What is acknowledged goes, and the slots are free again.
    let acknowledged = Acknowledged {
        below: 2088,
        open: Vec::new(),
    };
    servers.stores[0].acknowledge(session(1), acknowledged);
    servers.await_row("SELECT 1::bigint FROM redial.session WHERE below = 2088");
    let rows = servers
        .database
        .sql
        .number("SELECT count(*) FROM redial.slot");
    assert_eq!(rows, 40 + 120 + 1);
    assert_eq!(count_new(&servers.execute(0, 4096..4136)), 40);
    assert_eq!(servers.counter(), 281);
}

/// Kind: a call that comes late runs again. Instance: copies of calls that lie in slots of their own, to a server that
/// has not heard of them, before they are acknowledged and after.
#[test]
fn calls_in_slots_of_their_own_run_once_at_several_servers() {
    for isolation in [Isolation::ReadCommitted, Isolation::Serializable] {
        let Some(servers) = Servers::with(isolation, 3) else {
            return;
        };
        run_in_slots_of_their_own(&servers);
    }
}

fn run_in_slots_of_their_own(servers: &Servers) {
    let all = [0..20, 2048..2068, 1024..1044];
    for (at, numbers) in all.clone().into_iter().enumerate() {
        assert_eq!(count_new(&servers.execute(at, numbers)), 20);
    }
    for (at, numbers) in all.clone().into_iter().enumerate() {
        for answer in servers.execute((at + 1) % 3, numbers) {
            let is_recorded = matches!(answer, Ok(Executed::Claimed(Claimed::Recorded(_))));
            assert!(is_recorded, "{answer:?}");
        }
    }
    let acknowledged = Acknowledged {
        below: 2068,
        open: Vec::new(),
    };
    servers.stores[0].acknowledge(session(1), acknowledged);
    servers.await_row("SELECT 1::bigint FROM redial.session WHERE below = 2068");
    for (at, numbers) in all.into_iter().enumerate() {
        for answer in servers.execute((at + 2) % 3, numbers) {
            let is_refused = matches!(answer, Ok(Executed::Claimed(Claimed::Acknowledged)));
            assert!(is_refused, "{answer:?}");
        }
    }
    assert_eq!(servers.counter(), 60);
}

/// Kind: what was seen before a wait counts after it. Instance: a late copy whose claim waits for the goodbye that deletes the
/// slot of its own: it saw the session as it was before, and ran again.
#[test]
fn a_late_copy_that_waits_for_the_goodbye_does_not_run() {
    let Some(servers) = Servers::new(2) else {
        return;
    };
    for numbers in [0..1, 1024..1025] {
        assert_eq!(count_new(&servers.execute(0, numbers)), 1);
    }
    let goodbye = Sql::connect(&servers.database.url());
    goodbye.run(
        "BEGIN; DELETE FROM redial.slot WHERE slot = 2048; \
         UPDATE redial.session SET below = 1025, dead_since = clock_timestamp()",
    );
    let answers = thread::scope(|scope| {
        let copies = scope.spawn(|| servers.execute(1, 1024..1025));
        // It does not wait for longer than a moment, and then says the same.
        let waits = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waited = (0..10_000).any(|_| servers.database.sql.number(waits) > 0);
        goodbye.run("COMMIT");
        assert!(waited);
        copies.join().unwrap()
    });
    for answer in answers {
        let is_unknown = matches!(answer, Ok(Executed::Claimed(Claimed::SessionUnknown)));
        assert!(is_unknown, "{answer:?}");
    }
    assert_eq!(servers.counter(), 2);
}
