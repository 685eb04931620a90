//! Kind of fault: the end of a store waits for ever, or calls wait for it to end.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use redial_server::{
    Context,
    store::{Acknowledged, Executed, Store, TransactionMethod},
};
use redial_store_postgres::{Transaction, batched_method, transaction_method};
use redial_store_tests::client::{Answer, call, key, session, wait};

use crate::rig::{Database, Isolation, options};

/// The one connection is held by a handler that never ends: what was acknowledged can't be saved.
#[test]
fn a_store_closes_though_a_handler_never_ends_and_answers_what_waits() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = options().max_connections(2).open(&database.url()).unwrap();
    let (done, opened) = mpsc::channel();
    store.open_session(session(1), None, Box::new(move |it| done.send(it).unwrap()));
    wait(&opened).unwrap();
    let execute = |method: &Arc<dyn TransactionMethod>, number| {
        let (sender, answer): (_, Answer<Executed>) = mpsc::channel();
        let prepared = method.prepare(Some("null"), Context::default()).unwrap();
        let done = Box::new(move |it| drop(sender.send(it)));
        store.execute(call(key(1, number), 7), prepared, done);
        answer
    };
    let (sender, began) = mpsc::channel();
    let endless = transaction_method::<(), (), _>(move |(), _, _| {
        sender.send(()).unwrap();
        Box::pin(std::future::pending())
    });
    let held = execute(&endless, 0);
    began.recv().unwrap();
    let acknowledged = Acknowledged {
        below: 2000,
        open: (0..=20).collect(),
    };
    store.acknowledge(session(1), acknowledged);
    let batched =
        batched_method(|(): (), _: &mut Transaction, _: Context| Box::pin(async { Ok(()) }));
    let waiting: Vec<_> = (1..=20).map(|number| execute(&batched, number)).collect();
    let (sender, closed) = mpsc::channel();
    let closing = store.clone();
    std::thread::spawn(move || {
        closing.close();
        sender.send(()).unwrap();
    });
    closed
        .recv_timeout(Duration::from_secs(40))
        .expect("it closes");
    for answer in waiting.iter().chain([&held]) {
        let answer = answer.recv_timeout(Duration::from_secs(10));
        let error = answer.expect("each call is answered").unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    }
}
