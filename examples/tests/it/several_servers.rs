//! Several servers as programs of their own, and one client of all of them. What each effect came to is
//! read from the servers themselves, behind the back of the client.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use redial_client::{
    Addresses, CallError, CallLimits, Client, ClientBuilder, Config, Dns, EndpointHealth,
    RetryBudget,
};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::{
    balancer::{Backends, balancer},
    counter_server::CounterServer,
};

/// How many calls are in flight at once.
const CONCURRENCY: usize = 8;

fn builder() -> ClientBuilder {
    Client::builder().config(Config {
        call: CallLimits {
            attempt_timeout: Duration::from_millis(300),
            max_attempts: 1000,
            deadline: Duration::from_secs(20),
            ..CallLimits::default()
        },
        retry_budget: RetryBudget::unlimited(),
        ..Config::default()
    })
}

/// What a caller heard of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Done,
    NotExecuted,
    Unknown,
}

/// Makes calls, each with a counter of its own. Gives what was heard of each, and how long it took.
async fn calls(client: &Client, prefix: &str, count: usize) -> Vec<(Heard, Duration)> {
    let next = Arc::new(AtomicUsize::new(0));
    let heard = Arc::new(Mutex::new(vec![None; count]));
    let mut callers = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (client, prefix) = (client.clone(), prefix.to_owned());
        let (next, heard) = (next.clone(), heard.clone());
        callers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Relaxed);
                if n >= count {
                    return;
                }
                let began = clock();
                let params = json!({"key": format!("{prefix}-{n}"), "delta": 1});
                let outcome = match client.request("inc", params).await {
                    Ok(_) => Heard::Done,
                    Err(CallError::NotExecuted { .. }) => Heard::NotExecuted,
                    Err(CallError::Unknown { .. }) => Heard::Unknown,
                    Err(error) => panic!("{error}"),
                };
                heard.lock().unwrap()[n] = Some((outcome, began.elapsed()));
            }
        });
    }
    callers.join_all().await;
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    heard.into_iter().map(Option::unwrap).collect()
}

#[expect(clippy::disallowed_methods, reason = "what a caller waits is measured")]
fn clock() -> Instant {
    Instant::now()
}

/// The oracle: no effect twice, one for each call that was done, none for one that was not executed.
async fn check(servers: &[&CounterServer], prefix: &str, heard: &[(Heard, Duration)]) {
    let mut direct = Vec::new();
    for server in servers {
        direct.push(builder().connect(&*server.address).await.unwrap());
    }
    for (n, (heard, _)) in heard.iter().enumerate() {
        let mut effects = 0;
        for client in &direct {
            let params = json!({"key": format!("{prefix}-{n}")});
            let counter = client.query("get", params).await.unwrap();
            effects += counter["value"].as_i64().unwrap();
        }
        match heard {
            Heard::Done => assert_eq!(effects, 1, "{n} was done"),
            Heard::NotExecuted => assert_eq!(effects, 0, "{n} was not executed"),
            Heard::Unknown => assert!(effects <= 1, "{n} was executed {effects} times"),
        }
    }
}

fn count(heard: &[(Heard, Duration)], what: Heard) -> usize {
    heard.iter().filter(|(heard, _)| *heard == what).count()
}

/// How many calls took longer than that.
fn slower_than(ms: u64, heard: &[(Heard, Duration)]) -> usize {
    let limit = Duration::from_millis(ms);
    heard.iter().filter(|(_, took)| *took > limit).count()
}

fn start(flags: &str) -> CounterServer {
    CounterServer::start(flags.split_whitespace())
}

fn addresses<'a>(servers: impl IntoIterator<Item = &'a CounterServer>) -> Addresses {
    let addresses = servers.into_iter().map(|server| server.address.as_str());
    addresses.collect()
}

/// A server that takes connections and whatever is sent on them, and says nothing.
async fn swallower() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    address
}

/// A listener that accepts nothing, and whose queue is full: connections are neither made nor refused.
async fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let wait = Duration::from_millis(200);
    while let Ok(made) = tokio::time::timeout(wait, TcpStream::connect(address)).await {
        held.push(made.unwrap());
        assert!(held.len() < 100, "its queue is never full");
    }
    (listener, held)
}

/// A call sent to a server that knows nothing of it, because its connection was cut: executed twice.
#[tokio::test]
async fn two_tables_behind_a_balancer_with_cut_connections_execute_nothing_twice() {
    let servers = [start("--cut 0.02 --seed 5"), start("--cut 0.02 --seed 6")];
    let servers: Vec<_> = servers.iter().collect();
    let backends = servers.iter().map(|server| server.address.clone());
    let address = balancer(Backends::new(Mutex::new(backends.collect()))).await;
    let client = builder().connect(address).await.unwrap();
    let heard = calls(&client, "k", 300).await;
    check(&servers, "k", &heard).await;
    assert!(client.stats().connects > 2, "connections were cut");
    assert!(count(&heard, Heard::Done) > 150, "{heard:?}");
}

/// The same two servers, each by its own address.
#[tokio::test]
async fn of_two_tables_with_cut_connections_no_call_is_unknown() {
    let servers = [start("--cut 0.02 --seed 7"), start("--cut 0.02 --seed 8")];
    let client = builder().connect(addresses(&servers)).await.unwrap();
    let heard = calls(&client, "k", 1_000).await;
    assert_eq!(count(&heard, Heard::Done), heard.len(), "{heard:?}");
    check(&servers.iter().collect::<Vec<_>>(), "k", &heard).await;
    let stats = client.stats();
    assert!(stats.connects > 5, "connections were cut: {stats:?}");
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (2, 0));
    let endpoints = client.endpoints();
    assert!(
        endpoints.iter().all(|one| one.attempts > 20),
        "{endpoints:?}"
    );
    assert_ne!(endpoints[0].table, endpoints[1].table);
}

/// Calls that wait for a server that is dead, although others are there.
#[tokio::test]
async fn one_of_three_servers_is_killed_and_calls_go_on() {
    let mut servers = [start(""), start(""), start("")];
    let client = builder().connect(addresses(&servers)).await.unwrap();
    let running = tokio::spawn({
        let client = client.clone();
        async move { calls(&client, "k", 3_000).await }
    });
    while client
        .endpoints()
        .iter()
        .map(|one| one.attempts)
        .sum::<u64>()
        < 1_000
    {
        tokio::task::yield_now().await;
    }
    servers[1].child.kill().unwrap();
    let heard = running.await.unwrap();
    // The table of the dead one is gone with it, and what was in flight there is unknown.
    assert_eq!(count(&heard, Heard::NotExecuted), 0);
    assert!(count(&heard, Heard::Unknown) <= CONCURRENCY);
    let after = calls(&client, "l", 1_000).await;
    assert_eq!(count(&after, Heard::Done), after.len());
    // A busy machine may take its time; the attempt timeout is 300 ms.
    assert!(slower_than(200, &after) <= after.len() / 100, "{after:?}");
    let living = [&servers[0], &servers[2]];
    check(&living, "l", &after).await;
    assert_ne!(client.endpoints()[1].health, EndpointHealth::Ready);
}

/// Peers that refuse nothing and answer nothing.
#[tokio::test]
async fn black_holes_beside_a_server_slow_no_call_down() {
    let servers = [start(""), start("")];
    let (listener, _held) = full_listener().await;
    let mut all: Vec<_> = servers
        .iter()
        .map(|server| server.address.clone())
        .collect();
    all.push(listener.local_addr().unwrap().to_string());
    all.push(swallower().await.to_string());
    let client = builder().connect(all).await.unwrap();
    let heard = calls(&client, "k", 1_000).await;
    assert_eq!(count(&heard, Heard::Done), heard.len());
    assert!(slower_than(200, &heard) <= heard.len() / 100, "{heard:?}");
    check(&servers.iter().collect::<Vec<_>>(), "k", &heard).await;
}

/// A name that leads to another server than before.
#[tokio::test]
async fn a_changed_answer_of_the_resolver_is_followed() {
    let (old, new) = (start(""), start(""));
    let answer = Arc::new(Mutex::new(old.address.clone()));
    let resolver = {
        let answer = answer.clone();
        move |_| {
            let found = answer.lock().unwrap().parse::<SocketAddr>();
            std::future::ready(found.map(|one| vec![one]).map_err(io::Error::other))
        }
    };
    let name = Dns::new("counter.example:7077").resolver(resolver);
    let second = Duration::from_secs(1);
    let client = builder().connect_endpoints(name.interval(second)).await;
    let client = client.unwrap();
    let heard = calls(&client, "k", 20).await;
    check(&[&old], "k", &heard).await;
    answer.lock().unwrap().clone_from(&new.address);
    let changed = clock();
    while client
        .endpoints()
        .iter()
        .all(|one| one.address != new.address)
    {
        assert!(changed.elapsed() < 5 * second, "{:?}", client.endpoints());
        tokio::time::sleep(second / 100).await;
    }
    let heard = calls(&client, "l", 20).await;
    assert_eq!(count(&heard, Heard::Done), heard.len());
    check(&[&new], "l", &heard).await;
}

/// Servers on one database, of which one is killed: what it had begun is found, or done, by the other.
#[cfg(unix)]
#[tokio::test]
async fn of_two_servers_on_one_database_one_is_killed_and_no_call_is_unknown() {
    use crate::databases::{effects, new_database};

    let Some(url) = new_database().await else {
        return;
    };
    let start = || CounterServer::start(["--keep-effects", "--store", &url]);
    let mut servers = [start(), start()];
    let client = builder().connect(addresses(&servers)).await.unwrap();
    while client
        .endpoints()
        .iter()
        .any(|one| one.health != EndpointHealth::Ready)
    {
        tokio::task::yield_now().await;
    }
    let heard = calls(&client, "k", 40).await;
    assert_eq!(count(&heard, Heard::Done), heard.len(), "{heard:?}");
    let both = client.endpoints();
    assert!(both.iter().all(|one| one.attempts > 0), "{both:?}");
    assert_eq!(both[0].table, both[1].table);
    let running = tokio::spawn({
        let client = client.clone();
        async move { calls(&client, "l", 400).await }
    });
    while client.endpoints()[0].attempts < 60 {
        tokio::task::yield_now().await;
    }
    servers[0].child.kill().unwrap();
    let heard = running.await.unwrap();
    assert_eq!(count(&heard, Heard::Done), heard.len(), "{heard:?}");
    assert_eq!(effects(&url).await, [440; 3]);
    assert_eq!(client.stats().sessions_lost, 0);
}

/// The program with a list.
#[test]
fn the_client_program_calls_a_list_of_servers() {
    let servers = [start(""), start(""), start("")];
    let list: Vec<_> = servers
        .iter()
        .map(|server| server.address.as_str())
        .collect();
    let client = std::process::Command::new(env!("CARGO_BIN_EXE_counter-client"))
        .args(["--connect", &list.join(","), "--json"])
        .args(["--calls", "300", "--key-per-call", "n"])
        .output()
        .unwrap();
    let text = String::from_utf8(client.stdout).unwrap();
    assert!(client.status.success(), "{text}");
    let summary: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(
        (&summary["ok"], &summary["violations"]),
        (&300.into(), &0.into())
    );
    let attempts = summary["endpoints"].as_object().unwrap();
    assert_eq!(attempts.len(), 3);
    assert!(
        attempts.values().all(|count| count.as_u64() > Some(30)),
        "{summary}"
    );
}
