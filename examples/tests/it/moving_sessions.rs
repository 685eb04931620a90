//! Kind of fault: a call of a session is lost, doubled or ends as unknown because its client had to go on at
//! another server, while the one that it was sent to is dead or stands still.
#![cfg(unix)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use redial_client::{CallLimits, Client, Config};
use redial_examples::methods::{Inc, IncParams};
use rustix::process::Signal;

use crate::{
    balancer::{Backends, balancer},
    counter_server::CounterServer,
    databases::{effects, new_database},
    frozen_programs::signal,
};

const SERVERS: usize = 3;
const CLIENTS: usize = 4;
/// How many calls have ended before something else happens to a server.
const ROUND: usize = 60;
const LEASE: Duration = Duration::from_millis(1_000);

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
    let Some(url) = new_database().await else {
        return;
    };
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
    let backends = Backends::new(Mutex::new(addresses));
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
    assert_eq!(effects(&url).await, [ended.load(Relaxed) as i64; 3]);
}
