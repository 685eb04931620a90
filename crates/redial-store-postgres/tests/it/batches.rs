//! Kind of fault: calls that share a transaction see each other in the middle of what they do.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
};

use redial_server::{
    Context,
    store::{Claimed, Executed, Store, TransactionMethod},
};
use redial_store_postgres::{PostgresStore, Transaction, batched_method};
use redial_store_tests::client::{Answer, call, key, session, wait};

use crate::rig::{Database, Isolation, Sql, options};

/// A store with session 1, and a counter at 0.
fn store(database: &Database) -> PostgresStore {
    let store = options().open(&database.url()).unwrap();
    let (done, opened) = mpsc::channel();
    store.open_session(session(1), None, Box::new(move |it| done.send(it).unwrap()));
    opened.recv().unwrap().unwrap();
    database.sql.run("INSERT INTO counter VALUES ('k', 0)");
    store
}

/// Calls at once, so that many of them wait while the first one runs; their values.
fn run(
    store: &PostgresStore,
    method: &Arc<dyn TransactionMethod>,
    numbers: std::ops::Range<u64>,
) -> Vec<i64> {
    let answers = numbers.map(|number| {
        let (done, answer): (_, Answer<Executed>) = mpsc::channel();
        let prepared = method.prepare(Some("[]"), Context::default()).unwrap();
        let done = Box::new(move |it| done.send(it).unwrap());
        store.execute(call(key(1, number), 7), prepared, done);
        answer
    });
    let values = answers.collect::<Vec<_>>().into_iter().map(|answer| {
        let Executed::New(outcome) = wait(&answer).unwrap() else {
            panic!("no other call has the number");
        };
        let text = String::from_utf8(outcome.into_bytes()).unwrap();
        text.trim_start_matches("\"result\":").parse().unwrap()
    });
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values
}

/// What it has read would be what all the others have read that are sent with it.
#[test]
fn a_handler_that_reads_before_it_writes_has_the_transaction_for_itself() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = store(&database);
    let method = batched_method(|(): (), transaction: &mut Transaction, _: Context| {
        Box::pin(async move {
            // Locked, for calls in other transactions read it, too.
            let select = "SELECT value FROM counter WHERE key = 'k' FOR UPDATE";
            let value = transaction.query_one(select, &[]).await?.get::<_, i64>(0) + 1;
            let update = "UPDATE counter SET value = $1 WHERE key = 'k'";
            transaction.execute(update, &[&value]).await?;
            Ok(value)
        })
    });
    assert_eq!(run(&store, &method, 0..100), (1..=100).collect::<Vec<_>>());
    assert_eq!(
        run(&store, &method, 100..200),
        (101..=200).collect::<Vec<_>>()
    );
    assert_eq!(database.counter("k"), 200);
}

/// Calls of one statement are sent together, and have the values of some order.
#[test]
fn handlers_of_one_statement_run_side_by_side_and_each_counts_once() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = store(&database);
    let (running, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let method = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        batched_method(move |(): (), transaction: &mut Transaction, _: Context| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            Box::pin(async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                let add = "UPDATE counter SET value = value + 1 WHERE key = 'k' RETURNING value";
                let row = transaction.query_one(add, &[]).await;
                running.fetch_sub(1, SeqCst);
                Ok(row?.get::<_, i64>(0))
            })
        })
    };
    assert_eq!(run(&store, &method, 0..200), (1..=200).collect::<Vec<_>>());
    assert_eq!(database.counter("k"), 200);
    assert!(most.load(SeqCst) > 1, "they ran one after the other");
}

/// A row that is held for longer than a batch waits, as by a commit on a slow disk: each call by itself would be in the
/// way of the next batch, and so on for ever.
#[test]
fn a_batch_that_others_were_in_the_way_of_is_one_afterwards() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = store(&database);
    let method = batched_method(|(): (), transaction: &mut Transaction, _: Context| {
        Box::pin(async move {
            let add = "UPDATE counter SET value = value + 1 WHERE key = 'k' \
                       RETURNING pg_current_xact_id()::text::bigint";
            Ok(transaction.query_one(add, &[]).await?.get::<_, i64>(0))
        })
    });
    let (holder, watcher) = (Sql::connect(&database.url()), Sql::connect(&database.url()));
    holder.run("BEGIN; UPDATE counter SET value = value WHERE key = 'k'");
    // When the transactions that wait for the row began.
    let waits = "SELECT coalesce(max(extract(epoch FROM xact_start) * 1e6), 0)::bigint \
                 FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let mut transactions = std::thread::scope(|scope| {
        let transactions = scope.spawn(|| run(&store, &method, 0..120));
        let mut began = HashSet::from([0]);
        // Some have given up by then.
        while began.len() < 4 {
            began.insert(watcher.number(waits));
        }
        holder.run("COMMIT");
        transactions.join().unwrap()
    });
    transactions.dedup();
    assert!(
        transactions.len() < 20,
        "{} transactions",
        transactions.len()
    );
    assert_eq!(database.counter("k"), 120);
}

/// Kind: what is gone is taken for what says nothing. Instance: a session that ends while a batch waits for the slot of one
/// of its calls: a late copy of a call ran in it.
#[test]
fn a_call_whose_session_ends_while_it_is_claimed_does_not_run() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = store(&database);
    let method = batched_method(|(): (), transaction: &mut Transaction, _: Context| {
        Box::pin(async move {
            let add = "UPDATE counter SET value = value + 1 WHERE key = 'k' RETURNING value";
            Ok(transaction.query_one(add, &[]).await?.get::<_, i64>(0))
        })
    });
    let (holder, watcher) = (Sql::connect(&database.url()), Sql::connect(&database.url()));
    holder.run(
        "BEGIN; INSERT INTO redial.slot (session, slot, seq, fingerprint, state, owner) \
         SELECT id, 5, 5, '', 0, 0 FROM redial.session",
    );
    let (done, answer): (_, Answer<Executed>) = mpsc::channel();
    let prepared = method.prepare(Some("[]"), Context::default()).unwrap();
    let done = Box::new(move |it| done.send(it).unwrap());
    // Of a call whose slot may be in use it is claimed first.
    store.execute(call(key(1, 1024 + 5), 7), prepared, done);
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while watcher.number(waits) == 0 {}
    watcher.run("UPDATE redial.session SET dead_since = clock_timestamp()");
    holder.run("ROLLBACK");
    let answer = wait(&answer).unwrap();
    let is_unknown = matches!(answer, Executed::Claimed(Claimed::SessionUnknown));
    assert!(is_unknown, "{answer:?}");
    assert_eq!(database.counter("k"), 0);
}

/// Kind: what waits for a connection holds one. Instance: a batch with a call of a session whose client says goodbye, where a
/// store has one connection for all calls: nothing ran there any more.
#[test]
fn a_batch_waits_for_no_second_connection() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = options().max_connections(2).open(&database.url()).unwrap();
    for at in 1..=2 {
        let (done, opened) = mpsc::channel();
        store.open_session(
            session(at),
            None,
            Box::new(move |it| done.send(it).unwrap()),
        );
        wait(&opened).unwrap();
    }
    // Commits take their time.
    database.sql.run(
        "INSERT INTO counter VALUES ('k', 0); \
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON counter DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION slow();",
    );
    let method = batched_method(|(): (), transaction: &mut Transaction, _: Context| {
        Box::pin(async move {
            let add = "UPDATE counter SET value = value + 1 WHERE key = 'k' RETURNING value";
            Ok(transaction.query_one(add, &[]).await?.get::<_, i64>(0))
        })
    });
    let execute = |at, number| {
        let (done, answer): (_, Answer<Executed>) = mpsc::channel();
        let prepared = method.prepare(Some("[]"), Context::default()).unwrap();
        let done = Box::new(move |it| done.send(it).unwrap());
        store.execute(call(key(at, number), 7), prepared, done);
        answer
    };
    let first = execute(1, 0);
    let commits = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while database.sql.number(commits) == 0 {}
    let second = execute(2, 0);
    // Its batch has asked for the connection by then.
    let still = (0..50).map(|_| database.sql.number(commits)).min();
    store.forget_session(session(2));
    assert_eq!(still, Some(1), "the first commit was over");
    wait(&first).unwrap();
    let answer = wait(&second).unwrap();
    let is_unknown = matches!(answer, Executed::Claimed(Claimed::SessionUnknown));
    assert!(is_unknown, "{answer:?}");
}
