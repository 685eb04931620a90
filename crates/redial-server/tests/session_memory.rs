//! What a session takes: measured on the process as a whole, so this file has one test alone.
#![cfg(target_os = "linux")]

mod common;

use common::{Peer, Service, pipe};
use redial_protocol::{SessionCall, SessionId};
use redial_server::{Config, Server};
use serde_json::json;
use tokio::io::DuplexStream;

const WINDOW: usize = 512;
const SESSIONS: usize = 64;

/// Resident memory of this process, in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A session whose window is full of replies of 100 bytes.
async fn full_session(server: &Server) -> Peer<DuplexStream> {
    let mut peer = pipe(server);
    let hello = peer
        .call_json(r#"{"jsonrpc":"2.0","id":1,"method":"rpc.hello"}"#)
        .await;
    let session: SessionId = hello["result"]["session"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    for number in 0..WINDOW as u64 {
        let id = SessionCall { session, number }.uuid();
        let request =
            json!({"jsonrpc": "2.0", "id": id.to_string(), "method": "text", "params": {}});
        let reply = peer.call(request.to_string()).await;
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
    assert_eq!(
        stats.session_bytes,
        (SESSIONS + 1) * WINDOW * (100 + r#""result":"#.len())
    );
    assert!(each <= 256, "{each} KiB");
}
