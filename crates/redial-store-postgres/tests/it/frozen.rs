//! Kinds of fault: a server stands still in the middle of a transaction (SIGSTOP, a suspended machine), and
//! what it has locked stays locked for as long as that takes; or one that is alive counts as one that stands
//! still.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use redial_server::{
    Context,
    store::{Claimed, Executed, Store, TransactionMethod},
};
use redial_store_postgres::{PostgresStore, Transaction, transaction_method};
use redial_store_tests::{
    Effect, End,
    client::{Answer, call, key, session, wait},
};
use tokio::sync::Notify;

use crate::rig::{Database, Isolation, add, options};

fn open_session(store: &PostgresStore) {
    let (done, opened) = mpsc::channel();
    store.open_session(session(1), None, Box::new(move |it| done.send(it).unwrap()));
    wait(&opened).unwrap();
}

/// Hands in a call without params.
fn execute(
    store: &PostgresStore,
    method: &Arc<dyn TransactionMethod>,
    number: u64,
) -> Answer<Executed> {
    let (sender, answer) = mpsc::channel();
    let prepared = method.prepare(Some("null"), Context::default()).unwrap();
    let done = Box::new(move |result| drop(sender.send(result)));
    store.execute(call(key(1, number), 7), prepared, done);
    answer
}

/// The handler that stands still here is alone in that: its server renews its lease.
#[test]
fn a_transaction_that_stands_still_holds_its_locks_no_longer_than_a_lease() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let options = || options().server_lease(Duration::from_millis(600));
    let servers: Vec<_> = (0..2)
        .map(|_| options().open(&database.url()).unwrap())
        .collect();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (began, first) = mpsc::channel();
    let method = {
        let (runs, go) = (Arc::clone(&runs), Arc::clone(&go));
        transaction_method(move |(): (), transaction: &mut Transaction, _: Context| {
            let (runs, go, began) = (Arc::clone(&runs), Arc::clone(&go), began.clone());
            Box::pin(async move {
                let effect = Effect {
                    key: "k".to_owned(),
                    delta: 1,
                    end: End::Return,
                };
                let value = add(&effect, transaction).await?;
                if runs.fetch_add(1, SeqCst) == 0 {
                    began.send(()).unwrap();
                    go.notified().await;
                }
                Ok(value)
            })
        })
    };
    open_session(&servers[0]);
    let still = execute(&servers[0], &method, 0);
    first.recv().unwrap();
    let Executed::New(outcome) = wait(&execute(&servers[1], &method, 0)).unwrap() else {
        panic!("it was recorded by one that stands still");
    };
    go.notify_one();
    let claimed = Claimed::Recorded(outcome.into_bytes());
    match wait(&still).unwrap() {
        Executed::Claimed(answer) => assert_eq!(answer, claimed),
        Executed::New(outcome) => panic!("{outcome:?}"),
    }
    assert_eq!(database.counter("k"), 1);
}

/// Kind of fault: what keeps a server alive waits behind its work. Instance: handlers held all connections for
/// longer than the lease, which could not be renewed meanwhile, and none of them could commit.
#[test]
fn handlers_that_hold_all_connections_for_longer_than_the_lease_run_once() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let options = options()
        .max_connections(2)
        .server_lease(Duration::from_millis(600));
    let store = options.open(&database.url()).unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let method = {
        let runs = Arc::clone(&runs);
        transaction_method(move |(): (), transaction: &mut Transaction, _: Context| {
            runs.fetch_add(1, SeqCst);
            Box::pin(async move {
                transaction.query("SELECT pg_sleep(1.5)", &[]).await?;
                Ok(())
            })
        })
    };
    open_session(&store);
    let answers = [0, 1].map(|number| execute(&store, &method, number));
    for answer in answers {
        let ran = wait(&answer).unwrap();
        assert!(matches!(ran, Executed::New(_)), "{ran:?}");
    }
    assert_eq!(runs.load(SeqCst), 2);
}

/// Kind of fault: the same. Instance: handlers that block all of the store's threads.
#[test]
fn handlers_that_block_every_thread_do_not_cost_the_lease() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let lease = Duration::from_secs(2);
    let store = options().server_lease(lease).worker_threads(1);
    let store = store.open(&database.url()).unwrap();
    let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(RwLock::new(())));
    let method = {
        let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
        transaction_method(move |(): (), _: &mut Transaction, _: Context| {
            runs.fetch_add(1, SeqCst);
            drop(gate.read().unwrap());
            Box::pin(async { Ok(()) })
        })
    };
    open_session(&store);
    let closed = gate.write().unwrap();
    let answers = [0, 1].map(|number| execute(&store, &method, number));
    while runs.load(SeqCst) == 0 {
        thread::yield_now();
    }
    // By the database's clock.
    database.sql.run("SELECT pg_sleep(3)");
    let held = "SELECT count(*) FROM redial.server WHERE expires > clock_timestamp()";
    let held = database.sql.number(held);
    drop(closed);
    assert_eq!(held, 1, "it has lost its lease");
    for answer in answers {
        let ran = wait(&answer).unwrap();
        assert!(matches!(ran, Executed::New(_)), "{ran:?}");
    }
}
