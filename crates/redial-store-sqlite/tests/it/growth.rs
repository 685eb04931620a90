//! The kind of fault: the file grows with the number of calls rather than with what is in flight.

use std::{fs, time::Duration};

use redial_protocol::CallKey;
use redial_server::store::{Store, StoreCall};
use redial_store_sqlite::SqliteStore;

use crate::{
    rig::Folder,
    workbench::{Workbench, call, hand_in},
};

/// Runs batches of 50 calls; all that was called before is acknowledged.
fn run(bench: &Workbench, numbers: std::ops::Range<u64>) {
    for first in numbers.step_by(50) {
        let answers: Vec<_> = (first..first + 50)
            .map(|number| hand_in(&bench.store, call(number, first), |_| Ok(7)))
            .collect();
        bench.store.flush();
        answers
            .iter()
            .for_each(|answer| drop(answer.recv().unwrap().unwrap()));
    }
}

#[test]
fn acknowledged_calls_leave_their_room_to_others() {
    let bench = Workbench::new(SqliteStore::options());
    run(&bench, 0..2_000);
    let rows = bench.number("SELECT count(*) FROM redial_record");
    run(&bench, 2_000..20_000);
    assert_eq!(bench.number("SELECT count(*) FROM redial_record"), rows);
    assert!(rows < 400, "{rows}");
    // Nor does the file of one that is closed and opened grow.
    let file = bench.file();
    bench.store.close();
    let bytes = fs::metadata(file).unwrap().len();
    assert!(bytes < 400_000, "{bytes}");
}

fn plain(number: u64, awake: Duration) -> StoreCall {
    StoreCall {
        key: Some(CallKey::Uuid(u128::from(number).to_be_bytes())),
        awake,
        ..call(0, 0)
    }
}

#[test]
fn expired_plain_ids_leave_and_living_ones_stay() {
    let bench = Workbench::new(SqliteStore::options().ttl(Duration::from_secs(10)));
    let mut number = 0;
    for second in 0..100 {
        let answers: Vec<_> = (0..20)
            .map(|_| {
                number += 1;
                hand_in(
                    &bench.store,
                    plain(number, Duration::from_secs(second)),
                    |_| Ok(7),
                )
            })
            .collect();
        bench.store.flush();
        answers
            .iter()
            .for_each(|answer| drop(answer.recv().unwrap().unwrap()));
        let rows = bench.number("SELECT count(*) FROM redial_calls");
        let since = (second + 1).min(10) as i64;
        assert!((since * 20..=17 * 20).contains(&rows), "{rows} at {second}");
    }
}

/// Measured here, unoptimised and without a limit but for the order of magnitude.
#[test]
fn many_plain_ids_are_recovered_in_good_time() {
    const COUNT: u64 = 100_000;
    let folder = Folder::new();
    let file = folder.file("it.db");
    drop(SqliteStore::open(&file).unwrap());
    let connection = redial_store_sqlite::rusqlite::Connection::open(&file).unwrap();
    connection
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO redial_plain_3 (key, state, fingerprint, outcome)
             SELECT CAST(x'01' || randomblob(16) AS BLOB), 2, randomblob(16), CAST('\"result\":' || i AS BLOB) FROM n",
            [COUNT as i64],
        )
        .unwrap();
    drop(connection);
    let store = SqliteStore::open(&file).unwrap();
    let mut count = 0;
    store.recover(&mut |_| count += 1).unwrap();
    assert_eq!(count, COUNT);
}
