//! Time in which the server stood still counts for a moment only: what lay in a socket meanwhile
//! finds all that was there before, and no peer is blamed for the server's own silence.
//!
//! `advance` moves the clock on at once, as it looks to a process that was stopped, or whose
//! machine was suspended: between two steps of any task.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use redial_server::{Config, Context, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{advance, sleep},
};

use crate::common::{
    Service, code, executed, pipe, pipe_of,
    session::{LEASE, attach, client, config, connections_left, inc as inc_in},
    uuid,
};

fn inc(id: &str) -> String {
    format!(r#"{{"id":"{id}","method":"inc"}}"#)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_retry_in_the_socket_of_a_frozen_server_is_replayed() {
    let service = Service::default();
    let server = service.server(Config::default());
    let (mut one, mut other) = (pipe(&server), pipe(&server));
    let first = one.call(inc(&uuid(1))).await;
    for freeze in 0..5 {
        one.send(inc(&uuid(1))).await;
        other.send(inc(&uuid(1))).await;
        advance(seconds(60)).await;
        assert_eq!(
            one.receive().await.as_ref(),
            Some(&first),
            "freeze {freeze}"
        );
        assert_eq!(
            other.receive().await.as_ref(),
            Some(&first),
            "freeze {freeze}"
        );
    }
    assert_eq!(service.effects(), 1);
}

/// Whatever looks at the clock first: here it is the sweep alone.
#[tokio::test(start_paused = true)]
async fn a_retry_that_comes_right_after_a_freeze_is_replayed() {
    let service = Service::default();
    let server = service.server(Config::default());
    let first = pipe(&server).call(inc(&uuid(1))).await;
    for _ in 0..5 {
        advance(seconds(60)).await;
        sleep(Duration::from_millis(600)).await;
    }
    assert_eq!(pipe(&server).call(inc(&uuid(1))).await, first);
    sleep(seconds(10)).await;
    assert_eq!(server.stats().records, 0, "a record lives on");
}

/// However short the TTL is, a gap counts for a small part of it.
#[tokio::test(start_paused = true)]
async fn a_short_ttl_is_not_spent_in_one_gap() {
    let service = Service::default();
    let config = Config {
        ttl: Duration::from_millis(800),
        ..Config::default()
    };
    let mut peer = pipe(&service.server(config));
    let first = peer.call(inc(&uuid(1))).await;
    peer.send(inc(&uuid(1))).await;
    advance(seconds(60)).await;
    assert_eq!(peer.receive().await, Some(first));
}

/// A handler that keeps its thread, as one that waits for a disk, keeps the whole runtime from
/// reading if that is its only one.
#[tokio::test(start_paused = true)]
async fn a_handler_that_blocks_the_runtime_costs_no_record() {
    let effects = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&effects);
    let server = Server::builder()
        .mutation("run", move |(ms,): (u64,), _: Context| {
            let count = counted.fetch_add(1, SeqCst);
            std::future::poll_fn(move |context| {
                // The clock moves on in its first poll.
                let _ = pin!(advance(Duration::from_millis(ms))).poll(context);
                Poll::Ready(Ok(count))
            })
        })
        .build()
        .unwrap();
    let run = |number, ms: u64| json!({"id": uuid(number), "method": "run", "params": [ms]});
    let (mut peer, mut blocking) = (pipe(&server), pipe(&server));
    let first = peer.call(run(1, 0).to_string()).await;
    blocking.send(run(2, 60_000).to_string()).await;
    peer.send(run(1, 0).to_string()).await;
    assert_eq!(peer.receive().await, Some(first));
    blocking.receive().await.unwrap();
    assert_eq!(effects.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_freeze_does_not_end_a_lease() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    peer.call(inc_in(session, 0)).await;
    drop(peer);
    connections_left(&server, 0).await;
    let mut peer = pipe(&server);
    peer.send(attach(session)).await;
    advance(LEASE * 3).await;
    assert!(peer.receive_json().await["error"].is_null());
    let reply = peer.call_json(inc_in(session, 0)).await;
    assert_eq!(reply["redial"]["replayed"], true);
    assert_eq!(service.effects(), 1);
}

/// The rest of the frame could not be read before.
#[tokio::test(start_paused = true)]
async fn a_freeze_is_not_the_slowness_of_a_frame() {
    let server = Service::default().server(Config::default());
    let mut peer = pipe(&server);
    let request = inc(&uuid(1));
    let frame = [
        &(request.len() as u32).to_be_bytes()[..],
        request.as_bytes(),
    ]
    .concat();
    peer.io.write_all(&frame[..9]).await.unwrap();
    sleep(Duration::from_millis(10)).await;
    advance(seconds(60)).await;
    // The peer writes what it could not while the server was frozen.
    sleep(Duration::from_millis(10)).await;
    peer.io.write_all(&frame[9..]).await.unwrap();
    assert!(peer.receive_json().await["error"].is_null());
}

/// The peer may have been frozen along with the server.
#[tokio::test(start_paused = true)]
async fn a_freeze_is_not_the_slowness_of_a_reader() {
    let server = Service::default().server(Config::default());
    let mut peer = pipe_of(&server, 1024);
    peer.send(r#"{"id":"1","method":"big","params":[100000]}"#)
        .await;
    sleep(Duration::from_millis(10)).await;
    advance(seconds(60)).await;
    sleep(Duration::from_millis(10)).await;
    assert!(peer.receive_json().await["error"].is_null());
    // What counts is still counted.
    peer.send(r#"{"id":"1","method":"big","params":[100000]}"#)
        .await;
    sleep(seconds(11)).await;
    let mut rest = Vec::new();
    peer.io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 100_000, "a peer that reads nothing is closed");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_is_not_idleness() {
    let server = Service::default().server(Config::default());
    let mut peer = pipe(&server);
    peer.call(inc(&uuid(1))).await;
    advance(seconds(3_600)).await;
    sleep(Duration::from_millis(10)).await;
    assert!(peer.call_json(inc(&uuid(2))).await["error"].is_null());
}

/// A deadline is the caller's: its time passes whether the server is awake or not.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_a_freeze_has_passed() {
    let service = Service::default();
    let config = Config {
        max_running: 1,
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    let slow = json!({"id": uuid(1), "method": "slow_inc", "params": {"ms": 5_000}});
    peer.send(slow.to_string()).await;
    let queued = json!({"id": uuid(2), "method": "inc", "redial": {"timeout_ms": 7_000}});
    peer.send(queued.to_string()).await;
    sleep(Duration::from_millis(10)).await;
    advance(seconds(60)).await;
    let [one, other] = peer.receive_all().await;
    let refused = if one["error"].is_null() { other } else { one };
    assert_eq!((code(&refused), executed(&refused)), (-32002, "no"));
    assert_eq!(service.effects(), 1);
}

/// A server that was asked to stop, and was frozen, lets calls finish for as long as it says.
#[tokio::test(start_paused = true)]
async fn a_freeze_does_not_cut_a_drain_short() {
    let server = Server::builder()
        .mutation("steps", async |_: Value, _: Context| {
            for _ in 0..50 {
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })
        .build()
        .unwrap();
    let mut peer = pipe(&server);
    peer.send(r#"{"id":"1","method":"steps"}"#).await;
    sleep(Duration::from_millis(10)).await;
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    sleep(Duration::from_millis(10)).await;
    advance(seconds(60)).await;
    assert_eq!(stopping.await.unwrap().interrupted, 0);
    assert!(peer.receive_json().await["error"].is_null());
}

/// One thread of several hangs, and with it the connection that it serves: the others go on, and
/// so does the clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_retry_behind_a_handler_that_blocks_its_thread_is_replayed() {
    let effects = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&effects);
    let server = Server::builder()
        .config(Config {
            ttl: Duration::from_millis(400),
            ..Config::default()
        })
        .mutation("run", move |(ms,): (u64,), _: Context| {
            let count = counted.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis(ms));
            async move { Ok(count) }
        })
        .build()
        .unwrap();
    let run = |number, ms: u64| json!({"id": uuid(number), "method": "run", "params": [ms]});
    let mut peer = pipe(&server);
    let first = peer.call(run(1, 0).to_string()).await;
    peer.send(run(2, 1_500).to_string()).await;
    peer.send(run(1, 0).to_string()).await;
    peer.receive().await.unwrap();
    assert_eq!(peer.receive().await, Some(first));
    assert_eq!(effects.load(SeqCst), 2);
    // Others have not been kept from anything.
    sleep(Duration::from_millis(600)).await;
    assert_eq!(server.stats().records, 0, "a record lives on");
}

/// As long as a connection is not read from because of its limit, what lies there is not late.
#[tokio::test(start_paused = true)]
async fn a_retry_behind_the_in_flight_limit_is_replayed() {
    let service = Service::default();
    let config = Config {
        max_in_flight: 2,
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    let first = peer.call(inc(&uuid(1))).await;
    for number in [2, 3] {
        let slow = json!({"id": uuid(number), "method": "slow_inc", "params": {"ms": 60_000}});
        peer.send(slow.to_string()).await;
    }
    // More than is read ahead.
    for _ in 0..2_000 {
        peer.send(inc(&uuid(1))).await;
    }
    sleep(seconds(61)).await;
    peer.receive().await.unwrap();
    peer.receive().await.unwrap();
    for _ in 0..2_000 {
        assert_eq!(peer.receive().await.as_ref(), Some(&first));
    }
    assert_eq!(service.effects(), 3);
    sleep(seconds(11)).await;
    assert_eq!(server.stats().records, 0, "a record lives on");
}

/// No peer can keep others from a full table by not being read from. What it asks for then may
/// have been executed or not.
#[tokio::test(start_paused = true)]
async fn what_lay_unread_until_room_was_needed_is_unknown_and_not_executed() {
    let service = Service::default();
    let config = Config {
        max_in_flight: 1,
        max_records: 20,
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    peer.call(inc(&uuid(1))).await;
    peer.send(r#"{"id":null,"method":"slow_inc","params":{"ms":60000}}"#)
        .await;
    peer.send(inc(&uuid(1))).await;
    let mut other = pipe(&server);
    for round in 0..4 {
        sleep(seconds(13)).await;
        for number in 0..20 {
            let new = inc(&uuid(100 + 20 * round + number));
            let reply = other.call_json(new).await;
            assert!(reply["error"].is_null(), "another peer is refused: {reply}");
        }
    }
    peer.receive().await.unwrap();
    let reply = peer.receive_json().await;
    assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
    assert_eq!(service.effects(), 1 + 1 + 80);
    sleep(seconds(11)).await;
    assert!(peer.call_json(inc(&uuid(2))).await["error"].is_null());
}
