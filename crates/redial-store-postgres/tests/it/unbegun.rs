//! Kind of fault: what was to be in a transaction is outside of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
    mpsc,
};

use redial_server::store::{Claimed, Executed, Store, TransactionMethod};
use redial_store_tests::{
    Effect, End,
    client::{call, key, session, wait},
};

use crate::{
    between,
    rig::{Database, Isolation, batched, method, options, prepare},
};

/// What a cancelled `BEGIN` comes to: by a `statement_timeout` on a machine that stood still, say.
const CANCELLED: &str = "DO $$ BEGIN RAISE query_canceled; END $$";

/// A call runs once, though the first `BEGIN` for it is cancelled.
fn check(method: &Arc<dyn TransactionMethod>, end: End) {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let is_armed = Arc::new(AtomicBool::new(false));
    let change = {
        let is_armed = Arc::clone(&is_armed);
        move |sql: &str| {
            let is_cancelled = sql.starts_with("BEGIN") && is_armed.swap(false, SeqCst);
            is_cancelled.then(|| CANCELLED.to_owned())
        }
    };
    let Some(url) = between::start(&database, Arc::new(change)) else {
        return;
    };
    let store = options().open(&url).unwrap();
    let (sender, opened) = mpsc::channel();
    let done = Box::new(move |it| sender.send(it).unwrap());
    store.open_session(session(1), None, done);
    wait(&opened).unwrap();
    is_armed.store(true, SeqCst);
    let (sender, answer) = mpsc::channel();
    let prepared = prepare(method, Effect::add("k", 1).then(end));
    let done = Box::new(move |it| sender.send(it).unwrap());
    store.execute(call(key(1, 0), 7), prepared, done);
    let answer = wait(&answer);
    assert!(!is_armed.load(SeqCst), "nothing was cancelled");
    let effects = i64::from(end == End::Return);
    assert_eq!(database.counter("k"), effects, "{answer:?}");
    let Ok(Executed::New(outcome)) = &answer else {
        panic!("{answer:?}");
    };
    // That is on record.
    let (sender, again) = mpsc::channel();
    let prepared = prepare(method, Effect::add("k", 1));
    let done = Box::new(move |it| sender.send(it).unwrap());
    store.execute(call(key(1, 0), 7), prepared, done);
    match wait(&again) {
        Ok(Executed::Claimed(Claimed::Recorded(bytes))) => assert_eq!(bytes, outcome.bytes()),
        other => panic!("{other:?}"),
    }
}

/// Its handler has written what nothing undoes, and runs again.
#[test]
fn a_batch_whose_begin_was_cancelled_has_no_effect() {
    for end in [End::Return, End::Fail] {
        check(&batched(), end);
    }
}

/// Its claim is on record, and nothing runs it: it waited for itself.
#[test]
fn a_call_whose_begin_was_cancelled_runs() {
    for end in [End::Return, End::Fail] {
        check(&method(), end);
    }
}
