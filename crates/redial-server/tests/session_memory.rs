//! A session takes a bounded amount of memory. Measured on the whole process, so this file has one
//! test.
#![cfg(target_os = "linux")]

#[path = "it/common/mod.rs"]
mod common;

use common::{
    Peer, Service, resident_kib,
    session::{attempt, client},
};
use redial_server::{Config, Server};
use tokio::io::DuplexStream;

const WINDOW: usize = 512;
const SESSIONS: usize = 64;

/// A session whose window is full of replies of 100 bytes.
async fn full_session(server: &Server) -> Peer<DuplexStream> {
    let (mut peer, session) = client(server).await;
    for number in 0..WINDOW as u64 {
        let reply = peer.call(attempt("text", session, number, 1)).await;
        assert!(reply.contains("xxx"), "{reply}");
    }
    peer
}

#[tokio::test]
async fn a_window_full_of_replies_of_100_bytes_takes_at_most_256_kib() {
    let server = Service::default()
        .builder()
        .mutation("text", async |_: serde_json::Value, _| Ok("x".repeat(98)))
        .config(Config::default())
        .build()
        .unwrap();
    // What is allocated once is allocated here.
    let mut peers = vec![full_session(&server).await];
    let before = resident_kib();
    for _ in 0..SESSIONS {
        peers.push(full_session(&server).await);
    }
    let each = (resident_kib() - before) / SESSIONS;
    println!(
        "a session with its window full takes {each} KiB, its connection and its peer included"
    );
    let stats = server.stats();
    assert_eq!(stats.session_records, (SESSIONS + 1) * WINDOW);
    assert!(stats.session_bytes >= (SESSIONS + 1) * WINDOW * (100 + 32));
    assert!(each <= 256, "{each} KiB");
}
