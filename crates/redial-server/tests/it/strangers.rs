//! Connections that have shown nothing yet, from as many addresses as they like, keep out those that have
//! something to show, or take the connections of those that have shown it.

use std::time::Duration;

use redial_server::{Config, Server};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream};

use crate::common::{Names, Peer, Service, code, executed, pipe_from, session::PING};

/// How many connections there are at most, and how many of them strangers take from others.
const MAX: usize = 32;
const STRANGERS: usize = MAX / 16;

fn server() -> Server {
    let config = Config {
        max_connections: MAX,
        ..Config::default()
    };
    let builder = Service::default().builder().config(config);
    builder.authenticate(Names).build().unwrap()
}

async fn known(server: &Server, address: u8, name: &str) -> Peer<DuplexStream> {
    let mut peer = stranger(server, address).await;
    let auth = json!({"id": "a", "method": "rpc.auth", "params": {"token": name}});
    let reply = peer.call_json(auth.to_string()).await;
    assert_eq!(reply["result"]["principal"], name, "{reply}");
    peer
}

/// Connects, and is accepted before anything else happens.
async fn stranger(server: &Server, address: u8) -> Peer<DuplexStream> {
    let peer = pipe_from(server, &format!("198.51.100.{address}"));
    tokio::task::yield_now().await;
    peer
}

async fn full(server: &Server) -> Vec<Peer<DuplexStream>> {
    let mut held = Vec::new();
    for address in 1..=MAX as u8 {
        held.push(known(server, address, "token:all").await);
    }
    assert_eq!(server.stats().connections, MAX);
    held
}

async fn is_open(peer: &mut Peer<DuplexStream>) -> bool {
    let mut frame = u32::try_from(PING.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(PING.as_bytes());
    // Its end may be closed already.
    let _ = peer.io.write_all(&frame).await;
    let reply = peer.receive().await;
    reply.is_some_and(|reply| reply.contains("pong"))
}

/// Kind: who shows nothing counts as much as who has shown it. Instance: an address for each connection,
/// which holds fewer than a principal does.
#[tokio::test(start_paused = true)]
async fn strangers_from_many_addresses_take_a_sixteenth_of_all_places_at_most() {
    let server = server();
    let mut held = full(&server).await;
    let mut crowd = Vec::new();
    for address in 100..140 {
        crowd.push(stranger(&server, address).await);
    }
    let mut open = 0;
    for peer in &mut held {
        open += usize::from(is_open(peer).await);
    }
    assert_eq!(open, MAX - STRANGERS);
    assert_eq!(server.stats().connections, MAX);
    // Those that don't get in hear why.
    let mut last = stranger(&server, 200).await;
    let words = last.receive_json().await;
    assert_eq!((code(&words), executed(&words)), (-32001, "no"));
}

/// However many there are, one that comes after them gets its chance.
#[tokio::test(start_paused = true)]
async fn a_stranger_that_has_had_its_second_makes_room_for_another() {
    let server = server();
    let mut held = full(&server).await;
    let mut crowd = Vec::new();
    for address in 100..120 {
        crowd.push(stranger(&server, address).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for name in ["token:new", "token:newer", "token:newest"] {
        let mut new = known(&server, 150, name).await;
        assert!(is_open(&mut new).await);
        held.push(new);
    }
    // And it is no stranger any more: the next ones take none of its connections.
    for address in 120..140 {
        crowd.push(stranger(&server, address).await);
    }
    for peer in &mut held[MAX..] {
        assert!(is_open(peer).await);
    }
}

/// One address with many strangers gives up one of its own, as with connections in general.
#[tokio::test(start_paused = true)]
async fn an_address_with_many_strangers_makes_room_for_one_with_fewer() {
    let server = server();
    let _held = full(&server).await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(stranger(&server, 100).await);
    }
    let mut other = known(&server, 101, "token:other").await;
    assert!(is_open(&mut other).await);
}

/// Where the limit of connections leaves room, strangers may have all of it: a fleet that comes back at once is no flood.
#[tokio::test(start_paused = true)]
async fn strangers_take_what_is_free() {
    let server = server();
    let mut fleet = Vec::new();
    for _ in 0..MAX {
        fleet.push(stranger(&server, 1).await);
    }
    for peer in &mut fleet {
        assert!(is_open(peer).await);
    }
}
