//! The kind of fault: of the calls that wait while a batch runs, the next batch loses one, or answers one
//! before all are durable.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use redial_server::{
    Abort,
    store::{OutcomeKind, Store},
};
use redial_store_sqlite::Transaction;

use crate::{
    rig::options,
    workbench::{Answer, Workbench, wait},
};

/// A call that runs until it may go on.
struct Held {
    answer: Answer,
    started: Receiver<()>,
    go_on: Sender<()>,
}

impl Held {
    fn has_started(&self) {
        self.started.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

fn add(transaction: &Transaction<'_>) -> Result<i64, Abort> {
    let sql = "INSERT INTO counter VALUES ('it', 1)
        ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value";
    let mut add = transaction.prepare_cached(sql)?;
    Ok(add.query_row([], |row| row.get(0))?)
}

fn hold(bench: &mut Workbench) -> Held {
    let (has_started, started) = channel();
    let (go_on, may_go_on) = channel();
    let may_go_on = Mutex::new(may_go_on);
    let answer = bench.hand_in(move |transaction| {
        has_started.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        add(transaction)
    });
    bench.store.flush();
    Held {
        answer,
        started,
        go_on,
    }
}

#[test]
fn what_waits_while_a_batch_runs_is_one_batch_and_one_that_fails_is_undone_alone() {
    let mut bench = Workbench::new(options());
    let held = hold(&mut bench);
    held.has_started();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let first = bench.hand_in(move |transaction| {
        counted.fetch_add(1, SeqCst);
        add(transaction)
    });
    let failing = bench.hand_in(|transaction| {
        add(transaction)?;
        Err::<(), _>(Abort::failed("no"))
    });
    let last = bench.hand_in(add);
    bench.store.flush();
    held.go_on.send(()).unwrap();
    for answer in [&held.answer, &first, &last] {
        assert_eq!(wait(answer).unwrap().kind(), OutcomeKind::Result);
    }
    assert_eq!(wait(&failing).unwrap().kind(), OutcomeKind::Failed);
    assert_eq!(runs.load(SeqCst), 2, "they were one batch");
    assert_eq!(bench.number("SELECT value FROM counter"), 3);
}

#[test]
fn a_store_that_is_closed_waits_for_no_flush() {
    let mut bench = Workbench::new(options());
    let held = hold(&mut bench);
    held.has_started();
    let answers: Vec<_> = (0..20).map(|_| bench.hand_in(add)).collect();
    held.go_on.send(()).unwrap();
    bench.store.close();
    for answer in answers.iter().chain([&held.answer]) {
        assert_eq!(wait(answer).unwrap().kind(), OutcomeKind::Result);
    }
}
