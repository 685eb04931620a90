//! Kind of fault: a call of a session is lost, doubled or ends as unknown because its client had to go on at
//! another server, while the one that it was sent to is dead or stands still.
#![cfg(unix)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use redial_client::{CallLimits, Client, Config};
use redial_examples::methods::{Inc, IncParams};
use redial_store_postgres::tokio_postgres::{self, NoTls};
use redial_store_tests::postgres::cluster;
use rustix::process::Signal;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{counter_server::CounterServer, frozen_programs::signal};

const SERVERS: usize = 3;
const CLIENTS: usize = 4;
/// How many calls have ended before something else happens to a server.
const ROUND: usize = 60;
const LEASE: Duration = Duration::from_millis(1_000);

/// Connections go to one server after the other, whichever takes them.
async fn balancer(backends: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for turn in 0.. {
            let Ok((mut client, _)) = listener.accept().await else {
                return;
            };
            let mut order = backends.lock().unwrap().clone();
            order.rotate_left(turn % SERVERS);
            tokio::spawn(async move {
                for backend in order {
                    if let Ok(mut backend) = TcpStream::connect(backend).await {
                        drop(copy_bidirectional(&mut client, &mut backend).await);
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn sql(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn config() -> Config {
    Config {
        call: CallLimits {
            attempt_timeout: Duration::from_millis(300),
            max_attempts: u32::MAX,
            deadline: Duration::from_secs(30),
            ..CallLimits::default()
        },
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_one_that_stands_still_cost_no_call_of_a_session() {
    let Some(cluster) = cluster() else {
        return;
    };
    let name = cluster.new_name();
    let create = format!("CREATE DATABASE {name}");
    let admin = sql(&cluster.url("postgres")).await;
    admin.batch_execute(&create).await.unwrap();
    let url = cluster.url(&name);
    let lease = LEASE.as_millis().to_string();
    let flags = [
        "--keep-effects",
        "--delay-ms",
        "3",
        "--server-lease-ms",
        &lease,
        "--store",
        &url,
    ];
    let mut servers: Vec<_> = (0..SERVERS).map(|_| CounterServer::start(flags)).collect();
    let addresses = servers
        .iter()
        .map(|server| server.address.clone())
        .collect();
    let backends = Arc::new(Mutex::new(addresses));
    let address = balancer(Arc::clone(&backends)).await;
    let (ended, goal) = (Arc::new(AtomicUsize::new(0)), 6 * ROUND);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let client = Client::builder().config(config());
                let client = client.connect(address.to_string()).await.unwrap();
                while ended.load(Relaxed) < goal {
                    let inc = IncParams {
                        key: "k".to_owned(),
                        delta: 1,
                    };
                    client.call::<Inc>(inc).await.unwrap();
                    ended.fetch_add(1, Relaxed);
                }
                client.close().await;
            })
        })
        .collect();
    for round in 1..=4 {
        while ended.load(Relaxed) < round * ROUND {
            tokio::task::yield_now().await;
        }
        let at = round % SERVERS;
        if round % 2 == 0 {
            signal(&servers[at], Signal::STOP);
            // Longer than its lease: what it was at belongs to others by then.
            tokio::time::sleep(LEASE * 2).await;
            signal(&servers[at], Signal::CONT);
        } else {
            servers[at] = CounterServer::start(flags);
            backends.lock().unwrap()[at].clone_from(&servers[at].address);
        }
    }
    for client in clients {
        client.await.unwrap();
    }
    let count = "SELECT count(*), count(DISTINCT id), max(value), \
                 (SELECT value FROM counters WHERE key = 'k') FROM effects";
    let counted = sql(&url).await.query_typed_one(count, &[]).await.unwrap();
    let counted: [i64; 4] = std::array::from_fn(|at| counted.get(at));
    assert_eq!(counted, [ended.load(Relaxed) as i64; 4]);
}
