//! The kind of fault: a file that can't be used is used, harmed, or refused without a word of what to do.

use std::fs;

use redial_protocol::SessionId;
use redial_server::store::{Acknowledged, Recovered, Store};
use redial_store_sqlite::{
    OpenError, Owner, SqliteStore,
    rusqlite::{self, Connection},
};

use crate::{rig::Folder, workbench::Workbench};

#[test]
fn a_second_store_is_told_who_has_the_file() {
    let bench = Workbench::new(SqliteStore::options());
    let refused = SqliteStore::open(bench.file()).unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::InUse {
                owner: Owner::ThisProcess,
                ..
            }
        ),
        "{refused}"
    );
    // By any of its names.
    let other = bench
        .folder()
        .join("..")
        .join(bench.folder().file_name().unwrap())
        .join("it.db");
    assert!(matches!(
        SqliteStore::open(other).unwrap_err(),
        OpenError::InUse { .. }
    ));
    #[cfg(unix)]
    {
        let link = bench.folder.file("link.db");
        std::os::unix::fs::symlink(bench.file(), &link).unwrap();
        assert!(matches!(
            SqliteStore::open(link).unwrap_err(),
            OpenError::InUse { .. }
        ));
    }
    let Workbench { store, folder, .. } = bench;
    drop(store);
    SqliteStore::open(folder.file("it.db")).unwrap();
}

/// Kind: what is one caller's can be read by others. Instance: the file, its log and a copy of it, made with
/// what permissions the shell leaves.
#[cfg(unix)]
#[test]
fn a_new_file_is_its_owners_alone_and_one_that_was_opened_to_others_stays_so() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Workbench::new(SqliteStore::options());
    let copy = bench.folder.file("copy.db");
    bench.store.backup_to(&copy).unwrap();
    let log = bench.folder.file("it.db-wal");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in [bench.file(), log, copy] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let file = bench.file();
    let Workbench { store, folder, .. } = bench;
    drop(store);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let _store = SqliteStore::open(&file).unwrap();
    assert_eq!(mode(&file), 0o640);
    drop(folder);
}

#[test]
fn another_process_is_named() {
    let folder = Folder::new();
    let lock = fs::File::create(folder.file("it.db.lock")).unwrap();
    lock.lock().unwrap();
    let refused = SqliteStore::open(folder.file("it.db")).unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::InUse {
                owner: Owner::Unknown,
                ..
            }
        ),
        "{refused}"
    );
    fs::write(folder.file("it.db.lock"), "12345\n").unwrap();
    let refused = SqliteStore::open(folder.file("it.db")).unwrap_err();
    assert!(
        refused.to_string().contains("in use by process 12345"),
        "{refused}"
    );
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let folder = Folder::new();
    let refused = SqliteStore::open(folder.file("none/it.db")).unwrap_err();
    assert!(
        matches!(&refused, OpenError::NoFolder(path) if path.ends_with("none")),
        "{refused}"
    );
}

#[test]
fn the_files_of_other_programs_stay_as_they_are() {
    let folder = Folder::new();
    let file = folder.file("it.db");
    for sql in ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7"] {
        drop(fs::remove_file(&file));
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&file).unwrap();
        let refused = SqliteStore::open(&file).unwrap_err();
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), before, "{sql}");
    }
    fs::write(
        &file,
        "a text of some length, which is no database at all".repeat(99),
    )
    .unwrap();
    let before = fs::read(&file).unwrap();
    let refused = SqliteStore::open(&file).unwrap_err();
    assert!(
        refused.to_string().contains("not an SQLite database"),
        "{refused}"
    );
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_file_of_a_newer_version_names_both() {
    let folder = Folder::new();
    let file = folder.file("it.db");
    drop(SqliteStore::open(&file).unwrap());
    Connection::open(&file)
        .unwrap()
        .execute("UPDATE redial_meta SET version = 9", [])
        .unwrap();
    let refused = SqliteStore::open(&file).unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::Newer {
                found: 9,
                known: 2,
                ..
            }
        ),
        "{refused}"
    );
}

/// The tables as version 1 made them.
const DOWNGRADE: &str = "
    DROP VIEW redial_calls;
    ALTER TABLE redial_session DROP COLUMN principal;
    CREATE VIEW redial_calls (id) AS SELECT slot FROM redial_record;
    INSERT INTO redial_session VALUES (7, 2, '[1]');
    INSERT INTO redial_record VALUES (1, 7, 3, 2, randomblob(16), x'3132', NULL, NULL);
    INSERT INTO redial_plain_0 VALUES (1, x'026964', 2, randomblob(16), x'3132', NULL, NULL);
    UPDATE redial_meta SET version = 1;
";

/// A file of an older version loses what it knows, or is half upgraded.
#[test]
fn a_file_of_version_1_is_upgraded_once_and_keeps_everything() {
    let folder = Folder::new();
    let file = folder.file("it.db");
    drop(SqliteStore::open(&file).unwrap());
    let old = Connection::open(&file).unwrap();
    old.execute_batch(DOWNGRADE).unwrap();
    drop(old);
    for _ in 0..2 {
        let store = SqliteStore::open(&file).unwrap();
        let mut recovered = Vec::new();
        store.recover(&mut |one| recovered.push(one)).unwrap();
        assert_eq!(recovered.len(), 3, "{recovered:?}");
        assert_eq!(
            recovered[0],
            Recovered::Session {
                session: SessionId::from_bits(7),
                owner: None,
                acknowledged: Acknowledged {
                    below: 2,
                    open: vec![1]
                },
            }
        );
    }
    let connection = Connection::open(&file).unwrap();
    let ids: rusqlite::Result<Vec<String>> = connection
        .prepare("SELECT id FROM redial_calls WHERE principal IS NULL ORDER BY id")
        .and_then(|mut rows| rows.query_map([], |row| row.get(0))?.collect());
    assert_eq!(ids.unwrap(), ["00000000-0000-8007-8000-000000000003", "id"]);
}

#[test]
fn a_damaged_file_is_not_used() {
    let folder = Folder::new();
    let file = folder.file("it.db");
    drop(SqliteStore::open(&file).unwrap());
    let whole = fs::read(&file).unwrap();
    for from in (1..whole.len() / 4096).map(|page| page * 4096) {
        let mut damaged = whole.clone();
        damaged[from..from + 100].fill(0xee);
        fs::write(&file, damaged).unwrap();
        // Some pages are not looked at before they are needed.
        if let Err(refused) = SqliteStore::open(&file) {
            assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
            assert!(refused.to_string().contains("it.db"), "{refused}");
        }
    }
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let refused = SqliteStore::open(&file).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

#[test]
fn a_migration_that_fails_leaves_nothing_and_can_be_run_again() {
    let folder = Folder::new();
    let file = folder.file("it.db");
    let refused = SqliteStore::options()
        .migrate(|connection| {
            Ok(connection.execute_batch("CREATE TABLE t (x); SELECT * FROM none")?)
        })
        .open(&file)
        .unwrap_err();
    assert!(matches!(refused, OpenError::Migration { .. }), "{refused}");
    let table = |sql: &'static str| {
        let opened =
            SqliteStore::options().migrate(move |connection| Ok(connection.execute_batch(sql)?));
        opened.open(&file)
    };
    drop(table("CREATE TABLE t (x)").unwrap());
    assert!(table("CREATE TABLE t (x)").is_err(), "it was there already");
}

#[cfg(unix)]
#[test]
fn a_file_that_can_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let file = folder.file("it.db");
    drop(SqliteStore::open(&file).unwrap());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    // Root may write everywhere.
    if fs::OpenOptions::new().write(true).open(&file).is_ok() {
        return;
    }
    let refused = SqliteStore::open(&file).unwrap_err();
    assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused}");
}

/// A power cut while the file is made leaves a rollback to be done, and a connection that only reads can't.
#[test]
fn a_file_whose_making_was_cut_off_is_made_anew() {
    let folder = Folder::new();
    let connection = Connection::open(folder.file("whole.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size = 1;
             BEGIN;
             CREATE TABLE blob (bytes BLOB);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
             INSERT INTO blob SELECT randomblob(4000) FROM n",
        )
        .unwrap();
    fs::copy(folder.file("whole.db"), folder.file("it.db")).unwrap();
    fs::copy(
        folder.file("whole.db-journal"),
        folder.file("it.db-journal"),
    )
    .unwrap();
    assert!(fs::metadata(folder.file("it.db")).unwrap().len() > 0);
    let store = SqliteStore::open(folder.file("it.db")).unwrap();
    let blobs = "SELECT count(*) FROM sqlite_schema WHERE name = 'blob'";
    let count: rusqlite::Result<i64> =
        store.read(|connection| connection.query_row(blobs, [], |row| row.get(0)));
    assert_eq!(count.unwrap(), 0);
}
