//! Sessions without records take next to no memory, and their gaps as much as is counted. Measured
//! on the whole process, so this file has one test.
#![cfg(target_os = "linux")]

#[path = "it/common/mod.rs"]
mod common;

use common::{
    Peer, Service, pipe, resident_kib,
    session::{PING, ask, config, open},
};
use redial_protocol::SessionId;
use redial_server::Server;
use tokio::io::DuplexStream;

const CONNECTIONS: usize = 128;

/// As many as a connection may open.
const SESSIONS_EACH: usize = 16;

const SESSIONS: usize = CONNECTIONS * SESSIONS_EACH;

async fn connections(server: &Server) -> Vec<Peer<DuplexStream>> {
    let mut peers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut peer = pipe(server);
        // What a connection allocates once is allocated here.
        for _ in 0..SESSIONS_EACH {
            peer.call(PING).await;
        }
        peers.push(peer);
    }
    peers
}

#[tokio::test]
async fn empty_sessions_take_less_than_a_kib_each_and_gaps_what_they_count_for() {
    let server = Service::default().server(config());
    let mut peers = connections(&server).await;

    let before = resident_kib();
    let mut sessions: Vec<SessionId> = Vec::new();
    for peer in &mut peers {
        for _ in 0..SESSIONS_EACH {
            sessions.push(open(peer).await);
        }
    }
    let used = resident_kib().saturating_sub(before);
    println!("{SESSIONS} empty sessions take {used} KiB");
    assert_eq!(server.stats().sessions, SESSIONS);
    assert_eq!(server.stats().session_bytes, 0);
    assert!(used < SESSIONS, "{used} KiB");

    // The last number that is let pass, with 1,023 before it that never arrived.
    let before = resident_kib();
    for (peer, session) in peers.iter_mut().zip(sessions) {
        peer.call(ask("rpc.cancel", session, 1023)).await;
    }
    let (used, counted) = (
        resident_kib().saturating_sub(before),
        server.stats().session_bytes / 1024,
    );
    println!("their gaps take {used} KiB, of which {counted} KiB are counted");
    assert!(counted >= CONNECTIONS * 32, "{counted} KiB");
    assert!(used < counted * 3 / 2, "{used} KiB of {counted}");
}
