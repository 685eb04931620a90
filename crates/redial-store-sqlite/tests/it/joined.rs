//! The kind of fault: a batch that calls join while it runs loses one of them, ends without its flush,
//! or answers one before all are durable.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use redial_server::{
    Abort,
    store::{Ending, Store},
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
    runs: Arc<AtomicU32>,
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
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let answer = bench.hand_in(move |transaction| {
        if counted.fetch_add(1, SeqCst) == 0 {
            has_started.send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
        }
        add(transaction)
    });
    Held {
        answer,
        started,
        go_on,
        runs,
    }
}

#[test]
fn what_is_handed_in_while_a_batch_runs_joins_it() {
    let mut bench = Workbench::new(options());
    let held = hold(&mut bench);
    bench.store.flush();
    held.has_started();
    // Not durable before all of its batch: a read sees none of it.
    let (reader, saw) = (bench.store.clone(), Arc::new(AtomicBool::new(false)));
    let sees = Arc::clone(&saw);
    let joined = bench.hand_in(move |transaction| {
        let sql = "SELECT count(*) FROM counter";
        let count: i64 = reader.read(|it| it.query_row(sql, [], |row| row.get(0)))?;
        sees.fetch_or(count > 0, SeqCst);
        add(transaction)
    });
    bench.store.flush();
    held.go_on.send(()).unwrap();
    for answer in [&held.answer, &joined] {
        assert_eq!(wait(answer).unwrap().ending(), Ending::Result);
    }
    assert!(!saw.load(SeqCst), "the first call had a commit of its own");
    assert_eq!(bench.number("SELECT value FROM counter"), 2);
}

#[test]
fn one_that_joins_and_fails_is_undone_alone() {
    let mut bench = Workbench::new(options());
    let held = hold(&mut bench);
    bench.store.flush();
    held.has_started();
    let failing = bench.hand_in(|transaction| {
        add(transaction)?;
        Err::<(), _>(Abort::failed("no"))
    });
    let last = bench.hand_in(add);
    bench.store.flush();
    held.go_on.send(()).unwrap();
    for answer in [&held.answer, &last] {
        assert_eq!(wait(answer).unwrap().ending(), Ending::Result);
    }
    assert_eq!(wait(&failing).unwrap().ending(), Ending::Failed);
    assert_eq!(held.runs.load(SeqCst), 2, "they were one batch");
    assert_eq!(bench.number("SELECT value FROM counter"), 2);
}

#[test]
fn many_calls_start_before_their_flush_and_are_answered_after_it() {
    let mut bench = Workbench::new(options());
    let held = hold(&mut bench);
    let answers: Vec<_> = (0..20).map(|_| bench.hand_in(add)).collect();
    // Nothing was flushed.
    held.has_started();
    held.go_on.send(()).unwrap();
    assert!(held.answer.try_recv().is_err());
    bench.store.flush();
    for answer in answers.iter().chain([&held.answer]) {
        assert_eq!(wait(answer).unwrap().ending(), Ending::Result);
    }
    assert_eq!(bench.number("SELECT value FROM counter"), 21);
}

#[test]
fn a_store_that_is_closed_waits_for_no_flush() {
    let mut bench = Workbench::new(options());
    let held = hold(&mut bench);
    let answers: Vec<_> = (0..20).map(|_| bench.hand_in(add)).collect();
    held.has_started();
    held.go_on.send(()).unwrap();
    bench.store.close();
    for answer in answers.iter().chain([&held.answer]) {
        assert_eq!(wait(answer).unwrap().ending(), Ending::Result);
    }
}
