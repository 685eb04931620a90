//! A full server evicts only sessions that no client could still ask about, and the sessions it
//! keeps do not lock new clients out.

use std::time::Duration;

use crate::common::{
    Service, code, executed, pipe,
    session::{HELLO, LEASE, ack, ask, attach, client, config, connections_left, inc, open},
};
use redial_server::{Config, Server};
use serde_json::json;

/// How long a session is safe after its last connection has closed, with records or without.
const GRACE: Duration = Duration::from_secs(10);

fn server_of(max_sessions: usize) -> Server {
    Service::default().server(Config {
        max_sessions,
        ..config()
    })
}

#[tokio::test(start_paused = true)]
async fn a_full_server_refuses_a_session_that_would_cost_another_its_records() {
    let server = server_of(2);
    let (mut one, mut other) = (pipe(&server), pipe(&server));
    let (_, kept) = (open(&mut one).await, open(&mut other).await);
    other.call(inc(kept, 0)).await;
    drop(other);
    connections_left(&server, 1).await;
    let mut third = pipe(&server);
    let reply = third.call_json(HELLO).await;
    assert_eq!((code(&reply), executed(&reply)), (-32001, "no"));
    drop(one);
    connections_left(&server, 1).await;
    tokio::time::sleep(GRACE).await;
    open(&mut third).await;
    assert_eq!(
        third.call_json(inc(kept, 0)).await["redial"]["replayed"],
        true
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_stays_while_its_connection_repeats_calls_of_others() {
    let server = server_of(2);
    let (mut mine, own) = client(&server).await;
    let (_other, theirs) = client(&server).await;
    mine.call(inc(theirs, 0)).await;
    tokio::time::sleep(GRACE).await;
    assert_eq!(code(&pipe(&server).call_json(HELLO).await), -32001);
    let first = mine.call_json(inc(own, 0)).await;
    assert!(first.get("result").is_some(), "{first}");
}

/// Leaves a hundred sessions behind: `made` by `make`, and the rest empty.
async fn filled(make: impl AsyncFn(&Server), made: usize) -> Server {
    let server = server_of(100);
    for _ in 0..made {
        make(&server).await;
    }
    let left = server.stats().connections;
    for _ in made..100 {
        drop(client(&server).await);
        connections_left(&server, left).await;
    }
    assert_eq!(server.stats().sessions, 100);
    server
}

#[tokio::test(start_paused = true)]
async fn eviction_passes_over_connected_sessions() {
    let live = std::cell::RefCell::new(Vec::new());
    let come_back = async |server: &Server| {
        let left = live.borrow().len();
        let (peer, session) = client(server).await;
        drop(peer);
        connections_left(server, left).await;
        let mut peer = pipe(server);
        peer.call(attach(session)).await;
        live.borrow_mut().push(peer);
    };
    let server = filled(come_back, 90).await;
    tokio::time::sleep(GRACE).await;
    open(&mut pipe(&server)).await;
}

#[tokio::test(start_paused = true)]
async fn eviction_passes_over_sessions_with_records() {
    let leave_a_call = async |server: &Server| {
        let (mut peer, session) = client(server).await;
        peer.call(inc(session, 0)).await;
        drop(peer);
        connections_left(server, 0).await;
    };
    let server = filled(leave_a_call, 90).await;
    tokio::time::sleep(GRACE).await;
    open(&mut pipe(&server)).await;
    assert_eq!(server.stats().session_records, 90);
}

/// 16 is enough for any client, and too few to lock others out.
#[tokio::test]
async fn one_connection_cannot_open_every_session() {
    let server = server_of(20);
    let mut greedy = pipe(&server);
    for _ in 0..16 {
        let session = open(&mut greedy).await;
        greedy.call(ask("rpc.cancel", session, 0)).await;
    }
    let refused = greedy.call_json(HELLO).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    let detail = refused["error"]["data"]["detail"].as_str().unwrap();
    assert!(
        detail.contains("limit of this connection reached (16)"),
        "{detail}"
    );
    open(&mut pipe(&server)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_lease_has_ended_makes_room_before_any_sweep() {
    let server = server_of(1);
    let (mut one, session) = client(&server).await;
    one.call(inc(session, 0)).await;
    // Between two sweeps.
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(one);
    connections_left(&server, 0).await;
    tokio::time::sleep(LEASE).await;
    let mut two = pipe(&server);
    assert_eq!(code(&two.call_json(inc(session, 0)).await), -32004);
    open(&mut two).await;
}

/// Its client lost its connection a moment ago, and comes back with its next call.
#[tokio::test(start_paused = true)]
async fn a_flood_of_hellos_ends_no_lease() {
    let server = server_of(10);
    let (mut mine, session) = client(&server).await;
    mine.call(inc(session, 0)).await;
    mine.send(ack(session, 1, &json!([]))).await;
    drop(mine);
    connections_left(&server, 0).await;
    tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
    let mut hostile = pipe(&server);
    for _ in 0..9 {
        open(&mut hostile).await;
    }
    assert_eq!(code(&hostile.call_json(HELLO).await), -32001);
    let reply = pipe(&server).call_json(inc(session, 1)).await;
    assert!(reply.get("result").is_some(), "{reply}");
}
