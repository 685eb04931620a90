//! A session whose client went without a word, everything acknowledged, costs a few hundred bytes
//! until its lease ends. Measured on the whole process, so this file has one test.
#![cfg(target_os = "linux")]

#[path = "it/common/mod.rs"]
mod common;

use common::{
    Service, pipe, resident_kib,
    session::{ack, config, connections_left, inc, open},
};
use redial_server::{Config, Server};
use serde_json::json;

const SESSIONS_EACH: usize = 16;
const CALLS_EACH: u64 = 8;

/// Clients that open sessions, use them, acknowledge everything, and are gone.
async fn abandon(server: &Server, clients: usize) {
    for _ in 0..clients {
        let mut peer = pipe(server);
        for _ in 0..SESSIONS_EACH {
            let session = open(&mut peer).await;
            for number in 0..CALLS_EACH {
                peer.send(inc(session, number)).await;
            }
            for _ in 0..CALLS_EACH {
                assert!(peer.receive_json().await["error"].is_null());
            }
            peer.send(ack(session, CALLS_EACH, &json!([]))).await;
        }
        drop(peer);
        connections_left(server, 0).await;
    }
}

#[tokio::test]
async fn a_session_that_is_abandoned_with_everything_acknowledged_takes_less_than_a_kib() {
    let server = Service::default().server(Config {
        max_sessions: 10_000,
        ..config()
    });
    // What is allocated once is allocated here.
    abandon(&server, 50).await;
    let (before, known) = (resident_kib(), server.stats().sessions);
    abandon(&server, 300).await;
    let (used, more) = (resident_kib() - before, server.stats().sessions - known);
    assert_eq!(more, 300 * SESSIONS_EACH);
    assert_eq!(server.stats().session_records, 0);
    let each = used * 1024 / more;
    println!("{more} abandoned sessions take {used} KiB, {each} bytes each");
    assert!(each < 1024, "{each} bytes");
}
