//! Calls a second, plain SQLite and the store side by side: `cargo run --release --example speed [FOLDER]`.
//!
//! Each call adds to one of a thousand counters and is recorded: in plain SQLite by a row under a random
//! id of 16 bytes, and, to see what such an index costs, by a row that is only appended. The store
//! runs the same SQL for the counter. Both have the same settings: by default SQLite keeps what
//! `RETURNING` returns in temporary files, which costs more than all the rest. The rounds take turns,
//! and medians are printed.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use redial_protocol::{CallKey, SessionCall, SessionId};
use redial_server::{
    Context,
    store::{Acknowledged, Store, StoreCall, TransactionMethod},
};
use redial_store_sqlite::{
    SqliteStore, Transaction,
    rusqlite::{Connection, params},
    transaction_method,
};

const BATCHES: [usize; 4] = [1, 16, 64, 256];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(400);

const ADD: &str = "INSERT INTO counter VALUES (?1, 1)
    ON CONFLICT (key) DO UPDATE SET value = value + excluded.value RETURNING value";
const TABLE: &str = "CREATE TABLE counter (key INTEGER PRIMARY KEY, value INTEGER NOT NULL)";

type Failure = Box<dyn Error + Send + Sync>;

/// What is measured: runs a batch of so many calls until it is durable.
type Subject = Box<dyn FnMut(usize) -> Result<(), Failure>>;

fn main() -> Result<(), Failure> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("redial-speed-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let mut subjects: [(&str, Subject); 4] = [
        (
            "plain SQLite, index of ids",
            plain(&folder.join("index.db"), true)?,
        ),
        (
            "plain SQLite, rows appended",
            plain(&folder.join("append.db"), false)?,
        ),
        (
            "store, calls of a session",
            store(&folder.join("session.db"), true)?,
        ),
        ("store, plain ids", store(&folder.join("ids.db"), false)?),
    ];
    // For a profiler: one subject, in batches of 64.
    if let Some(name) = std::env::args().nth(2) {
        let found = subjects
            .iter_mut()
            .find(|(subject, _)| subject.contains(&*name));
        let (name, subject) = found.ok_or("no such subject")?;
        for _ in 0..10 {
            println!("{name}: {:.0} calls/s", measure(subject, 64)?);
        }
        drop(subjects);
        return Ok(fs::remove_dir_all(&folder)?);
    }
    println!(
        "calls/s in batches of        {}",
        BATCHES.map(|size| format!("{size:>8}")).concat()
    );
    let mut results = vec![vec![Vec::new(); BATCHES.len()]; subjects.len()];
    for _ in 0..ROUNDS {
        for (at, size) in BATCHES.into_iter().enumerate() {
            for ((_, subject), results) in subjects.iter_mut().zip(&mut results) {
                results[at].push(measure(subject, size)?);
            }
        }
    }
    for ((name, _), results) in subjects.iter().zip(&mut results) {
        let medians: String = results
            .iter_mut()
            .map(|rates| format!("{:>8.0}", median(rates)))
            .collect();
        println!("{name:<29}{medians}");
    }
    drop(subjects);
    opening(&folder.join("opening.db"))?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

fn measure(subject: &mut Subject, size: usize) -> Result<f64, Failure> {
    let start = now();
    let mut calls = 0;
    while start.elapsed() < ROUND {
        subject(size)?;
        calls += size;
    }
    Ok(calls as f64 / start.elapsed().as_secs_f64())
}

/// How long it takes to open a file with a million records of plain ids that have not expired.
fn opening(path: &Path) -> Result<(), Failure> {
    drop(SqliteStore::open(path)?);
    Connection::open(path)?.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
         INSERT INTO redial_plain_3 (key, state, fingerprint, outcome)
         SELECT CAST(x'01' || randomblob(16) AS BLOB), 2, randomblob(16),
             CAST('\"result\":' || i AS BLOB) FROM n",
    )?;
    let start = now();
    let store = SqliteStore::open(path)?;
    let mut records = 0;
    store.recover(&mut |_| records += 1)?;
    println!(
        "{records} records of plain ids are opened in {:.0?}",
        start.elapsed()
    );
    Ok(())
}

fn plain(path: &Path, has_index: bool) -> Result<Subject, Failure> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384",
    )?;
    connection.execute_batch(TABLE)?;
    let index = if has_index { "PRIMARY KEY" } else { "" };
    let end = if has_index { "WITHOUT ROWID" } else { "" };
    connection.execute_batch(&format!(
        "CREATE TABLE record (id BLOB NOT NULL {index}, fingerprint BLOB, outcome BLOB) {end}"
    ))?;
    let mut number = 0_u128;
    Ok(Box::new(move |size| {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for _ in 0..size {
            number += 1;
            let mut add = connection.prepare_cached(ADD)?;
            let value: i64 = add.query_row([number as i64 % 1000], |row| row.get(0))?;
            let outcome = format!("\"result\":{value}");
            // As random as a UUID.
            let id = number
                .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                .to_be_bytes();
            let fingerprint = number.to_be_bytes();
            let mut record = connection.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3)")?;
            record.execute(params![&id[..], &fingerprint[..], outcome.as_bytes()])?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }))
}

fn store(path: &Path, has_session: bool) -> Result<Subject, Failure> {
    let migrated =
        SqliteStore::options().migrate(|connection| Ok(connection.execute_batch(TABLE)?));
    let store = migrated.open(path)?;
    let method = transaction_method(
        |(key,): (i64,), transaction: &mut Transaction<'_>, _: Context| {
            let mut add = transaction.prepare_cached(ADD)?;
            Ok(add.query_row([key], |row| row.get::<_, i64>(0))?)
        },
    );
    let session = SessionId::from_bits(7);
    let pending = Arc::new(PendingCount::default());
    pending.add(1);
    let opened = Arc::clone(&pending);
    let done = Box::new(move |result: Result<_, _>| opened.end(result.is_ok()));
    store.open_session(session, None, done);
    store.flush();
    pending.wait();
    let mut number = 0_u64;
    Ok(Box::new(move |size| {
        pending.add(size);
        // All that was called before this batch is acknowledged.
        let below = number;
        for _ in 0..size {
            let call = call(session, number, below, has_session);
            execute(&store, &method, &pending, number, call)?;
            number += 1;
        }
        store.flush();
        pending.wait();
        Ok(())
    }))
}

fn call(session: SessionId, number: u64, below: u64, has_session: bool) -> StoreCall {
    let id = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let key = if has_session {
        CallKey::Session(SessionCall { session, number })
    } else {
        CallKey::Uuid(id.to_be_bytes())
    };
    StoreCall {
        key: Some(key),
        fingerprint: id,
        max_outcome_bytes: 1 << 20,
        acknowledged: Acknowledged {
            below,
            open: Vec::new(),
        },
        awake: Duration::ZERO,
        failure_texts: Default::default(),
    }
}

fn execute(
    store: &SqliteStore,
    method: &Arc<dyn TransactionMethod>,
    pending: &Arc<PendingCount>,
    number: u64,
    call: StoreCall,
) -> Result<(), Failure> {
    let params = format!("[{}]", number % 1000);
    let prepared = method.prepare(Some(&params), Context::default());
    let prepared = prepared.map_err(|error| error.to_string())?;
    let pending = Arc::clone(pending);
    store.execute(
        call,
        prepared,
        Box::new(move |result| pending.end(result.is_ok())),
    );
    Ok(())
}

/// How many calls are not durable yet.
#[derive(Default)]
struct PendingCount {
    count: Mutex<usize>,
    none: Condvar,
}

impl PendingCount {
    fn add(&self, more: usize) {
        *self.count.lock().expect("it never panics") += more;
    }

    fn end(&self, is_ok: bool) {
        assert!(is_ok, "a call failed");
        let mut count = self.count.lock().expect("it never panics");
        *count -= 1;
        if *count == 0 {
            self.none.notify_one();
        }
    }

    fn wait(&self) {
        let count = self.count.lock().expect("it never panics");
        drop(
            self.none
                .wait_while(count, |count| *count > 0)
                .expect("it never panics"),
        );
    }
}
