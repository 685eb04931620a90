//! Kind of fault: two attempts of one call that claim its id at once, or a server that has lost its lease.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use redial_protocol::CallKey;
use redial_server::store::{
    Begun, Claimed, Executed, Fenced, Intent, Left, OutcomeKind, Resumable, SharedStore, Store,
    StoreCall, StoreError,
};
use redial_store_postgres::PostgresStore;
use redial_store_tests::{
    Effect,
    client::{Answer, below, call, key, session, wait},
};

use crate::rig::{Database, Isolation, Sql, method, options, prepare};

fn reply<T: Send + 'static>() -> (redial_server::store::Done<T>, Answer<T>) {
    let (sender, answer) = mpsc::channel();
    (Box::new(move |result| drop(sender.send(result))), answer)
}

fn execute(store: &PostgresStore, call: StoreCall) -> Answer<Executed> {
    let (done, answer) = reply();
    store.execute(call, prepare(&method(), Effect::add("k", 1)), done);
    answer
}

fn begin(store: &PostgresStore, number: u64, resumable: bool) -> Answer<Begun> {
    begin_as(store, key(1, number), resumable.then(self::resumable))
}

fn begin_as(store: &PostgresStore, key: CallKey, resumable: Option<Resumable>) -> Answer<Begun> {
    let (done, answer) = reply();
    store.begin(call(key, 7), Intent { resumable }, done);
    answer
}

fn resumable() -> Resumable {
    Resumable {
        method: "m".to_owned(),
        params: None,
    }
}

fn finish(store: &PostgresStore, number: u64) -> Result<(), StoreError> {
    finish_as(store, key(1, number))
}

fn finish_as(store: &PostgresStore, key: CallKey) -> Result<(), StoreError> {
    let (done, answer) = reply();
    store.finish(key, Some(b"\"result\":1".to_vec()), done);
    wait(&answer)
}

/// So many servers on one table, and session 1.
fn servers(database: &Database, count: usize) -> Vec<Arc<PostgresStore>> {
    servers_at(&database.url(), count)
}

fn servers_at(url: &str, count: usize) -> Vec<Arc<PostgresStore>> {
    let open = |_| Arc::new(options().open(url).unwrap());
    let servers: Vec<_> = (0..count).map(open).collect();
    let (done, answer) = reply();
    servers[0].open_session(session(1), None, done);
    wait(&answer).unwrap();
    servers
}

#[test]
fn of_duplicates_at_several_servers_at_once_one_runs_and_all_get_its_bytes() {
    for isolation in [Isolation::ReadCommitted, Isolation::Serializable] {
        let Some(database) = Database::new(isolation) else {
            return;
        };
        let servers = servers(&database, 3);
        for number in 0..20 {
            let attempts = servers.iter().chain(&servers);
            let answers: Vec<_> = attempts
                .map(|server| execute(server, call(key(1, number), 7)))
                .collect();
            let mut ran = 0;
            for answer in answers {
                let bytes = match wait(&answer).unwrap() {
                    Executed::New(outcome) => {
                        ran += 1;
                        outcome.into_bytes()
                    }
                    Executed::Claimed(Claimed::Recorded(bytes)) => bytes,
                    Executed::Claimed(other) => panic!("{other:?}"),
                };
                assert_eq!(bytes, format!("\"result\":{}", number + 1).as_bytes());
            }
            assert_eq!(ran, 1);
        }
        assert_eq!(database.counter("k"), 20);
    }
}

/// A number may lie far ahead of one that is still open, whose slot it would use.
#[test]
fn a_call_whose_slot_is_taken_runs_once_and_is_known() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let servers = servers(&database, 2);
    let numbers = [5 + 1024, 5, 5 + 2048];
    for number in numbers {
        let ran = wait(&execute(&servers[0], call(key(1, number), 7))).unwrap();
        assert!(matches!(ran, Executed::New(_)), "{number}: {ran:?}");
    }
    for number in numbers {
        let again = wait(&execute(&servers[1], call(key(1, number), 7))).unwrap();
        assert!(
            matches!(again, Executed::Claimed(Claimed::Recorded(_))),
            "{number}: {again:?}"
        );
    }
    // One that comes late, after the slot was used again, at a server that was not told.
    let mut later = call(key(1, 5 + 3072), 7);
    later.acknowledged = below(5 + 3072);
    servers[0].acknowledge(session(1), below(5 + 3072));
    servers[0].close();
    drop(wait(&execute(&servers[1], later)).unwrap());
    for number in numbers {
        let late = wait(&execute(&servers[1], call(key(1, number), 7))).unwrap();
        assert!(
            matches!(late, Executed::Claimed(Claimed::Acknowledged)),
            "{number}: {late:?}"
        );
    }
    assert_eq!(database.counter("k"), 4);
}

/// Kind of fault: a server that can't record an outcome in time forgets that it has run the call, and lets
/// the next attempt start it again.
#[test]
fn a_call_whose_outcome_could_not_be_recorded_in_time_does_not_start_again() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let impatient = options().join_for(Duration::ZERO).retry_for(Duration::ZERO);
    let impatient = Arc::new(impatient.open(&database.url()).unwrap());
    let other = &servers(&database, 1)[0];
    assert_eq!(wait(&begin(&impatient, 0, false)), Ok(Begun::Start));
    // As a transaction of a server that stands still.
    let hold = "BEGIN; SELECT FROM redial.slot FOR UPDATE";
    database.sql.run(hold);
    let late = finish(&impatient, 0).unwrap_err();
    assert!(late.is_uncertain, "{late}");
    database.sql.run("ROLLBACK");
    let again = wait(&begin(&impatient, 0, false));
    assert_ne!(again, Ok(Begun::Start));
    let found = wait(&begin(other, 0, false));
    let outcome = b"\"result\":1".to_vec();
    assert_eq!(found, Ok(Begun::Claimed(Claimed::Recorded(outcome))));
}

#[test]
fn a_mutation_belongs_to_its_server_until_that_has_lost_its_lease() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let servers = servers(&database, 2);
    for number in [0, 1] {
        assert_eq!(
            wait(&begin(&servers[0], number, number == 1)),
            Ok(Begun::Start)
        );
    }
    // The other server waits while the first is alive, and gets the same bytes.
    let waiting = begin(&servers[1], 0, false);
    finish(&servers[0], 0).unwrap();
    let recorded = Claimed::Recorded(b"\"result\":1".to_vec());
    assert_eq!(wait(&waiting), Ok(Begun::Claimed(recorded)));
    // One that has stood still for too long records nothing; a resumable call is another's then.
    assert_eq!(wait(&begin(&servers[0], 2, false)), Ok(Begun::Start));
    database.sql.run(
        "UPDATE redial.server SET expires = '-infinity' \
         WHERE epoch = (SELECT owner FROM redial.slot WHERE seq = 1)",
    );
    // Who asks for it hears so.
    let (done, answer) = reply();
    servers[1].fence(key(1, 1), done);
    let left = Left {
        fingerprint: 7,
        resumable: resumable(),
    };
    assert_eq!(wait(&answer), Ok(Fenced::Left(left)));
    assert_eq!(wait(&begin(&servers[1], 1, true)), Ok(Begun::Start));
    for number in [1, 2] {
        assert!(finish(&servers[0], number).is_err(), "{number}");
    }
    finish(&servers[1], 1).unwrap();
    let interrupted = begin(&servers[1], 2, false);
    assert_eq!(wait(&interrupted), Ok(Begun::Claimed(Claimed::Interrupted)));
}

/// Kind of fault: a time that is counted from the wrong moment. Instance: the record of a mutation counted
/// from the claim, and that of one that took long went as soon as it had ended: a retry at another server
/// ran it again.
#[test]
fn the_record_of_a_plain_id_counts_from_the_end_of_its_call() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = &servers(&database, 1)[0];
    let id = CallKey::Text("a".into());
    assert_eq!(wait(&begin_as(store, id.clone(), None)), Ok(Begun::Start));
    database
        .sql
        .run("UPDATE redial.plain SET since = since - interval '1 hour'");
    finish_as(store, id).unwrap();
    let counts = "SELECT count(*) FROM redial.plain \
                  WHERE since > clock_timestamp() - interval '1 minute'";
    assert_eq!(database.sql.number(counts), 1);
}

/// Kind of fault: what the database refuses at the commit is taken for a commit without an answer. Instance: a
/// trigger that runs then and raises an error, of its own code, too; its call ran again and again, and ended as
/// unknown.
#[test]
fn what_a_trigger_raises_at_the_commit_is_the_outcome() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = &servers(&database, 1)[0];
    database.sql.run(
        "CREATE TABLE raised (code text); INSERT INTO raised VALUES (''); \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ DECLARE own text; BEGIN SELECT code INTO own FROM raised; \
         RAISE EXCEPTION 'too much' USING ERRCODE = own; END $$; \
         CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON counter \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    for (number, raised) in (0..).zip(["P0001", "AB123", "42501"]) {
        database
            .sql
            .run(&format!("UPDATE raised SET code = '{raised}'"));
        let call = || call(key(1, number), 7);
        let failed = match wait(&execute(store, call())).unwrap() {
            Executed::New(outcome) if outcome.kind() == OutcomeKind::Failed => outcome.into_bytes(),
            other => panic!("{raised}: {other:?}"),
        };
        let again = wait(&execute(store, call())).unwrap();
        assert!(
            matches!(&again, Executed::Claimed(Claimed::Recorded(bytes)) if *bytes == failed),
            "{raised}: {again:?}"
        );
        assert_eq!(database.counter("k"), 0);
    }
}

/// Kind of fault: what fails once is never done. Instance: a goodbye while another transaction holds the
/// row of its session.
#[test]
fn a_goodbye_that_can_not_be_saved_is_saved_later() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = options().join_for(Duration::ZERO);
    let store = store.open(&database.url()).unwrap();
    drop(servers(&database, 1));
    database
        .sql
        .run("BEGIN; SELECT FROM redial.session FOR UPDATE");
    store.forget_session(session(1));
    // Each of these takes as long as the goodbye to find that it can't be saved.
    for _ in 0..5 {
        let (done, answer) = reply();
        store.find_session(session(1), None, done);
        assert!(wait(&answer).is_err());
    }
    database.sql.run("ROLLBACK");
    assert!(database.has_dead_session());
}

/// The neighbour: what fails again and again keeps the rest from being done. Instance: the goodbyes of other
/// sessions, which were saved in one order.
#[test]
fn a_goodbye_that_can_not_be_saved_keeps_no_other_waiting() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let store = options().join_for(Duration::ZERO);
    let store = store.open(&database.url()).unwrap();
    let sessions = [1, 2, 3, 4, 5, 6, 7, 8].map(session);
    for session in sessions {
        let (done, opened) = reply();
        store.open_session(session, None, done);
        wait(&opened).unwrap();
    }
    let of_others = Sql::connect(&database.url());
    let hold = "BEGIN; SELECT FROM redial.session WHERE id";
    let last = "(SELECT max(id) FROM redial.session) FOR UPDATE";
    of_others.run(&format!("{hold} < {last}"));
    database.sql.run(&format!("{hold} = {last}"));
    for session in sessions {
        store.forget_session(session);
    }
    for _ in 0..5 {
        let (done, answer) = reply();
        store.find_session(sessions[7], None, done);
        assert!(wait(&answer).is_err());
    }
    database.sql.run("ROLLBACK");
    assert!(database.has_dead_session());
}

/// Kind of fault: a connection to the database ends in the middle of a step, be it the commit, and the call
/// is taken for one that did not run, or runs twice.
#[test]
fn connections_that_end_anywhere_lose_no_call_and_double_none() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    end_connections(&database, &database.url());
}

/// Kind of fault: the same with words of pgbouncer's instead of a connection that ends.
#[test]
fn connections_that_end_behind_pgbouncer_lose_no_call_and_double_none() {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    if let Some(url) = database.bounced_url() {
        end_connections(&database, &url);
    }
}

fn end_connections(database: &Database, url: &str) {
    let servers = servers_at(url, 1);
    let mut cuts = 0;
    for round in 0..20 {
        let numbers = round * 20..(round + 1) * 20;
        let answers: Vec<_> = numbers
            .map(|number| execute(&servers[0], call(key(1, number), 7)))
            .collect();
        // As soon as the first is there others are at every stage.
        let mut answers = answers.into_iter();
        let first = wait(&answers.next().unwrap());
        cuts += database.sql.number(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        for answer in [first]
            .into_iter()
            .chain(answers.map(|answer| wait(&answer)))
        {
            let answer = answer.unwrap();
            assert!(
                matches!(
                    answer,
                    Executed::New(_) | Executed::Claimed(Claimed::Recorded(_))
                ),
                "{answer:?}"
            );
        }
    }
    assert!(cuts > 20, "{cuts}");
    assert_eq!(database.counter("k"), 400);
}
