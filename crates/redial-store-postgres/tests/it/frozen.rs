//! Kind of fault: a server stands still in the middle of a transaction (SIGSTOP, a suspended machine), and
//! what it has locked stays locked for as long as that takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use redial_server::{
    Context,
    store::{Claimed, Executed, Store},
};
use redial_store_postgres::{Transaction, transaction_method};
use redial_store_tests::{
    Effect, End,
    client::{call, key, session, wait},
};
use tokio::sync::Notify;

use crate::rig::{Database, Isolation, add, options};

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
    let (done, opened) = mpsc::channel();
    servers[0].open_session(session(1), None, Box::new(move |it| done.send(it).unwrap()));
    opened.recv().unwrap().unwrap();
    let execute = |server: usize| {
        let (sender, answer) = mpsc::channel();
        let prepared = method.prepare(Some("null"), Context::default()).unwrap();
        let done = Box::new(move |result| drop(sender.send(result)));
        servers[server].execute(call(key(1, 0), 7), prepared, done);
        answer
    };
    let still = execute(0);
    first.recv().unwrap();
    let Executed::New(outcome) = wait(&execute(1)).unwrap() else {
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
