//! Kind of fault: what a server has answered, or counts on, is gone when the database's machine is lost, though a
//! standby had all that was committed.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use redial_protocol::CallKey;
use redial_server::store::{Begun, Claimed, Done, Executed, Intent, Store, StoreCall};
use redial_store_postgres::PostgresStore;
use redial_store_tests::{
    Effect,
    client::{Answer, call, key, session, wait},
    replicas::{Commits, Pair, Promoted},
};

use crate::rig::{Sql, method, options, prepare};

fn reply<T: Send + 'static>() -> (Done<T>, Answer<T>) {
    let (sender, answer) = mpsc::channel();
    (Box::new(move |result| drop(sender.send(result))), answer)
}

fn execute(store: &PostgresStore, call: StoreCall, counter: &str) -> Answer<Executed> {
    let (done, answer) = reply();
    store.execute(call, prepare(&method(), Effect::add(counter, 1)), done);
    answer
}

fn pair(commits: Commits) -> Option<Pair> {
    let pair = Pair::start(commits);
    if pair.is_none() {
        println!("skipped: no PostgreSQL binaries of its own");
    }
    pair
}

fn counter(pair: &Pair, key: &str) -> i64 {
    let sql = format!("SELECT value FROM counter WHERE key = '{key}'");
    Sql::connect(&pair.url("postgres")).number(&sql)
}

/// After a crash a primary shows what it had committed and its standby may not have. To replay that is to answer it.
#[test]
fn what_a_primary_shows_after_a_crash_is_not_answered_before_its_standby_has_it() {
    let Some(mut pair) = pair(Commits::Synchronous) else {
        return;
    };
    // No other commit of the store's gets in between.
    let store = options().server_lease(Duration::from_secs(60));
    let store = store.open(&pair.url("postgres")).unwrap();
    let (done, opened) = reply();
    store.open_session(session(1), None, done);
    wait(&opened).unwrap();
    let plain = CallKey::of_string("1b4e28ba-2fa1-11d2-883f-0016d3cca427");
    let keys = [("s", key(1, 0)), ("p", plain)];
    let begun = key(1, 1);
    let (done, answer) = reply();
    store.begin(call(begun.clone(), 7), Intent { resumable: None }, done);
    assert_eq!(wait(&answer), Ok(Begun::Start));
    pair.freeze_standby();
    let answers = keys
        .clone()
        .map(|(counter, key)| execute(&store, call(key, 7), counter));
    let (done, finished) = reply();
    store.finish(begun.clone(), Some(b"\"result\":1".to_vec()), done);
    let (done, opened) = reply();
    store.open_session(session(2), None, done);
    await_commits(&pair, 4);
    pair.crash_primary();
    // What they have come to is looked for, and found.
    await_commits(&pair, 4);
    assert!(answers.iter().all(|answer| answer.try_recv().is_err()));
    assert!(finished.try_recv().is_err() && opened.try_recv().is_err());
    pair.kill_primary();
    pair.thaw_standby();
    let _since = pair.promote(Promoted::Alone);
    for ((counter_key, key), answer) in keys.into_iter().zip(answers) {
        let executed = wait(&answer).unwrap();
        let is_done = matches!(
            executed,
            Executed::New(_) | Executed::Claimed(Claimed::Recorded(_))
        );
        assert!(is_done, "{executed:?}");
        let again = wait(&execute(&store, call(key, 7), counter_key)).unwrap();
        assert!(
            matches!(again, Executed::Claimed(Claimed::Recorded(_))),
            "{again:?}"
        );
        assert_eq!(counter(&pair, counter_key), 1);
    }
    wait(&finished).unwrap();
    wait(&opened).unwrap();
    let again = wait(&execute(&store, call(begun, 7), "m")).unwrap();
    let recorded = Executed::Claimed(Claimed::Recorded(b"\"result\":1".to_vec()));
    assert_eq!(format!("{again:?}"), format!("{recorded:?}"));
    let sessions = "SELECT count(*) FROM redial.session WHERE dead_since IS NULL";
    assert_eq!(Sql::connect(&pair.url("postgres")).number(sessions), 2);
}

/// Until so many commits wait for the standby.
fn await_commits(pair: &Pair, count: u64) {
    let start = now();
    while pair.waiting_commits() < count {
        assert!(start.elapsed() < Duration::from_secs(30), "they don't wait");
        std::thread::yield_now();
    }
}

/// An epoch that a crash undoes would be given to the next server as well, and each would take the other's calls
/// for its own.
#[test]
fn an_epoch_survives_a_crash_also_where_commits_are_not_synced() {
    let Some(pair) = pair(Commits::Asynchronous) else {
        return;
    };
    let sql = Sql::connect(&pair.url("postgres"));
    sql.run("ALTER SYSTEM SET synchronous_commit = off");
    sql.run("ALTER SYSTEM SET wal_writer_delay = '10s'");
    sql.run("SELECT pg_reload_conf()");
    drop(options().open(&pair.url("postgres")).unwrap());
    sql.run("CHECKPOINT");
    let store = options().server_lease(Duration::from_secs(60));
    let store = store.open(&pair.url("postgres")).unwrap();
    let last = "SELECT max(epoch) FROM redial.server";
    let epoch = sql.number(last);
    pair.crash_primary();
    let sql = Sql::connect(&pair.url("postgres"));
    assert_eq!(sql.number(last), epoch);
    drop(store);
}

#[expect(clippy::disallowed_methods, reason = "a database is waited for")]
fn now() -> Instant {
    Instant::now()
}
