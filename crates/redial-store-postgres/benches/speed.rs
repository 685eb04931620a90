//! Calls a second, and CPU per call, of the store, and of the table that one makes by hand, in turns on one cluster whose commits
//! are synced. `cargo bench -p redial-store-postgres --bench speed` prints them; behind `--` may stand the beginnings of the
//! ways that are wanted, as in `-- "batched, prepared"`. The one by hand is always measured.

use std::{
    env, fmt, fs,
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
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let is_wanted = |way: &str| wanted.is_empty() || wanted.iter().any(|it| way.starts_with(it));
    for workers in [16, 64] {
        for _ in 0..3 {
            println!(
                "{workers} in flight: calls/s, of those by hand; CPU us per call, own and the database's"
            );
            let hand = measure(&cluster, || by_hand(&url));
            println!("  {:24} {hand}", format!("by hand, a pool of {WORKERS}"));
            let way = "by hand, in batches";
            if is_wanted(way) {
                let batches = measure(&cluster, || by_hand_in_batches(&url, workers));
                let ratio = batches.rate / hand.rate;
                println!("  {way:24} {batches}  {ratio:.2}");
            }
            for (store, how) in stores.iter().zip(["unprepared", "prepared"]) {
                for (method, what) in [(&alone, "alone"), (&batched, "batched")] {
                    let way = format!("{what}, {how}");
                    if is_wanted(&way) {
                        let measured = measure(&cluster, || by_store(store, method, workers));
                        let ratio = measured.rate / hand.rate;
                        println!("  {way:24} {measured}  {ratio:.2}");
                    }
                }
            }
        }
    }
}

/// What a way to do it comes to.
struct Measured {
    /// Calls a second.
    rate: f64,
    /// Microseconds of CPU for each call: this process's, and the database's.
    cpu: [f64; 2],
    /// How many calls share a transaction.
    shared: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [own, database] = self.cpu;
        write!(
            f,
            "{:7.0} {own:7.1} {database:7.1} {:5.1}",
            self.rate, self.shared
        )
    }
}

/// Measures what makes so many calls for [`TIME`].
fn measure(cluster: &Cluster, run: impl FnOnce() -> u64) -> Measured {
    let cpu = || [process_us("self"), cluster_us(cluster)];
    let (start, before, commits) = (now(), cpu(), commits(cluster));
    let calls = run() as f64;
    let rate = calls / start.elapsed().as_secs_f64();
    let after = cpu();
    let cpu = [0, 1].map(|at| (after[at] - before[at]) / calls);
    let shared = calls / (self::commits(cluster) - commits) as f64;
    Measured { rate, cpu, shared }
}

/// How many transactions the database has committed.
fn commits(cluster: &Cluster) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&cluster.url("postgres"), NoTls).await.unwrap();
        tokio::spawn(connection);
        // What a backend has counted is seen a second later, or when it is idle.
        let count = "SELECT pg_sleep(1.2), xact_commit FROM pg_stat_database WHERE datname = current_database()";
        client.query_one(count, &[]).await.unwrap().get(1)
    })
}

/// The fields of `/proc/PID/stat` from the third on, as proc(5) counts them.
fn stat(process: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Fields of proc(5) in microseconds, which are counted in hundredths of a second.
fn ticks_us(fields: &[String], numbers: &[usize]) -> f64 {
    let ticks = numbers
        .iter()
        .map(|at| fields[at - 3].parse::<f64>().unwrap());
    ticks.sum::<f64>() * 1e4
}

fn process_us(process: &str) -> f64 {
    ticks_us(&stat(process).unwrap(), &[14, 15])
}

/// Of the cluster's processes, and of those that have ended.
fn cluster_us(cluster: &Cluster) -> f64 {
    let Some(postmaster) = cluster.process() else {
        return f64::NAN;
    };
    let postmaster = postmaster.to_string();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| stat(entry.ok()?.file_name().to_str()?));
    let children = processes.filter(|fields| fields.get(1) == Some(&postmaster));
    let running: f64 = children.map(|fields| ticks_us(&fields, &[14, 15])).sum();
    running + ticks_us(&stat(&postmaster).unwrap(), &[14, 15, 16, 17])
}

async fn add((key,): (String,), transaction: &mut Transaction) -> Result<i64, Abort> {
    let row = transaction.query_one(UPSERT, &[&key, &1_i64]).await?;
    Ok(row.get(0))
}

fn by_store(store: &PostgresStore, method: &Arc<dyn TransactionMethod>, workers: u64) -> u64 {
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
    let calls = Arc::new(Calls {
        store: store.clone(),
        method: Arc::clone(method),
        session,
        workers,
        count: AtomicU64::new(0),
        start: now(),
    });
    for _ in 0..workers {
        calls.hand_in(sender.clone());
    }
    drop(sender);
    let is_over = ended.recv().is_err();
    assert!(is_over, "it ends when the last call has ended");
    calls.count.load(Relaxed)
}

/// Calls of one session, each of which is followed by another: as where the work is done by hand, nothing is
/// measured of the way from the callers and back.
struct Calls {
    store: PostgresStore,
    method: Arc<dyn TransactionMethod>,
    session: SessionId,
    workers: u64,
    count: AtomicU64,
    start: Instant,
}

impl Calls {
    /// `running` is dropped when the time is over.
    #[expect(clippy::only_used_in_recursion, reason = "until the time is over")]
    fn hand_in(self: &Arc<Self>, running: mpsc::Sender<()>) {
        let number = self.count.fetch_add(1, Relaxed);
        let acknowledged = Acknowledged {
            below: number.saturating_sub(self.workers * 2),
            open: Vec::new(),
        };
        let session = self.session;
        let call = StoreCall {
            key: Some(CallKey::Session(SessionCall { session, number })),
            fingerprint: 7,
            max_outcome_bytes: 1 << 20,
            acknowledged,
            awake: Duration::ZERO,
            failure_texts: Default::default(),
        };
        let params = format!("[\"k{}\"]", number % 1000);
        let prepared = self.method.prepare(Some(&params), Context::default());
        let calls = Arc::clone(self);
        self.store.execute(
            call,
            prepared.unwrap(),
            Box::new(move |result| {
                drop(result.unwrap());
                if calls.start.elapsed() < TIME {
                    calls.hand_in(running);
                }
            }),
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn now() -> Instant {
    Instant::now()
}

fn by_hand(url: &str) -> u64 {
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
    count.load(Relaxed)
}

/// The same work in batches without Redial: on two connections, since one commits while the other works. The
/// statements of a batch go out together, and the ids of all are one statement.
fn by_hand_in_batches(url: &str, calls: u64) -> u64 {
    const CONNECTIONS: u64 = 2;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    static IDS: AtomicU64 = AtomicU64::new(1 << 40);
    let size = calls / CONNECTIONS;
    let count = Arc::new(AtomicU64::new(0));
    let start = now();
    runtime.block_on(async {
        let mut workers = Vec::new();
        for _ in 0..CONNECTIONS {
            let (url, count) = (url.to_owned(), Arc::clone(&count));
            workers.push(tokio::spawn(async move {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                tokio::spawn(connection);
                let insert =
                    "INSERT INTO seen (id) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING";
                let insert = client.prepare(insert).await.unwrap();
                let upsert = client.prepare(UPSERT).await.unwrap();
                let update = "UPDATE seen s SET reply = u.reply \
                    FROM unnest($1::text[], $2::text[]) AS u (id, reply) WHERE s.id = u.id";
                let update = client.prepare(update).await.unwrap();
                while start.elapsed() < TIME {
                    let first = IDS.fetch_add(size, Relaxed);
                    let ids: Vec<_> = (first..first + size).map(|n| format!("id-{n}")).collect();
                    // In one order on both, so that they don't lock each other out.
                    let mut keys: Vec<_> = (first..first + size)
                        .map(|n| format!("k{}", n % 1000))
                        .collect();
                    keys.sort_unstable();
                    let upserts = keys.iter().map(|key| {
                        let (client, upsert) = (&client, &upsert);
                        async move { client.query_one(upsert, &[key, &1_i64]).await.unwrap() }
                    });
                    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&ids];
                    let (begun, inserted, rows) = tokio::join!(
                        client.batch_execute("BEGIN"),
                        client.execute(&insert, &params),
                        futures_util::future::join_all(upserts),
                    );
                    begun.unwrap();
                    inserted.unwrap();
                    let replies = rows.iter().map(|row| row.get::<_, i64>(0).to_string());
                    let replies: Vec<_> = replies.collect();
                    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&ids, &replies];
                    let (updated, committed) = tokio::join!(
                        client.execute(&update, &params),
                        client.batch_execute("COMMIT")
                    );
                    updated.unwrap();
                    committed.unwrap();
                    count.fetch_add(size, Relaxed);
                }
            }));
        }
        for worker in workers {
            worker.await.unwrap();
        }
    });
    count.load(Relaxed)
}
