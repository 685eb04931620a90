//! The kind of fault: what is read, or copied, is not what was durable at one moment.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use redial_server::store::{Recovered, Store};
use redial_store_sqlite::{SqliteStore, Transaction};

use crate::{
    disk,
    rig::options,
    workbench::{Workbench, call, hand_in},
};

#[test]
fn a_copy_made_while_calls_run_is_a_store_of_one_moment() {
    let mut bench = Workbench::new(options());
    let copy = bench.folder.file("copy.db");
    let mut answers = Vec::new();
    for round in 0..40 {
        for _ in 0..10 {
            answers.push(bench.hand_in(|transaction| {
                Ok(
                    transaction
                        .execute("INSERT INTO counter VALUES (hex(randomblob(8)), 1)", [])?,
                )
            }));
        }
        bench.store.flush();
        if round == 20 {
            bench.store.backup_to(&copy).unwrap();
        }
    }
    answers
        .iter()
        .for_each(|answer| drop(answer.recv().unwrap()));
    let restored = SqliteStore::open(&copy).unwrap();
    assert_eq!(restored.table(), bench.store.table());
    let mut records = 0;
    restored
        .recover(&mut |one| records += u32::from(matches!(one, Recovered::Record { .. })))
        .unwrap();
    let rows: u32 = restored
        .read(|connection| {
            connection.query_row("SELECT count(*) FROM counter", [], |row| row.get(0))
        })
        .unwrap();
    // Each call with its effect.
    assert_eq!(rows, records);
    assert!(records <= 400);
    // A copy never replaces a file.
    assert!(bench.store.backup_to(&copy).is_err());
    assert!(
        bench
            .store
            .backup_to(bench.folder.file("none/copy.db"))
            .is_err()
    );
}

/// It may be an empty file, which would be opened as a new store.
#[cfg(target_os = "linux")]
#[test]
fn a_copy_that_a_crash_has_cut_off_has_not_the_name_of_a_whole_one() {
    let mut bench = Workbench::new(options());
    let insert = |transaction: &Transaction<'_>| {
        let add = "INSERT INTO counter VALUES (hex(randomblob(1000000)), 1)";
        Ok(transaction.execute(add, [])?)
    };
    bench.run(insert).unwrap();
    let Workbench { store, folder, .. } = bench;
    drop(store);
    // The system kills what writes more, in units of 512 bytes.
    let prepare = "ulimit -c 0 && ulimit -f 1000";
    let output = disk::run_again("sh", prepare, "backups::a_copy_under_a_limit", &folder);
    assert!(!output.status.success(), "{output:?}");
    assert!(!folder.file("copy.db").exists());
    // The next one says what is in its way.
    let store = options().open(folder.file("it.db")).unwrap();
    let refused = store.backup_to(folder.file("copy.db")).unwrap_err();
    assert!(refused.to_string().contains("copy.db.part"), "{refused}");
    fs::remove_file(folder.file("copy.db.part")).unwrap();
    drop(fs::remove_file(folder.file("copy.db.part-journal")));
    store.backup_to(folder.file("copy.db")).unwrap();
    assert!(!folder.file("copy.db.part").exists());
    let refused = store.backup_to(folder.file("copy.db")).unwrap_err();
    assert!(refused.to_string().contains("exists"), "{refused}");
}

#[test]
#[ignore = "run by another test"]
fn a_copy_under_a_limit() {
    let store = options().open(disk::folder().join("it.db")).unwrap();
    drop(store.backup_to(disk::folder().join("copy.db")));
}

#[test]
fn a_read_sees_one_moment_and_changes_nothing() {
    let bench = Workbench::new(options());
    bench
        .store
        .read(|connection| {
            let count = |_: ()| {
                connection.query_row("SELECT count(*) FROM counter", [], |row| {
                    row.get::<_, i64>(0)
                })
            };
            assert_eq!(count(())?, 0);
            let add = hand_in(&bench.store, call(0, 0), |transaction| {
                Ok(transaction.execute("INSERT INTO counter VALUES ('k', 1)", [])?)
            });
            bench.store.flush();
            add.recv().unwrap().unwrap();
            assert_eq!(count(())?, 0);
            assert!(connection.execute("DELETE FROM counter", []).is_err());
            Ok::<_, redial_store_sqlite::rusqlite::Error>(())
        })
        .unwrap();
    assert_eq!(bench.number("SELECT count(*) FROM counter"), 1);
}

#[test]
fn a_read_that_panics_or_ends_its_transaction_spoils_no_other() {
    let bench = Workbench::new(options());
    let read = || {
        bench.store.read(|connection| {
            connection.execute_batch("ROLLBACK")?;
            Ok::<_, redial_store_sqlite::rusqlite::Error>(())
        })
    };
    for _ in 0..10 {
        read().unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            bench
                .store
                .read(|_| -> Result<(), redial_store_sqlite::rusqlite::Error> {
                    panic!("on purpose")
                })
        }));
        assert!(panicked.is_err());
        assert_eq!(bench.number("SELECT count(*) FROM counter"), 0);
    }
    bench.store.close();
    assert!(
        bench
            .store
            .read(|connection| connection.execute_batch("SELECT 1"))
            .is_err()
    );
}

#[test]
fn people_can_look_into_the_file() {
    use redial_protocol::CallKey;
    let bench = Workbench::new(options());
    let keys = [
        call(7, 0).key.unwrap(),
        CallKey::of_string("6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49"),
        CallKey::of_string("some text"),
    ];
    for key in keys {
        let call = redial_server::store::StoreCall {
            key: Some(key),
            ..call(0, 0)
        };
        let answer = hand_in(&bench.store, call, |_| Ok("done"));
        bench.store.flush();
        answer.recv().unwrap().unwrap();
    }
    let lines = bench.store.read(|connection| {
        let mut rows =
            connection.prepare("SELECT id, session, number, state, outcome FROM redial_calls")?;
        let rows = rows.query_map([], |row| {
            let id: String = row.get(0)?;
            let session: Option<String> = row.get(1)?;
            let number: Option<i64> = row.get(2)?;
            let (state, outcome): (String, String) = (row.get(3)?, row.get(4)?);
            Ok(format!("{id} {session:?} {number:?} {state} {outcome}"))
        })?;
        rows.collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(
        lines.unwrap(),
        [
            "00000000-0000-8007-8000-000000000007 Some(\"000000000000007\") Some(7) finished \"result\":\"done\"",
            "6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49 None None finished \"result\":\"done\"",
            "some text None None finished \"result\":\"done\"",
        ]
    );
}
