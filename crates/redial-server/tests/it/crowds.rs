//! Over real sockets, peers that flood the server get an error or a closed connection, others are
//! served meanwhile, and what the server holds for them is bounded.

use std::{net::SocketAddr, time::Duration};

use crate::common::{PATIENCE, Peer, Service, code, connect, eventually, executed, listen, uuid};
use redial_server::{Config, Limits, Server};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PING: &str = r#"{"id":"1","method":"rpc.ping"}"#;
const GET: &str = r#"{"id":"2","method":"get"}"#;

fn framed(body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length, body.as_bytes()].concat()
}

async fn expect_served(peer: &mut Peer<TcpStream>) {
    assert!(peer.call(PING).await.contains("pong"));
    assert!(peer.call(GET).await.contains("result"));
}

async fn world(config: Config) -> (Service, Server, SocketAddr) {
    let service = Service::default();
    let server = service.server(config);
    let address = listen(&server).await;
    (service, server, address)
}

#[tokio::test]
async fn a_peer_that_sends_100_000_requests_and_reads_nothing_is_stopped_then_closed() {
    const REQUESTS: u32 = 100_000;
    let (_, server, address) = world(Config {
        unsent_pause_bytes: 64 * 1024,
        write_timeout: Duration::from_millis(500),
        ..Config::default()
    })
    .await;
    let mut other = connect(address).await;
    let mut deaf = connect(address).await;
    // 40 MB, which no socket's buffers hold.
    let padding = "x".repeat(350);
    let ask = format!(r#"{{"id":"d","method":"big","params":[1000],"padding":"{padding}"}}"#);
    let ask = framed(&ask);
    let sending = tokio::spawn(tokio::time::timeout(PATIENCE, async move {
        for _ in 0..REQUESTS {
            deaf.io.write_all(&ask).await?;
        }
        Ok::<(), std::io::Error>(())
    }));
    while !sending.is_finished() {
        expect_served(&mut other).await;
    }
    let sent = sending.await.unwrap().expect("neither read nor closed");
    sent.expect_err("the server went on reading");
    eventually("only the other is there", || {
        server.stats().connections == 1
    })
    .await;
    expect_served(&mut other).await;
}

#[tokio::test]
async fn a_flood_of_distinct_ids_fills_the_table_and_no_more() {
    const RECORDS: usize = 1_000;
    const FLOOD: u32 = 20_000;
    let (service, server, address) = world(Config {
        max_records: RECORDS,
        ..Config::default()
    })
    .await;
    let mut other = connect(address).await;
    let (mut from, mut to) = connect(address).await.io.into_split();
    let flood = tokio::spawn(async move {
        for number in 0..FLOOD {
            let inc = format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number));
            to.write_all(&framed(&inc)).await.unwrap();
        }
        to
    });
    let mut refused = 0;
    for number in 0..FLOOD {
        let length = from.read_u32().await.unwrap();
        let mut body = vec![0; length as usize];
        from.read_exact(&mut body).await.unwrap();
        let reply: Value = serde_json::from_slice(&body).unwrap();
        if !reply["error"].is_null() {
            assert_eq!((code(&reply), executed(&reply)), (-32001, "no"));
            assert!(reply["error"]["data"]["retry_after_ms"].as_u64() > Some(0));
            refused += 1;
        }
        if number % 5_000 == 0 {
            expect_served(&mut other).await;
        }
        assert!(server.stats().records <= RECORDS);
    }
    drop(flood.await.unwrap());
    assert_eq!(service.effects() as usize, RECORDS);
    assert_eq!(refused, FLOOD - RECORDS as u32);
    // Calls of sessions do not share that limit.
    let hello = other.call_json(r#"{"id":"h","method":"rpc.hello"}"#).await;
    assert!(hello["result"]["session"].is_string(), "{hello}");
}

#[tokio::test]
async fn a_flood_of_connections_is_closed_at_once_and_open_ones_stay() {
    const LIMIT: usize = 20;
    let (_, server, address) = world(Config {
        max_connections: LIMIT,
        ..Config::default()
    })
    .await;
    let mut other = connect(address).await;
    expect_served(&mut other).await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(connect(address).await);
    }
    expect_served(&mut other).await;
    let (mut closed, mut tried) = (0, Vec::new());
    for mut peer in flood {
        let ask = peer.io.write_all(&framed(PING)).await;
        // Whether it heard why or not.
        let answer = if ask.is_ok() {
            peer.receive().await
        } else {
            None
        };
        closed += usize::from(answer.is_none_or(|answer| !answer.contains("pong")));
        assert!(server.stats().connections <= LIMIT);
        // The first ones stay connected until the last has been tried.
        tried.push(peer);
    }
    assert_eq!(closed, 200 - (LIMIT - 1));
    expect_served(&mut other).await;
}

#[tokio::test]
async fn half_open_frames_are_closed_in_time_and_cost_no_frame() {
    const HALVES: usize = 100;
    let (_, server, address) = world(Config {
        limits: Limits {
            max_frame_bytes: 64 * 1024 * 1024,
            ..Limits::default()
        },
        frame_timeout: Duration::from_millis(500),
        ..Config::default()
    })
    .await;
    let mut other = connect(address).await;
    let mut halves = Vec::new();
    for _ in 0..HALVES {
        let mut half = connect(address).await;
        let promise = (64u32 * 1024 * 1024).to_be_bytes();
        half.io.write_all(&promise).await.unwrap();
        half.io.write_all(b"{\"id\":").await.unwrap();
        halves.push(half);
    }
    eventually("all of them are there", || {
        server.stats().connections == HALVES + 1
    })
    .await;
    expect_served(&mut other).await;
    for half in &mut halves {
        let reply: Value = half.receive_json().await;
        assert_eq!((code(&reply), executed(&reply)), (-32600, "no"));
        half.expect_end().await;
    }
    expect_served(&mut other).await;
}

#[tokio::test]
async fn peers_that_drip_bytes_are_closed() {
    const PEERS: usize = 30;
    let (_, server, address) = world(Config {
        frame_timeout: Duration::from_millis(400),
        ..Config::default()
    })
    .await;
    let mut other = connect(address).await;
    let mut dripping = Vec::new();
    for number in 0..PEERS {
        let mut peer = connect(address).await;
        dripping.push(tokio::spawn(async move {
            // Half of them never complete the header.
            let start: &[u8] = if number % 2 == 0 {
                &[0, 0]
            } else {
                &[0, 0, 1, 0]
            };
            let mut sent = peer.io.write_all(start).await;
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if number % 2 == 1 && sent.is_ok() {
                    sent = peer.io.write_all(b" ").await;
                }
                // The error says why, unless a reset lost it.
                let mut word = [0; 1024];
                match peer.io.try_read(&mut word) {
                    Ok(0) => return true,
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return true,
                    _ => {}
                }
            }
            false
        }));
    }
    eventually("all are there", || server.stats().connections == PEERS + 1).await;
    expect_served(&mut other).await;
    for peer in dripping {
        assert!(peer.await.unwrap(), "it was let drip for 4 s");
    }
    expect_served(&mut other).await;
}

#[tokio::test]
async fn a_batch_of_100_000_is_one_error_and_affects_no_other_peer() {
    let (service, _, address) = world(Config::default()).await;
    let (mut sender, mut other) = (connect(address).await, connect(address).await);
    let entry = r#"{"id":1,"method":"inc"},"#;
    let batch = format!("[{}1]", "1,".repeat(99_999));
    assert_eq!(code(&sender.call_json(batch).await), -32600);
    let too_long = format!("[{}1]", entry.repeat(100_000));
    sender.send(too_long).await;
    let reply = sender.receive_json().await;
    assert_eq!((code(&reply), executed(&reply)), (-32600, "no"));
    sender.expect_end().await;
    expect_served(&mut other).await;
    assert_eq!(service.effects(), 0);
}

/// Kind: a limit that is not the program's own choice. Instance: the system's queue of connections that are not accepted
/// yet, which tokio has as short as 128: a peer that connects while it is full waits for a second or more.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_crowd_connects_before_anything_is_accepted() {
    const CROWD: usize = 300;
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if most.trim().parse::<usize>().unwrap() < CROWD {
        println!("skipped: the system keeps no more than {}", most.trim());
        return;
    }
    let server = Service::default().server(Config::default());
    let listener = server.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let connecting = tokio::time::timeout(PATIENCE / 4, TcpStream::connect(address));
        let connected = connecting
            .await
            .unwrap_or_else(|_| panic!("{number} waits"));
        crowd.push(connected.unwrap());
    }
    tokio::spawn(async move { server.serve(listener).await });
    let mut last = Peer {
        io: crowd.pop().unwrap(),
    };
    expect_served(&mut last).await;
}
