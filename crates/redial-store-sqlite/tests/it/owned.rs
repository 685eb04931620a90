//! The kind of fault: calls are acknowledged into a file that is no longer the store's own, and are lost or
//! executed twice.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use redial_server::store::{Claimed, Executed, Store, StoreError};
use redial_store_sqlite::{OpenError, SqliteStore, Transaction};

use crate::{
    rig::{Folder, options},
    workbench::{Workbench, call, hand_in, open_session},
};

/// A row for each run of a handler.
fn insert(transaction: &Transaction<'_>) -> Result<usize, redial_server::Abort> {
    Ok(transaction.execute("INSERT INTO counter VALUES (hex(randomblob(8)), 1)", [])?)
}

fn run(store: &SqliteStore, number: u64) -> Result<Executed, StoreError> {
    let answer = hand_in(store, call(number, number), insert);
    store.flush();
    answer.recv_timeout(Duration::from_secs(60)).unwrap()
}

fn rows(path: &Path) -> i64 {
    let store = options().open(path).unwrap();
    let count = store.read(|connection| {
        connection.query_row("SELECT count(*) FROM counter", [], |row| row.get(0))
    });
    count.unwrap()
}

/// Runs calls until one comes out as expected. Returns it, and how many were acknowledged before.
fn run_until<T>(
    store: &SqliteStore,
    numbers: std::ops::RangeFrom<u64>,
    mut expected: impl FnMut(&Result<Executed, StoreError>) -> Option<T>,
) -> (T, i64) {
    let mut acknowledged = 0;
    for number in numbers.take(100_000) {
        let answer = run(store, number);
        if let Some(found) = expected(&answer) {
            return (found, acknowledged);
        }
        acknowledged += i64::from(answer.is_ok());
    }
    panic!("{acknowledged} calls went on as if nothing had happened");
}

fn refusal(answer: &Result<Executed, StoreError>) -> Option<StoreError> {
    answer.as_ref().err().cloned()
}

#[test]
fn a_store_whose_lock_file_was_removed_stops_when_another_has_opened_the_file() {
    let folder = Folder::new();
    let path = folder.file("it.db");
    let first = options().open(&path).unwrap();
    open_session(&first);
    run(&first, 0).unwrap();
    fs::remove_file(folder.file("it.db.lock")).unwrap();
    let second = options().open(&path).unwrap();
    run(&second, 1).unwrap();
    // The first doesn't know of this call, and would execute it again.
    let refused = run(&first, 1).unwrap_err();
    assert!(!refused.is_uncertain, "{refused}");
    assert!(
        refused.message.contains("another store has opened it"),
        "{refused}"
    );
    assert!(refused.message.contains("stop this server"), "{refused}");
    assert!(run(&first, 2).is_err());
    run(&second, 3).unwrap();
    drop(first);
    run(&second, 4).unwrap();
    drop(second);
    assert_eq!(rows(&path), 4);
}

#[cfg(unix)]
#[test]
fn two_names_of_one_file_are_one_store() {
    let folder = Folder::new();
    // The file that it points to is made only when the link is opened.
    let link = folder.file("link.db");
    std::os::unix::fs::symlink(folder.file("it.db"), &link).unwrap();
    let first = options().open(&link).unwrap();
    open_session(&first);
    run(&first, 0).unwrap();
    let Ok(second) = options().open(folder.file("it.db")) else {
        return;
    };
    run(&second, 1).unwrap();
    assert!(run(&first, 1).is_err());
}

#[cfg(unix)]
#[test]
fn a_file_with_two_hard_links_is_opened_by_neither() {
    let folder = Folder::new();
    let (path, other) = (folder.file("it.db"), folder.file("other.db"));
    let first = options().open(&path).unwrap();
    open_session(&first);
    run(&first, 0).unwrap();
    fs::hard_link(&path, &other).unwrap();
    for next in 1..4 {
        let refused = options().open(&other).unwrap_err().to_string();
        for words in ["other.db", "has 2 names (hard links)", "remove the other"] {
            assert!(refused.contains(words), "{refused}");
        }
        run(&first, next).unwrap();
    }
    // As a kill leaves it: what the log holds is found by one of the names.
    std::mem::forget(first);
    let files = ["", "-wal"].map(|end| format!("{}{end}", path.display()));
    let copy = folder.file("copy.db");
    fs::copy(&files[0], &copy).unwrap();
    fs::copy(&files[1], format!("{}-wal", copy.display())).unwrap();
    fs::hard_link(&copy, folder.file("copy-2.db")).unwrap();
    for name in ["copy.db", "copy-2.db"] {
        let refused = options().open(folder.file(name)).unwrap_err();
        assert!(
            matches!(refused, OpenError::SeveralNames { names: 2, .. }),
            "{refused}"
        );
    }
    fs::remove_file(folder.file("copy-2.db")).unwrap();
    assert_eq!(rows(&copy), 4);
}

/// Cuts the file of a store with more than one page in it, which has acknowledged calls.
#[cfg(unix)]
fn cut_to(len: impl Fn(u64) -> u64, is_found_at_start: bool) {
    let bench = Workbench::new(options());
    // Few calls and much of them, so that a checkpoint moves it into the file.
    for number in 0..45 {
        let answer = hand_in(&bench.store, call(number, number), move |transaction| {
            let insert = "INSERT INTO counter VALUES (?1 || hex(zeroblob(60000)), 1)";
            Ok(transaction.execute(insert, [number as i64])?)
        });
        bench.store.flush();
        answer
            .recv_timeout(Duration::from_secs(60))
            .unwrap()
            .unwrap();
    }
    let before = fs::metadata(bench.file()).unwrap().len();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(bench.file())
        .unwrap();
    file.set_len(len(before)).unwrap();
    // A handler may meet what is missing before it is looked for.
    let (refused, _) = run_until(&bench.store, 45.., |answer| {
        let refused = refusal(answer)?;
        assert!(!refused.is_uncertain, "{refused}");
        let is_found = refused.message.contains("while it was open");
        is_found.then_some(refused)
    });
    for words in ["it.db", "while it was open", "restore a backup"] {
        assert!(refused.message.contains(words), "{refused}");
    }
    let path = bench.file();
    let Workbench { store, folder, .. } = bench;
    drop(store);
    let reopened = options().open(&path);
    drop(folder);
    if is_found_at_start {
        assert!(
            matches!(reopened, Err(OpenError::Damaged { .. })),
            "opened all the same: {reopened:?}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_is_cut_short_in_place_takes_no_calls_and_does_not_begin_anew() {
    cut_to(|_| 0, true);
    cut_to(|_| 4096, true);
    // Redial's own tables are in the half that is left.
    cut_to(|len| len / 2 / 4096 * 4096, false);
}

/// Takes the file away from a store that has acknowledged three calls.
#[cfg(unix)]
fn without_file(take: impl FnOnce(&Path)) -> (Workbench, StoreError, i64) {
    let bench = Workbench::new(options());
    for number in 0..3 {
        run(&bench.store, number).unwrap();
    }
    take(&bench.file());
    let (refused, acknowledged) = run_until(&bench.store, 3.., refusal);
    assert!(!refused.is_uncertain, "{refused}");
    assert!(
        refused.message.contains("moved, removed or replaced"),
        "{refused}"
    );
    assert!(bench.store.problem().is_some());
    (bench, refused, acknowledged + 3)
}

#[cfg(unix)]
#[test]
fn a_file_that_was_removed_or_replaced_takes_no_calls() {
    without_file(|file| fs::remove_file(file).unwrap());
    // By a copy of the same store.
    without_file(|file| {
        let copy = file.with_extension("copy");
        fs::copy(file, &copy).unwrap();
        fs::rename(copy, file).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_file_that_was_moved_and_is_back_goes_on_with_every_call() {
    let names = |file: &Path| {
        ["", "-wal", "-shm"].map(|end| {
            let name = |stem: &str| PathBuf::from(format!("{}{stem}{end}", file.display()));
            (name(""), name(".moved"))
        })
    };
    let (bench, _, acknowledged) = without_file(|file| {
        for (from, to) in names(file) {
            fs::rename(from, to).unwrap();
        }
    });
    for (to, from) in names(&bench.file()) {
        if from.exists() {
            fs::rename(from, to).unwrap();
        }
    }
    let is_executed = |answer: &Result<Executed, StoreError>| answer.is_ok().then_some(());
    run_until(&bench.store, 1_000_000.., is_executed);
    assert_eq!(bench.store.problem(), None);
    assert_eq!(
        bench.number("SELECT count(*) FROM counter"),
        acknowledged + 1
    );
}

#[cfg(unix)]
#[test]
fn a_log_that_was_removed_takes_no_call_along() {
    for end in ["-wal", "-shm"] {
        let bench = Workbench::new(options());
        for number in 0..3 {
            run(&bench.store, number).unwrap();
        }
        let log = PathBuf::from(format!("{}{end}", bench.file().display()));
        fs::remove_file(&log).unwrap();
        let (_, acknowledged) = run_until(&bench.store, 3.., |_| log.exists().then_some(()));
        // As a kill would leave it.
        let copy = bench.folder.file("copy.db");
        fs::copy(bench.file(), &copy).unwrap();
        let new = PathBuf::from(format!("{}-wal", bench.file().display()));
        fs::copy(new, bench.folder.file("copy.db-wal")).unwrap();
        assert!(rows(&copy) >= 3 + acknowledged, "{end}");
        // A call from before is on record.
        let again = run(&bench.store, 2);
        assert!(
            matches!(again, Ok(Executed::Claimed(Claimed::Acknowledged))),
            "{again:?}"
        );
    }
}
