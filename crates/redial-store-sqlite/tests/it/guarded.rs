//! The kind of fault: a handler's own SQL breaks what it shares a transaction with.

use redial_server::{
    Abort,
    store::{OutcomeKind, Store},
};
use redial_store_sqlite::Transaction;

use crate::{
    rig::options,
    workbench::{Workbench, text, wait},
};

fn sql(transaction: &Transaction<'_>, sql: &str) -> Result<(), Abort> {
    Ok(transaction.execute_batch(sql)?)
}

#[test]
fn a_handler_can_neither_end_its_transaction_nor_touch_redials_tables() {
    let mut bench = Workbench::new(options());
    for forbidden in [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "END",
        "SAVEPOINT mine",
        "RELEASE redial_call",
        "ROLLBACK TO redial_call",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA synchronous = OFF",
        "PRAGMA wal_checkpoint",
        "PRAGMA user_version = 7",
        "PRAGMA writable_schema = ON",
        "DELETE FROM redial_record",
        "DELETE FROM Redial_Session",
        "UPDATE main.redial_meta SET version = 2",
        "INSERT INTO redial_plain_0 (key, state, fingerprint) VALUES (x'', 1, x'')",
        "SELECT * FROM redial_calls",
        "INSERT OR REPLACE INTO redial_record \
         (slot, session, number, state, fingerprint, outcome, method, params) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        "DROP TABLE counter",
        "CREATE TABLE mine (x)",
        "CREATE TEMP TABLE mine (x)",
        "ALTER TABLE counter RENAME TO mine",
        "CREATE TRIGGER mine AFTER INSERT ON counter BEGIN DELETE FROM redial_record; END",
        "INSERT INTO counter VALUES ('a', 1); COMMIT",
    ] {
        let before = bench.hand_in(|transaction| {
            sql(transaction, "INSERT OR IGNORE INTO counter VALUES ('k', 0)")
        });
        let refused = bench.hand_in(move |transaction| {
            // However it is prepared.
            let cached = transaction.prepare_cached(forbidden).map(drop);
            assert!(cached.is_err(), "{forbidden}");
            sql(transaction, forbidden)
        });
        let after =
            bench.hand_in(|transaction| sql(transaction, "UPDATE counter SET value = value + 1"));
        bench.store.flush();
        assert_eq!(
            wait(&before).unwrap().kind(),
            OutcomeKind::Result,
            "{forbidden}"
        );
        let outcome = wait(&refused).unwrap();
        let is_refused = ["not authorized", "prohibited", "-32603"]
            .iter()
            .any(|words| text(&outcome).contains(words));
        assert!(
            is_refused || forbidden.contains(';'),
            "{forbidden}: {outcome:?}"
        );
        assert_eq!(outcome.kind(), OutcomeKind::Failed, "{forbidden}");
        assert_eq!(
            wait(&after).unwrap().kind(),
            OutcomeKind::Result,
            "{forbidden}"
        );
    }
    assert_eq!(bench.number("SELECT count(*) FROM counter"), 1);
    assert_eq!(bench.number("SELECT value FROM counter"), 27);
    assert_eq!(bench.number("SELECT count(*) FROM redial_calls"), 3 * 27);
}

#[test]
fn a_handler_may_ask_about_the_schema() {
    let mut bench = Workbench::new(options());
    for harmless in [
        "PRAGMA table_info(counter)",
        "PRAGMA user_version",
        "PRAGMA foreign_keys",
    ] {
        let outcome = bench.run(move |transaction| {
            transaction.query_row(harmless, [], |_| Ok(()))?;
            Ok(())
        });
        assert_eq!(outcome.unwrap().kind(), OutcomeKind::Result, "{harmless}");
    }
}

#[test]
fn a_migration_keeps_a_version_of_its_own_and_leaves_redials_tables_alone() {
    let bench = Workbench::new(
        redial_store_sqlite::SqliteStore::options().migrate(|connection| {
            connection.execute_batch("SAVEPOINT mine; CREATE TABLE t (x); RELEASE mine")?;
            for forbidden in [
                "COMMIT",
                "DROP TABLE redial_record",
                "CREATE TABLE redial_x (x)",
                "CREATE TRIGGER mine AFTER INSERT ON redial_record BEGIN SELECT 1; END",
            ] {
                assert!(connection.execute_batch(forbidden).is_err(), "{forbidden}");
            }
            connection.pragma_update(None, "user_version", 7)?;
            Ok(())
        }),
    );
    assert_eq!(bench.number("PRAGMA user_version"), 7);
}
