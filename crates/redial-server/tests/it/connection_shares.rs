//! One peer holds all connections: others get in all the same, and who has to go hears why.

use std::{net::SocketAddr, time::Duration};

use redial_server::{Config, Server};
use tokio::net::{TcpSocket, TcpStream};

use crate::common::{Peer, Service, code, eventually, executed, listen, pipe_from, until};

const PING: &str = r#"{"id":"1","method":"rpc.ping"}"#;
const HOG: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// How long a connection has been idle that goes to make room for another one of its own peer.
const SPARE_AFTER: Duration = Duration::from_secs(10);

/// With so many connections, all of them the hog's and idle.
async fn filled(max_connections: usize) -> (Server, Vec<Peer<tokio::io::DuplexStream>>) {
    let server = Service::default().server(Config {
        max_connections,
        ..Config::default()
    });
    let mut held = Vec::new();
    for _ in 0..max_connections {
        let mut peer = pipe_from(&server, HOG);
        assert!(peer.call(PING).await.contains("pong"));
        held.push(peer);
    }
    (server, held)
}

fn detail(reply: &serde_json::Value) -> &str {
    reply["error"]["data"]["detail"].as_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn another_peer_takes_the_place_of_the_longest_idle_connection() {
    let (server, mut held) = filled(4).await;
    // The first has been active since: the second is idle longest.
    tokio::time::sleep(Duration::from_secs(2)).await;
    held[0].call(PING).await;
    let mut other = pipe_from(&server, OTHER);
    assert!(other.call(PING).await.contains("pong"));
    let refusal = held[1].receive_json().await;
    assert_eq!((code(&refusal), executed(&refusal)), (-32001, "unknown"));
    assert!(refusal["id"].is_null());
    assert!(detail(&refusal).contains("connection limit reached (4)"));
    held[1].expect_end().await;
    for index in [0, 2, 3] {
        assert!(held[index].call(PING).await.contains("pong"), "{index}");
    }
    assert_eq!(server.stats().connections, 4);
}

/// Shares converge, and no further: with as many as the hog, another peer displaces no more.
#[tokio::test(start_paused = true)]
async fn a_peer_displaces_others_up_to_an_equal_share() {
    let (server, _held) = filled(4).await;
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = pipe_from(&server, OTHER);
        assert!(other.call(PING).await.contains("pong"));
        others.push(other);
    }
    let refused = pipe_from(&server, OTHER).receive_json().await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    let mut third = pipe_from(&server, "192.0.2.3");
    assert!(third.call(PING).await.contains("pong"));
}

/// A connection whose calls run is given up last, but it is: its calls go on.
#[tokio::test(start_paused = true)]
async fn a_peer_with_nothing_idle_gives_up_a_connection_too() {
    let (server, mut held) = filled(3).await;
    for (number, peer) in held.iter_mut().enumerate() {
        peer.send(format!(
            r#"{{"id":"slow {number}","method":"slow_inc","params":{{"ms":60000}}}}"#
        ))
        .await;
    }
    until("all of them run", || server.stats().running == 3).await;
    let mut other = pipe_from(&server, OTHER);
    assert!(other.call(PING).await.contains("pong"));
    assert_eq!(server.stats().running, 3);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_holds_all_is_refused_until_one_of_its_own_is_spare() {
    let (server, mut held) = filled(3).await;
    let mut refused = pipe_from(&server, HOG);
    let words = refused.receive_json().await;
    assert_eq!((code(&words), executed(&words)), (-32001, "no"));
    assert!(words["id"].is_null() && words["error"]["data"]["retry_after_ms"].is_u64());
    refused.expect_end().await;
    tokio::time::sleep(SPARE_AFTER + Duration::from_secs(1)).await;
    held[0].call(PING).await;
    assert!(pipe_from(&server, HOG).call(PING).await.contains("pong"));
    assert_eq!(code(&held[1].receive_json().await), -32001);
    held[1].expect_end().await;
    assert!(held[0].call(PING).await.contains("pong"));
}

async fn connect_from(source: &str, address: SocketAddr) -> Peer<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let io = socket.connect(address).await.unwrap();
    Peer { io }
}

/// Over sockets: another address of loopback, and a crowd of which only some hear why.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_crowd_from_one_address_keeps_no_other_address_out() {
    let server = Service::default().server(Config {
        max_connections: 20,
        ..Config::default()
    });
    let address = listen(&server).await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(connect_from("127.0.0.1", address).await);
    }
    eventually("it is full", || server.stats().connections == 20).await;
    let mut other = connect_from("127.0.0.2", address).await;
    assert!(other.call(PING).await.contains("pong"));
    let mut heard = 0;
    for peer in crowd.iter_mut().skip(20) {
        heard += usize::from(
            peer.receive()
                .await
                .is_some_and(|words| words.contains("-32001")),
        );
    }
    assert!(heard >= 64, "{heard} of 180 heard why");
    assert!(other.call(PING).await.contains("pong"));
}
