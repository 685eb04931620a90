//! Kind of fault: a schema that is made twice at once, or that a newer program has made.

use std::thread;

use redial_server::store::Store;
use redial_store_postgres::{OpenError, PostgresStore};

use crate::rig::{Database, Isolation, options};

#[test]
fn servers_that_start_at_once_make_one_schema() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let url = database.url();
    let tables = thread::scope(|scope| {
        let open = || options().open(&url).unwrap().table();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        let tables = threads.into_iter().map(|thread| thread.join().unwrap());
        tables.collect::<Vec<_>>()
    });
    assert!(tables.iter().all(|table| *table == tables[0]), "{tables:?}");
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    drop(options().open(&database.url()).unwrap());
    database.sql.run("UPDATE redial.meta SET version = 7");
    let error = options().open(&database.url()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 7, known: 2 }));
    assert!(error.to_string().contains("version 7"), "{error}");
}

/// Kind of fault: two databases that are served as one table, each of which executes what the other has executed.
#[test]
fn a_copy_of_a_database_is_not_served_as_the_table_that_it_was_copied_from() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let table = options().open(&database.url()).unwrap().table();
    let copy = database.copy();
    let error = options().open(&copy.url()).unwrap_err();
    assert!(matches!(error, OpenError::Copied { .. }), "{error}");
    let text = error.to_string();
    // If the other one is gone.
    let take = "DELETE FROM redial.place";
    assert!(text.contains(take), "{text}");
    copy.sql.run(take);
    assert_eq!(options().open(&copy.url()).unwrap().table(), table);
    // If it is not.
    assert!(text.contains("DROP SCHEMA redial CASCADE"), "{text}");
    let other = database.copy();
    other.sql.run("DROP SCHEMA redial CASCADE");
    assert_ne!(options().open(&other.url()).unwrap().table(), table);
    // Where it was made it goes on.
    assert_eq!(options().open(&database.url()).unwrap().table(), table);
}

#[test]
fn a_schema_of_the_version_before_is_brought_up_to_date() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let table = options().open(&database.url()).unwrap().table();
    let back = "DROP TABLE redial.place; UPDATE redial.meta SET version = 1";
    database.sql.run(back);
    assert_eq!(options().open(&database.url()).unwrap().table(), table);
    let place = "SELECT count(*) FROM redial.meta, redial.place WHERE version = 2";
    assert_eq!(database.sql.number(place), 1);
}

#[test]
fn what_is_wrong_with_a_database_or_a_migration_is_said() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let error = PostgresStore::open("nonsense://").unwrap_err();
    assert!(
        error.to_string().contains("expected postgres://"),
        "{error}"
    );
    let error = PostgresStore::open("postgres://u@127.0.0.1:1/d").unwrap_err();
    assert!(error.to_string().contains("PostgreSQL"), "{error}");
    let broken = PostgresStore::options().migrate("CREATE TABLE half (id bigint); SELECT nothing");
    let error = broken.open(&database.url()).unwrap_err();
    assert!(matches!(error, OpenError::Migration(_)), "{error}");
    assert_eq!(
        database
            .sql
            .number("SELECT count(*) FROM pg_tables WHERE tablename = 'half'"),
        0
    );
}
