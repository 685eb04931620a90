//! The kind of fault: the disk fails under a commit, and a call is acknowledged that is lost, or is said
//! not to have been executed and was.
//!
//! The faults are the system's own: a test runs itself again in a process whose files may not grow, or on
//! a small disk.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use redial_server::{
    Abort,
    store::{OutcomeKind, Store},
};
use redial_store_sqlite::{SqliteStore, Transaction};

use crate::{
    rig::{Folder, options},
    workbench::{call, hand_in, open_session, wait},
};

const FOLDER: &str = "REDIAL_TEST_FOLDER";

/// The size of a small disk.
const DISK_BYTES: usize = 2 << 20;

/// Runs an ignored test of this binary, by way of a shell that prepares its process.
pub(crate) fn run_again(shell: &str, prepare: &str, test: &str, folder: &Folder) -> Output {
    let exec = format!("{prepare} && exec \"$0\" \"$@\"");
    let words: Vec<&str> = shell.split(' ').collect();
    Command::new(words[0])
        .args(&words[1..])
        .args(["-c", &exec])
        .arg(env::current_exe().unwrap())
        .args([test, "--exact", "--ignored"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap()
}

fn assert_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{erred}"
    );
}

pub(crate) fn folder() -> PathBuf {
    env::var_os(FOLDER)
        .expect("it is run by another test")
        .into()
}

fn insert(transaction: &Transaction<'_>, number: u64, bytes: usize) -> Result<usize, Abort> {
    let add = "INSERT INTO counter VALUES (?1 || hex(zeroblob(?2)), 1)";
    let mut add = transaction.prepare_cached(add)?;
    Ok(add.execute((format!("{number} "), (bytes / 2) as i64))?)
}

/// Inserts a row; says whether it was done for certain, or not done for certain.
fn is_done(store: &SqliteStore, number: u64, bytes: usize) -> bool {
    let answer = hand_in(store, call(number, 0), move |transaction| {
        insert(transaction, number, bytes)
    });
    store.flush();
    match wait(&answer) {
        Ok(outcome) => {
            assert_eq!(outcome.kind(), OutcomeKind::Result, "{outcome:?}");
            true
        }
        Err(error) => {
            assert!(!error.is_uncertain, "it can be found out: {error}");
            assert!(error.message.contains("it.db"), "{error}");
            false
        }
    }
}

fn rows(store: &SqliteStore) -> BTreeSet<u64> {
    let read = store.read(|connection| {
        let mut rows = connection.prepare("SELECT key FROM counter")?;
        let rows = rows.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<Result<Vec<_>, _>>()
    });
    let number = |key: String| key.split(' ').next().unwrap().parse().unwrap();
    read.unwrap().into_iter().map(number).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_commit_that_can_not_be_written_is_found_not_to_be_there() {
    let folder = Folder::new();
    // In units of 512 bytes.
    let prepare = "trap '' XFSZ && ulimit -f 600";
    let output = run_again("sh", prepare, "disk::under_a_limit_of_the_files", &folder);
    assert_passed(&output);
}

#[test]
#[ignore = "run by another test"]
fn under_a_limit_of_the_files() {
    let file = folder().join("it.db");
    let store = options().open(&file).unwrap();
    open_session(&store);
    let mut done = BTreeSet::new();
    let mut failures = 0;
    for number in 0..600 {
        if is_done(&store, number, 100) {
            done.insert(number);
        } else {
            failures += 1;
        }
        assert_eq!(rows(&store), done);
    }
    assert!(failures > 0, "the log never grew to the limit");
    assert!(done.len() > 500, "{} of 600", done.len());
    // What was not done can be done under the same id.
    for number in 0..600 {
        while !done.contains(&number) && !is_done(&store, number, 100) {}
    }
    assert_eq!(store.problem(), None);
    drop(store);
    let store = options().open(&file).unwrap();
    assert_eq!(rows(&store), (0..600).collect());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing_and_its_end_is_noticed() {
    run_on_a_small_disk("disk::on_a_small_disk");
}

/// Of a store that was closed cleanly the `-wal` and the `-shm` are gone: to make them takes room before
/// anything is read.
#[cfg(target_os = "linux")]
#[test]
fn a_start_on_a_full_disk_says_so_and_loses_nothing() {
    run_on_a_small_disk("disk::from_a_clean_close");
}

/// Runs an ignored test of this binary whose folder is a disk of [`DISK_BYTES`].
#[cfg(target_os = "linux")]
fn run_on_a_small_disk(test: &str) {
    let folder = Folder::new();
    let mount = format!(
        "mount -t tmpfs -o size={DISK_BYTES} tmpfs '{}'",
        folder.path().display()
    );
    // Where a test may not have a disk of its own.
    let may_mount = Command::new("unshare")
        .args(["-rm", "sh", "-c", &mount])
        .output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        assert!(
            env::var_os("REDIAL_REQUIRE_SERVICES").is_none(),
            "no `unshare -rm`"
        );
        println!("skipped: no `unshare -rm`");
        return;
    }
    let output = run_again("unshare -rm sh", &mount, test, &folder);
    assert_passed(&output);
}

/// Fills the disk to the last byte.
fn fill(ballast: &Path) {
    let mut bytes = DISK_BYTES;
    while bytes > 0 {
        let mut content = fs::read(ballast).unwrap_or_default();
        content.resize(content.len() + bytes, 0);
        if fs::write(ballast, content).is_err() {
            let kept = fs::metadata(ballast).map_or(0, |metadata| metadata.len());
            fs::write(ballast, vec![0; kept as usize]).unwrap();
        }
        bytes /= 2;
    }
}

#[test]
#[ignore = "run by another test"]
fn on_a_small_disk() {
    let folder = folder();
    let file = folder.join("it.db");
    let store = options().open(&file).unwrap();
    open_session(&store);
    assert!(is_done(&store, 0, 10));
    let ballast = folder.join("ballast");
    fill(&ballast);
    assert!(!is_done(&store, 1, 200_000));
    let problem = store.problem().expect("the disk is full");
    assert!(problem.message.contains("full"), "{problem}");
    // Queries go on.
    assert_eq!(rows(&store), BTreeSet::from([0]));
    // A server that starts on the full disk answers queries, and takes calls when there is room.
    drop(store);
    let store = options().open(&file).unwrap();
    assert!(!is_done(&store, 1, 200_000));
    assert_eq!(rows(&store), BTreeSet::from([0]));
    fs::remove_file(&ballast).unwrap();
    assert!(is_done(&store, 1, 200_000));
    assert_eq!(store.problem(), None);
    assert!(is_done(&store, 2, 10));
    drop(store);
    let store = options().open(&file).unwrap();
    assert_eq!(rows(&store), BTreeSet::from([0, 1, 2]));
}

#[test]
#[ignore = "run by another test"]
fn from_a_clean_close() {
    let folder = folder();
    let file = folder.join("it.db");
    let ballast = folder.join("ballast");
    let store = options().open(&file).unwrap();
    open_session(&store);
    assert!(is_done(&store, 0, 10));
    store.close();
    drop(store);
    let mut done = BTreeSet::from([0]);
    let (mut refused, mut opened) = (0, 0);
    // From none to what the index of the log takes, and more: it fails at each step of opening in turn.
    for room in 0..12_u64 {
        for beside in ["it.db-wal", "it.db-shm"] {
            assert!(!folder.join(beside).exists(), "{beside}");
        }
        fill(&ballast);
        let len = fs::metadata(&ballast).unwrap().len();
        let ballast_file = fs::File::options().write(true).open(&ballast).unwrap();
        ballast_file.set_len(len - room * 4096).unwrap();
        drop(ballast_file);
        let store = match options().open(&file) {
            Err(error) => {
                refused += 1;
                let said = error.to_string();
                assert!(said.contains("it.db"), "{room}: {said}");
                assert!(said.contains("make room"), "{room}: {said}");
                assert!(!said.contains("lock"), "{room}: {said}");
                fs::remove_file(&ballast).unwrap();
                options().open(&file).unwrap()
            }
            Ok(store) => {
                opened += 1;
                assert_eq!(rows(&store), done);
                assert!(!is_done(&store, room + 1, 200_000));
                // With room for a small commit it goes on at once.
                if let Some(problem) = store.problem() {
                    assert!(problem.message.contains("make room"), "{problem}");
                }
                assert_eq!(rows(&store), done);
                fs::remove_file(&ballast).unwrap();
                store
            }
        };
        assert_eq!(rows(&store), done);
        assert!(is_done(&store, room + 1, 10));
        done.insert(room + 1);
        assert_eq!(store.problem(), None);
        store.close();
    }
    assert!(refused > 0 && opened > 0, "{refused}, {opened}");
}
