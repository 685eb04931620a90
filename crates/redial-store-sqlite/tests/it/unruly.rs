//! The kind of fault: one call of a batch breaks the transaction as a whole, and the others lose their
//! effects, or keep what should be undone.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use redial_server::{
    Abort,
    store::{OutcomeKind, Store},
};
use redial_store_sqlite::{SqliteStore, Transaction};

use crate::{
    rig::options,
    workbench::{Workbench, text, wait},
};

fn add(transaction: &Transaction<'_>, key: &str) -> Result<i64, Abort> {
    let sql = "INSERT INTO counter VALUES (?1, 1)
        ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value";
    Ok(transaction
        .prepare_cached(sql)?
        .query_row([key], |row| row.get(0))?)
}

/// Runs a batch of five whose middle one is unruly. Returns its text and how it ended.
fn among_others<T: serde::Serialize + 'static>(
    bench: &mut Workbench,
    unruly: impl Fn(&Transaction<'_>) -> Result<T, Abort> + Send + Sync + Clone + 'static,
) -> (String, OutcomeKind) {
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(bench.hand_in(|transaction| add(transaction, "others")));
    }
    let answer = bench.hand_in(unruly);
    for _ in 0..2 {
        answers.push(bench.hand_in(|transaction| add(transaction, "others")));
    }
    bench.store.flush();
    for answer in answers {
        assert_eq!(wait(&answer).unwrap().kind(), OutcomeKind::Result);
    }
    let outcome = wait(&answer).unwrap();
    (text(&outcome).to_owned(), outcome.kind())
}

#[test]
fn a_handler_that_rolls_back_undoes_itself_alone() {
    let mut bench = Workbench::new(options());
    // What it does after that would be a transaction of its own.
    let (said, kind) = among_others(&mut bench, |transaction| {
        add(transaction, "mine")?;
        let rolled_back =
            transaction.execute("INSERT OR ROLLBACK INTO counter VALUES ('mine', 0)", []);
        assert!(rolled_back.is_err());
        drop(add(transaction, "mine"));
        Ok(())
    });
    assert_eq!(kind, OutcomeKind::Failed);
    assert!(said.contains("rolled its transaction back"), "{said}");
    let (said, kind) = among_others(&mut bench, |transaction| {
        add(transaction, "mine")?;
        transaction.execute("INSERT OR ROLLBACK INTO counter VALUES ('mine', 0)", [])?;
        Ok(())
    });
    assert_eq!(kind, OutcomeKind::Failed);
    assert!(said.contains("UNIQUE constraint failed"), "{said}");
    assert_eq!(
        bench.number("SELECT count(*) FROM counter WHERE key = 'mine'"),
        0
    );
    assert_eq!(
        bench.number("SELECT value FROM counter WHERE key = 'others'"),
        8
    );
    assert_eq!(bench.number("SELECT count(*) FROM redial_calls"), 10);
}

#[test]
fn a_constraint_that_breaks_at_the_commit_fails_its_call_alone() {
    let mut bench = Workbench::new(SqliteStore::options().migrate(|connection| {
        connection.execute_batch(
            "CREATE TABLE counter (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
             CREATE TABLE part (of TEXT REFERENCES counter (key) DEFERRABLE INITIALLY DEFERRED)",
        )?;
        Ok(())
    }));
    let part = |of: &'static str| {
        move |transaction: &Transaction<'_>| {
            Ok(transaction.execute("INSERT INTO part VALUES (?1)", [of])?)
        }
    };
    let (said, kind) = among_others(&mut bench, part("nothing"));
    assert_eq!(kind, OutcomeKind::Failed);
    assert!(said.contains("FOREIGN KEY constraint failed"), "{said}");
    let (_, kind) = among_others(&mut bench, part("others"));
    assert_eq!(kind, OutcomeKind::Result);
    assert_eq!(bench.number("SELECT count(*) FROM part"), 1);
    assert_eq!(bench.number("SELECT value FROM counter"), 8);
}

/// Else it would be recorded nowhere, and its caller would try again until the deadline.
#[test]
fn a_handler_whose_words_are_like_sqlites_has_failed_for_good() {
    let mut bench = Workbench::new(options());
    let (said, kind) = among_others(&mut bench, |transaction| {
        add(transaction, "mine")?;
        Err::<(), _>(Abort::failed("there is no item \"out of memory\""))
    });
    assert_eq!(kind, OutcomeKind::Failed);
    assert!(said.contains("there is no item"), "{said}");
    assert_eq!(bench.number("SELECT count(*) FROM redial_calls"), 5);
    assert_eq!(
        bench.number("SELECT count(*) FROM counter WHERE key = 'mine'"),
        0
    );
}

#[test]
fn a_failure_without_writes_undoes_nothing_and_runs_nothing_again() {
    let mut bench = Workbench::new(options());
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let first = bench.hand_in(move |transaction| {
        counted.fetch_add(1, SeqCst);
        add(transaction, "k")
    });
    let failed = bench.hand_in(|transaction| {
        let rows: i64 =
            transaction.query_row("SELECT count(*) FROM counter", [], |row| row.get(0))?;
        Err::<(), _>(Abort::failed(format!("{rows} rows")))
    });
    bench.store.flush();
    assert_eq!(text(&wait(&first).unwrap()), r#""result":1"#);
    // It saw what the call before it had written.
    assert!(text(&wait(&failed).unwrap()).contains("1 rows"));
    assert_eq!(runs.load(SeqCst), 1);
}

/// A method that fails after it has written costs its batch a second run, but only at first.
#[test]
fn a_method_that_often_fails_gets_savepoints_at_once() {
    let mut bench = Workbench::new(options());
    let runs = Arc::new(AtomicU32::new(0));
    let method = {
        let runs = Arc::clone(&runs);
        redial_store_sqlite::transaction_method(
            move |(): (), transaction: &mut Transaction<'_>, _| {
                runs.fetch_add(1, SeqCst);
                add(transaction, "k")?;
                Err::<(), _>(Abort::failed("always"))
            },
        )
    };
    let mut number = 1000;
    let mut batch = |bench: &mut Workbench| {
        let other = bench.hand_in(|transaction| add(transaction, "others"));
        let prepared = method
            .prepare(None, redial_server::Context::default())
            .unwrap();
        let (sender, answer) = std::sync::mpsc::channel();
        number += 1;
        let call = crate::workbench::call(number, 0);
        redial_server::store::Store::execute(
            &bench.store,
            call,
            prepared,
            Box::new(move |result| sender.send(result).unwrap()),
        );
        bench.store.flush();
        wait(&other).unwrap();
        assert_eq!(wait(&answer).unwrap().kind(), OutcomeKind::Failed);
    };
    batch(&mut bench);
    assert_eq!(runs.swap(0, SeqCst), 2);
    for _ in 0..10 {
        batch(&mut bench);
    }
    assert_eq!(runs.load(SeqCst), 10);
    assert_eq!(bench.number("SELECT count(*) FROM counter"), 1);
}
