//! Sessions that a server has looked for, and nothing holds there any more.

use std::time::Duration;

use redial_server::Config;
use serde_json::json;

use super::{TwoServers, cut};
use crate::common::{
    code, executed,
    session::{attach, client, config, connections_left, request},
    until,
};

/// Kind of fault: what is taken hold of for a purpose is kept though nothing came of it. Instance: a session that
/// is found where there is no room for it, whose lease never ended.
#[tokio::test(start_paused = true)]
async fn a_session_that_there_is_no_room_for_is_left() {
    let world = TwoServers::with(Config {
        max_sessions: 1,
        ..config()
    });
    let ([_one, mut other], session) = world.client().await;
    let (_third, _own) = client(&world.servers[1]).await;
    let refused = other.call_json(attach(session)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "unknown"));
    assert!(!world.table.is_held(1, session));
}

/// Who asks goes while it is looked for: nothing holds the session then.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_found_for_a_peer_that_has_gone_is_left() {
    let world = TwoServers::new();
    let ([_one, mut other], session) = world.client().await;
    world.table.hold_finds();
    other.send(attach(session)).await;
    until("it is looked for", || world.table.finds() == 1).await;
    cut(other).await;
    connections_left(&world.servers[1], 0).await;
    world.table.release_finds();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!world.table.is_held(1, session));
}

/// The neighbour: what is asked is what was acknowledged elsewhere, for a call that has found no slot.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_looked_at_again_for_a_peer_that_has_gone_is_left() {
    let world = TwoServers::with(Config {
        max_in_flight: 4,
        ..config()
    });
    let ([_one, mut other], session) = world.client().await;
    let call = |number| request("inc", session, number, json!({"ack": 0}));
    other.call(call(0)).await;
    let found = world.table.finds();
    world.table.hold_finds();
    let mut number = 1;
    let refused = loop {
        let reply = other.call_json(call(number)).await;
        if reply["error"].is_object() {
            break reply;
        }
        number += 1;
    };
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    assert_eq!(world.table.finds(), found + 1);
    cut(other).await;
    connections_left(&world.servers[1], 0).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(!world.table.is_held(1, session));
    world.table.release_finds();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!world.table.is_held(1, session));
}
