//! Kind of fault: a transaction that begins with the commit of another is left open, is not there, or keeps a
//! connection from others.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use redial_server::{
    Abort, Context,
    store::{Claimed, Executed, Store, TransactionMethod},
};
use redial_store_postgres::{PostgresOptions, PostgresStore, Transaction, batched_method};
use redial_store_tests::{
    Effect,
    client::{call, key, session, wait},
};

use crate::{
    between,
    rig::{Database, Isolation, add, batched, method, options, prepare},
};

const CALLERS: u64 = 16;

/// Callers that each make one call after the other, until there were enough of them.
struct Load {
    store: PostgresStore,
    method: Arc<dyn TransactionMethod>,
    next: AtomicU64,
    /// No call with this number or a greater one is made from now on.
    end: AtomicU64,
    made: AtomicU64,
    /// The calls that have not ended.
    open: Mutex<BTreeSet<u64>>,
    /// What went wrong.
    errors: Mutex<Vec<String>>,
}

impl Load {
    /// Returns, too, what ends when the last call has ended.
    fn start(store: &PostgresStore, calls: u64) -> (Arc<Self>, mpsc::Receiver<()>) {
        Self::with(store, batched(), calls)
    }

    fn with(
        store: &PostgresStore,
        method: Arc<dyn TransactionMethod>,
        calls: u64,
    ) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (sender, ended) = mpsc::channel();
        let load = Arc::new(Self {
            store: store.clone(),
            method,
            next: AtomicU64::new(0),
            end: AtomicU64::new(calls),
            made: AtomicU64::new(0),
            open: Mutex::default(),
            errors: Mutex::default(),
        });
        for _ in 0..CALLERS {
            load.call(&sender);
        }
        drop(sender);
        (load, ended)
    }

    fn call(self: &Arc<Self>, running: &mpsc::Sender<()>) {
        let mut open = self.open.lock().unwrap();
        let number = self.next.fetch_add(1, Relaxed);
        if number >= self.end.load(Relaxed) {
            return;
        }
        self.made.fetch_add(1, Relaxed);
        open.insert(number);
        let first = *open.first().unwrap();
        drop(open);
        let (load, running) = (Arc::clone(self), running.clone());
        let prepared = prepare(&self.method, Effect::add("k", 1));
        let mut call = call(key(1, number), 7);
        call.acknowledged.below = first;
        let done = Box::new(move |result| {
            load.open.lock().unwrap().remove(&number);
            match result {
                Ok(Executed::New(_) | Executed::Claimed(Claimed::Recorded(_))) => {}
                other => load
                    .errors
                    .lock()
                    .unwrap()
                    .push(format!("{number}: {other:?}")),
            }
            load.call(&running);
        });
        self.store.execute(call, prepared, done);
    }

    /// All of them have ended, and each has counted once.
    fn check(&self, ended: &mpsc::Receiver<()>, database: &Database) {
        let end = ended.recv_timeout(Duration::from_secs(60));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        assert_eq!(*self.errors.lock().unwrap(), <[String; 0]>::default());
        let made = self.made.load(Relaxed).cast_signed();
        assert_eq!(database.counter("k"), made);
    }
}

/// A store with two sessions.
fn store(options: PostgresOptions, url: &str) -> PostgresStore {
    let store = options.open(url).unwrap();
    for number in [1, 2] {
        let (done, opened) = mpsc::channel();
        let done = Box::new(move |it| done.send(it).unwrap());
        store.open_session(session(number), None, done);
        wait(&opened).unwrap();
    }
    store
}

/// What is sent by simple queries, counted by how it begins.
fn counting(database: &Database, beginning: &'static str) -> Option<(String, Arc<AtomicUsize>)> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let change = move |sql: &str| {
        counted.fetch_add(usize::from(sql.starts_with(beginning)), Relaxed);
        None
    };
    Some((between::start(database, Arc::new(change))?, count))
}

#[test]
fn batches_follow_each_other_without_a_begin_and_leave_nothing_open() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let Some((url, count)) = counting(&database, "COMMIT AND CHAIN") else {
        return;
    };
    let store = store(options(), &url);
    let (load, ended) = Load::start(&store, 500);
    load.check(&ended, &database);
    let chained = count.load(Relaxed);
    assert!(chained > 10, "{chained}");
    // Sooner than the database itself would undo it.
    let open = "SELECT count(*) FROM pg_stat_activity, pg_sleep(0.05) \
                WHERE datname = current_database() AND state LIKE 'idle in%'";
    assert!((0..60).any(|_| database.sql.number(open) == 0));
}

/// A pooler hands the connection on between transactions.
#[test]
fn where_a_connection_may_be_anothers_next_every_batch_has_its_own_begin() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let Some((url, count)) = counting(&database, "COMMIT AND CHAIN; SET") else {
        return;
    };
    let store = store(options().prepare_statements(false), &url);
    let (load, ended) = Load::start(&store, 200);
    load.check(&ended, &database);
    assert_eq!(count.load(Relaxed), 0);
}

/// The commit took place, and an error is its answer.
#[test]
fn a_commit_that_could_not_begin_the_next_transaction_is_found_out() {
    const FAILS: &str = "COMMIT AND CHAIN; DO $$ BEGIN RAISE query_canceled; END $$";
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let change = move |sql: &str| {
        let is_chained = sql.starts_with("COMMIT AND CHAIN; SET");
        let fails = is_chained && counted.fetch_add(1, Relaxed).is_multiple_of(5);
        fails.then(|| FAILS.to_owned())
    };
    let Some(url) = between::start(&database, Arc::new(change)) else {
        return;
    };
    let (load, ended) = Load::start(&store(options(), &url), 300);
    load.check(&ended, &database);
    assert!(count.load(Relaxed) > 5);
}

#[test]
fn a_transaction_that_has_begun_may_be_gone() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let (load, ended) = Load::start(&store(options(), &database.url()), u64::MAX);
    // Those that wait in a transaction, but for the one of the lease.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity, pg_sleep(0.002) \
                WHERE datname = current_database() AND state = 'idle in transaction'";
    let mut killed = 0;
    for _ in 0..10_000 {
        killed += database.sql.number(kill);
        if killed >= 10 {
            break;
        }
    }
    assert!(killed >= 10, "{killed}");
    load.end.store(load.next.load(Relaxed), Relaxed);
    load.check(&ended, &database);
}

/// Kind of fault: batches wait for a connection that is kept for them. Instance: there is no other one.
#[test]
fn batches_go_on_with_one_connection() {
    for prepares in [true, false] {
        let Some(database) = Database::new(Isolation::ReadCommitted) else {
            return;
        };
        let options = options().max_connections(2).prepare_statements(prepares);
        let store = store(options, &database.url());
        let (load, ended) = Load::start(&store, 1000);
        load.check(&ended, &database);
    }
}

/// The same. Instance: a handler reads what is committed, which takes a connection of its own.
#[test]
fn a_handler_gets_a_connection_that_is_kept_for_the_next_batch() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = store(options().max_connections(3), &database.url());
    let reader = store.clone();
    let method = batched_method(
        move |(key, delta, _): (String, i64, u8), transaction: &mut Transaction, _: Context| {
            let reader = reader.clone();
            Box::pin(async move {
                let effect = Effect::add(&key, delta);
                let value = add(&effect, transaction).await?;
                let read = reader.read("SELECT 1", Vec::new()).await;
                read.map_err(|error| Abort::failed(error.to_string()))?;
                Ok(value)
            })
        },
    );
    let (load, ended) = Load::with(&store, method, 300);
    load.check(&ended, &database);
}

/// The only connection is wanted by a call that runs alone.
#[test]
fn a_call_that_runs_alone_gets_a_connection_beside_batches() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = store(options().max_connections(2), &database.url());
    let (load, ended) = Load::start(&store, u64::MAX);
    let (sender, answer) = mpsc::channel();
    let alone = prepare(&method(), Effect::add("alone", 1));
    let done = Box::new(move |it| sender.send(it).unwrap());
    store.execute(call(key(2, 0), 7), alone, done);
    let ran = wait(&answer);
    load.end.store(load.next.load(Relaxed), Relaxed);
    assert!(matches!(ran, Ok(Executed::New(_))), "{ran:?}");
    load.check(&ended, &database);
}
