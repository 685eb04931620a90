//! A session lives as long as any connection is attached to it, and for its lease after the last
//! one has closed: no shorter and no longer.

use std::time::Duration;

use crate::common::{
    Service, code, executed, pipe,
    session::{LEASE, PING, attach, client, config, connections_left, inc},
};
use redial_server::Config;

/// A configuration whose connections may be idle for as long as a test wants.
fn patient() -> Config {
    Config {
        idle_timeout: LEASE * 10,
        ..config()
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_outlives_its_last_connection_by_its_lease_and_no_longer() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    peer.call(inc(session, 0)).await;
    drop(peer);
    connections_left(&server, 0).await;
    tokio::time::sleep(LEASE - Duration::from_secs(1)).await;
    let mut peer = pipe(&server);
    let reply = peer.call_json(inc(session, 0)).await;
    assert_eq!(reply["redial"]["replayed"], true);
    drop(peer);
    connections_left(&server, 0).await;
    tokio::time::sleep(LEASE).await;
    let mut peer = pipe(&server);
    for number in [0, 1] {
        let reply = peer.call_json(inc(session, number)).await;
        assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
    }
    assert_eq!(service.effects(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.session_records), (0, 0));
}

/// Whether the connection opened the session or came back to it.
#[tokio::test(start_paused = true)]
async fn a_connection_holds_its_session_however_long_it_is_idle() {
    let server = Service::default().server(patient());
    let (mut peer, session) = client(&server).await;
    for number in 0..2 {
        tokio::time::sleep(LEASE * 5).await;
        assert_eq!(server.stats().sessions, 1);
        let reply = peer.call_json(inc(session, number)).await;
        assert_eq!(reply["result"]["value"], number + 1);
        drop(peer);
        connections_left(&server, 0).await;
        peer = pipe(&server);
        peer.call(attach(session)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_begins_with_the_end_of_the_last_of_several_connections() {
    let server = Service::default().server(patient());
    let (one, session) = client(&server).await;
    let mut two = pipe(&server);
    // A call attaches as well as a hello does.
    two.call(inc(session, 0)).await;
    drop(one);
    connections_left(&server, 1).await;
    tokio::time::sleep(LEASE * 3).await;
    let again = two.call_json(inc(session, 0)).await;
    assert_eq!(again["redial"]["replayed"], true, "{again}");
}

/// Repeating the calls of another process does not detach a client from its own session.
#[tokio::test(start_paused = true)]
async fn a_connection_holds_its_session_while_it_repeats_calls_of_others() {
    let server = Service::default().server(patient());
    let (mut mine, own) = client(&server).await;
    let (_other, theirs) = client(&server).await;
    mine.call(inc(own, 0)).await;
    let theirs = mine.call_json(inc(theirs, 0)).await;
    assert!(theirs.get("result").is_some(), "{theirs}");
    tokio::time::sleep(LEASE + Duration::from_secs(2)).await;
    let again = mine.call_json(inc(own, 0)).await;
    assert_eq!(again["redial"]["replayed"], true, "{again}");
}

/// The sweep may come later, but less than a lease later.
#[tokio::test(start_paused = true)]
async fn a_session_that_came_back_once_is_forgotten_when_its_last_lease_ends() {
    let server = Service::default().server(patient());
    let mut keeper = pipe(&server);
    keeper.call(PING).await;
    let (mut peer, session) = client(&server).await;
    peer.call(inc(session, 0)).await;
    drop(peer);
    connections_left(&server, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut peer = pipe(&server);
    peer.call(attach(session)).await;
    drop(peer);
    connections_left(&server, 1).await;
    // A second connection comes and goes just before the first lease would have ended.
    tokio::time::sleep(LEASE - Duration::from_secs(2)).await;
    drop(client(&server).await);
    connections_left(&server, 1).await;
    assert_eq!(server.stats().sessions, 2);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.session_records), (1, 0), "{stats:?}");
}
