//! Calls a second of the store, and of the table that one makes by hand, in turns on one cluster whose commits
//! are synced. `cargo bench -p redial-store-postgres --bench speed` prints them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use redial_protocol::{CallKey, SessionCall, SessionId};
use redial_server::{
    Abort, Context,
    store::{Acknowledged, Store, StoreCall, TransactionMethod},
};
use redial_store_postgres::{
    PostgresStore, Transaction, batched_method,
    tokio_postgres::{self, NoTls},
    transaction_method,
};
use redial_store_tests::postgres::Cluster;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS counter (key text PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS seen (id text PRIMARY KEY, reply text);
";
const UPSERT: &str = "INSERT INTO counter AS c VALUES ($1, $2) \
    ON CONFLICT (key) DO UPDATE SET value = c.value + excluded.value RETURNING value";
const WORKERS: u64 = 16;
const TIME: Duration = Duration::from_secs(4);

fn main() {
    let Some(cluster) = Cluster::start(true) else {
        println!("skipped: no PostgreSQL");
        return;
    };
    let url = cluster.url("postgres");
    let open = |prepares| {
        let options = PostgresStore::options().migrate(TABLES);
        options.prepare_statements(prepares).open(&url).unwrap()
    };
    let stores = [false, true].map(open);
    let [alone, batched] = [
        transaction_method::<(String,), i64, _>(|params, transaction, _| {
            Box::pin(add(params, transaction))
        }),
        batched_method::<(String,), i64, _>(|params, transaction, _| {
            Box::pin(add(params, transaction))
        }),
    ];
    for workers in [16, 64] {
        for _ in 0..3 {
            let hand = by_hand(&url);
            print!("{workers} in flight, by hand from a pool of {WORKERS}: {hand:.0} calls/s");
            for (store, how) in stores.iter().zip(["", " prepared"]) {
                for (method, what) in [(&alone, "alone"), (&batched, "batched")] {
                    let calls = by_store(store, method, workers);
                    print!("; {what}{how} {calls:.0} ({:.2})", calls / hand);
                }
            }
            println!();
        }
    }
}

async fn add((key,): (String,), transaction: &mut Transaction) -> Result<i64, Abort> {
    let row = transaction.query_one(UPSERT, &[&key, &1_i64]).await?;
    Ok(row.get(0))
}

fn by_store(store: &PostgresStore, method: &Arc<dyn TransactionMethod>, workers: u64) -> f64 {
    static SESSION: AtomicU64 = AtomicU64::new(1);
    let session = SessionId::from_bits(SESSION.fetch_add(1, Relaxed));
    let (sender, opened) = mpsc::channel();
    store.open_session(
        session,
        None,
        Box::new(move |result| sender.send(result).unwrap()),
    );
    opened.recv().unwrap().unwrap();
    let (sender, ended) = mpsc::channel();
    let hand_in = |number: u64| {
        let acknowledged = Acknowledged {
            below: number.saturating_sub(workers * 2),
            open: Vec::new(),
        };
        let call = StoreCall {
            key: Some(CallKey::Session(SessionCall { session, number })),
            fingerprint: 7,
            max_outcome_bytes: 1 << 20,
            acknowledged,
            awake: Duration::ZERO,
            failure_texts: Default::default(),
        };
        let params = format!("[\"k{}\"]", number % 1000);
        let prepared = method.prepare(Some(&params), Context::default()).unwrap();
        let sender = sender.clone();
        store.execute(
            call,
            prepared,
            Box::new(move |result| drop(sender.send(result.unwrap()))),
        );
    };
    let start = now();
    (0..workers).for_each(hand_in);
    let mut count = workers;
    while start.elapsed() < TIME {
        ended.recv().unwrap();
        hand_in(count);
        count += 1;
    }
    for _ in 0..workers {
        ended.recv().unwrap();
    }
    count as f64 / start.elapsed().as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn now() -> Instant {
    Instant::now()
}

fn by_hand(url: &str) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    static IDS: AtomicU64 = AtomicU64::new(0);
    let count = Arc::new(AtomicU64::new(0));
    let start = now();
    runtime.block_on(async {
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            let (url, count) = (url.to_owned(), Arc::clone(&count));
            workers.push(tokio::spawn(async move {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                tokio::spawn(connection);
                let insert = "INSERT INTO seen (id) VALUES ($1) ON CONFLICT DO NOTHING";
                let insert = client.prepare(insert).await.unwrap();
                let upsert = client.prepare(UPSERT).await.unwrap();
                let update = "UPDATE seen SET reply = $2 WHERE id = $1";
                let update = client.prepare(update).await.unwrap();
                while start.elapsed() < TIME {
                    let number = IDS.fetch_add(1, Relaxed);
                    let (id, key) = (format!("id-{number}"), format!("k{}", number % 1000));
                    client.batch_execute("BEGIN").await.unwrap();
                    client.execute(&insert, &[&id]).await.unwrap();
                    let row = client.query_one(&upsert, &[&key, &1_i64]).await.unwrap();
                    let reply = row.get::<_, i64>(0).to_string();
                    client.execute(&update, &[&id, &reply]).await.unwrap();
                    client.batch_execute("COMMIT").await.unwrap();
                    count.fetch_add(1, Relaxed);
                }
            }));
        }
        for worker in workers {
            worker.await.unwrap();
        }
    });
    count.load(Relaxed) as f64 / start.elapsed().as_secs_f64()
}
