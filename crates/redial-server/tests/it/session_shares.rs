//! One peer opens all sessions, or keeps all bytes: others are served all the same, and what has to
//! go is unknown from then on and never executed again.

use std::time::Duration;

use redial_server::{Config, Context, Server};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::common::{
    Peer, Service, code, executed, pipe_from,
    session::{HELLO, attempt, config, connections_left, inc, open, request_with},
    uuid,
};
use redial_protocol::SessionId;

const HOG: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

async fn client_from(server: &Server, peer: &str) -> (Peer<DuplexStream>, SessionId) {
    let mut peer = pipe_from(server, peer);
    let session = open(&mut peer).await;
    (peer, session)
}

/// A server whose sessions are all the hog's, each with an outcome that is not acknowledged.
async fn abandoned(service: &Service, max_sessions: usize) -> (Server, Vec<SessionId>) {
    let server = service.server(Config {
        max_sessions,
        ..config()
    });
    let mut all = Vec::new();
    for _ in 0..max_sessions {
        let (mut peer, session) = client_from(&server, HOG).await;
        peer.call(inc(session, 0)).await;
        drop(peer);
        connections_left(&server, 0).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        all.push(session);
    }
    assert_eq!(server.stats().session_records, max_sessions);
    (server, all)
}

#[tokio::test(start_paused = true)]
async fn abandoned_sessions_keep_no_new_client_out() {
    for newcomer in [OTHER, HOG] {
        let service = Service::default();
        let (server, all) = abandoned(&service, 100).await;
        let (mut peer, session) = client_from(&server, newcomer).await;
        assert_eq!(
            peer.call_json(inc(session, 0)).await["result"]["value"],
            101
        );
        assert_eq!(server.stats().sessions, 100);
        // The first that was abandoned has gone: its call is unknown and does not run again.
        let gone = peer.call_json(inc(all[0], 0)).await;
        assert_eq!((code(&gone), executed(&gone)), (-32004, "unknown"));
        let kept = peer.call_json(inc(all[1], 0)).await;
        assert_eq!(kept["redial"]["replayed"], true);
        assert_eq!(service.effects(), 101);
    }
}

/// With a connection a session doesn't go: one peer can't attach to all of them.
#[tokio::test(start_paused = true)]
async fn sessions_with_connections_leave_some_for_others() {
    let server = Service::default().server(Config {
        max_sessions: 32,
        ..config()
    });
    let mut held = Vec::new();
    let refused = loop {
        let mut peer = pipe_from(&server, HOG);
        let reply = peer.call_json(HELLO).await;
        held.push(peer);
        if reply.get("result").is_none() {
            break reply;
        }
    };
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    // Kind: a refusal that names another limit than the one that was reached.
    let detail = refused["error"]["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("its share of the 32 sessions"), "{detail}");
    assert_eq!(server.stats().sessions, 30);
    client_from(&server, OTHER).await;
}

/// A hundred others that come at once cost a peer with one session nothing.
#[tokio::test(start_paused = true)]
async fn a_crowd_takes_no_session_of_a_peer_that_has_few() {
    let server = Service::default().server(Config {
        max_sessions: 20,
        ..config()
    });
    let (mut mine, session) = client_from(&server, OTHER).await;
    mine.call(inc(session, 0)).await;
    drop(mine);
    connections_left(&server, 0).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    for _ in 0..100 {
        let (mut peer, theirs) = client_from(&server, HOG).await;
        peer.call(inc(theirs, 0)).await;
        drop(peer);
        connections_left(&server, 0).await;
    }
    let replayed = pipe_from(&server, OTHER).call_json(inc(session, 0)).await;
    assert_eq!(replayed["redial"]["replayed"], true, "{replayed}");
}

const KIB: usize = 1024;
const MAX_BYTES: usize = 16 * 1024 * KIB;

/// Its `large` has an effect and a result of 64 KiB, after a while if that is asked for.
fn large_results(service: &Service, max_session_bytes: usize) -> Server {
    let builder = service.builder();
    let large = async |params: Value, _: Context| {
        if let Some(ms) = params["ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        Ok("x".repeat(64 * KIB))
    };
    let config = Config {
        max_session_bytes,
        max_all_session_bytes: MAX_BYTES,
        max_record_bytes: MAX_BYTES,
        ..config()
    };
    builder
        .mutation("large", large)
        .config(config)
        .build()
        .unwrap()
}

/// Runs large calls in sessions of the hog until all are refused.
async fn filled(server: &Server) -> Vec<Peer<DuplexStream>> {
    let mut held = Vec::new();
    loop {
        let (mut peer, session) = client_from(server, HOG).await;
        let mut number = 0;
        while let reply = peer.call_json(attempt("large", session, number, 1)).await
            && reply.get("result").is_some()
        {
            number += 1;
        }
        let is_full = number == 0;
        if is_full {
            // It is the peer's share that is full, and not its window.
            let refused = peer.call_json(attempt("large", session, 0, 2)).await;
            let detail = refused["error"]["data"]["detail"].as_str().unwrap();
            assert!(detail.contains("its share of the 16,777,216"), "{detail}");
        }
        held.push(peer);
        if is_full {
            return held;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn large_outcomes_of_one_client_refuse_no_calls_of_others() {
    let service = Service::default();
    let server = large_results(&service, 1024 * KIB);
    let (mut neighbour, near) = client_from(&server, HOG).await;
    let (mut hog, one) = client_from(&server, HOG).await;
    let mut sessions = vec![one];
    for _ in 1..16 {
        sessions.push(open(&mut hog).await);
    }
    let mut kept = 0;
    for session in sessions {
        let mut number = 0;
        while let reply = hog.call_json(attempt("large", session, number, 1)).await
            && reply.get("result").is_some()
        {
            number += 1;
        }
        kept += number;
    }
    assert!(kept * 64 * KIB as u64 > MAX_BYTES as u64 / 2, "{kept}");
    // Others behind the same address, and of another one.
    let (mut other, far) = client_from(&server, OTHER).await;
    for number in 0..100 {
        for (peer, session) in [(&mut neighbour, near), (&mut other, far)] {
            let reply = peer.call_json(inc(session, number)).await;
            assert!(reply.get("result").is_some(), "{number}: {reply}");
        }
    }
}

/// Even if it takes all that a peer can, with as many clients as it likes.
#[tokio::test(start_paused = true)]
async fn a_peer_that_keeps_all_it_can_leaves_bytes_for_others() {
    let server = large_results(&Service::default(), 1024 * KIB);
    let _held = filled(&server).await;
    let (mut other, session) = client_from(&server, OTHER).await;
    for number in 0..100 {
        let reply = other.call_json(inc(session, number)).await;
        assert!(reply.get("result").is_some(), "{number}: {reply}");
    }
}

/// What runs at once is counted before it has an outcome, as soon as it is known how large those are.
#[tokio::test(start_paused = true)]
async fn large_calls_that_run_at_once_stay_within_their_bytes() {
    let server = large_results(&Service::default(), MAX_BYTES);
    let (mut peer, session) = client_from(&server, HOG).await;
    peer.call(attempt("large", session, 0, 1)).await;
    for number in 1..=400 {
        let params = (json!({"ms": 100}), json!({}));
        peer.send(request_with("large", session, number, params))
            .await;
    }
    let mut served = 1;
    for _ in 0..400 {
        served += usize::from(peer.receive_json().await.get("result").is_some());
    }
    assert!((200..=256).contains(&served), "{served}");
    assert!(server.stats().session_bytes <= MAX_BYTES);
}

/// The same under plain ids, which the table keeps for all peers together.
#[tokio::test(start_paused = true)]
async fn large_calls_with_plain_ids_that_run_at_once_stay_within_their_bytes() {
    let server = large_results(&Service::default(), MAX_BYTES);
    let mut peer = pipe_from(&server, HOG);
    let call = |number: u32| {
        let id = uuid(number);
        format!(r#"{{"id":"{id}","method":"large","params":{{"ms":100}}}}"#)
    };
    peer.call(call(0)).await;
    for number in 1..=400 {
        peer.send(call(number)).await;
    }
    let mut served = 1;
    for _ in 0..400 {
        served += usize::from(peer.receive_json().await.get("result").is_some());
    }
    assert!((200..=256).contains(&served), "{served}");
    assert!(server.stats().record_bytes <= MAX_BYTES);
    // What was reserved and not needed is free again.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(server.stats().record_bytes, 0);
}
