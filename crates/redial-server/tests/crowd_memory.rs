//! Idle connections and half-open frames take little memory. Measured on the whole process, so this
//! file has one test.
#![cfg(target_os = "linux")]

#[path = "it/common/mod.rs"]
mod common;

use common::{Peer, Service, connect, eventually, listen, resident_kib};
use redial_server::{Config, Limits};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Below the limit of 1,024 descriptors that many systems set, with both ends in the process.
const PEERS: usize = 200;
const PING: &str = r#"{"id":"1","method":"rpc.ping"}"#;

/// Address space of this process, in KiB.
fn virtual_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmSize:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_idle_connection_takes_at_most_8_kib_and_a_half_open_frame_what_has_arrived() {
    let server = Service::default().server(Config {
        limits: Limits {
            max_frame_bytes: 256 * 1024 * 1024,
            ..Limits::default()
        },
        ..Config::default()
    });
    let address = listen(&server).await;
    // What is allocated once is allocated here.
    let mut peers: Vec<Peer<TcpStream>> = Vec::with_capacity(2 * PEERS);
    peers.push(connect(address).await);
    peers[0].call(PING).await;
    let before = resident_kib();
    for _ in 0..PEERS {
        let mut peer = connect(address).await;
        peer.call(PING).await;
        peers.push(peer);
    }
    let each = resident_kib().saturating_sub(before) as f64 / PEERS as f64;
    println!("an idle connection takes {each:.1} KiB, its peer included");
    assert!(each <= 8.0, "{each} KiB");

    // Memory that was asked for and not written to is not resident yet.
    let (before, virtual_before) = (resident_kib(), virtual_kib());
    for peer in &mut peers {
        // 256 MiB each, says the header.
        peer.io.write_all(&[0x10, 0, 0, 0]).await.unwrap();
        peer.io.write_all(&[b' '; 100]).await.unwrap();
    }
    peers[0].io.write_all(&[b' '; 100_000]).await.unwrap();
    let mut other = connect(address).await;
    assert!(other.call(PING).await.contains("pong"));
    eventually("all are there", || server.stats().connections == PEERS + 2).await;
    let each = resident_kib().saturating_sub(before) as f64 / PEERS as f64;
    println!("a half-open frame of 256 MiB takes {each:.1} KiB");
    assert!(each <= 8.0, "{each} KiB");
    let grown = virtual_kib().saturating_sub(virtual_before) / 1024;
    assert!(grown < 256, "{grown} MiB: a header was believed");
}
