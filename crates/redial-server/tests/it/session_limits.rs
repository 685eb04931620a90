//! What sessions may take is bounded, and everything counts that takes memory: questions and empty
//! slots, too.

use crate::common::{
    Service, code, executed, pipe,
    session::{PING, ack_request, ask, attempt, client, config, inc, request_with},
};
use redial_server::Config;
use serde_json::json;

/// A connection with 4 calls in flight at most reads one call and 3 questions about it. Another 15
/// such connections can ask 60 times, fewer than the 64 that may wait for a call.
#[tokio::test(start_paused = true)]
async fn questions_count_as_in_flight() {
    let service = Service::default();
    let server = service.server(Config {
        max_in_flight: 4,
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    let slow = (json!({"ms": 1_000}), json!({}));
    peer.send(request_with("slow_inc", session, 0, slow)).await;
    let mut peers = vec![peer];
    peers.extend((0..15).map(|_| pipe(&server)));
    for peer in &mut peers {
        for _ in 0..60 {
            peer.send(ask("rpc.resolve", session, 0)).await;
        }
        let pong = peer.call(PING).await;
        assert!(pong.contains("pong"), "{pong}");
    }
    // None was refused: a connection at its limit is read on when the call has finished.
    for (index, peer) in peers.iter_mut().enumerate() {
        for _ in 0..60 + usize::from(index == 0) {
            let reply = peer.receive_json().await;
            assert!(reply.get("result").is_some(), "{index}: {reply}");
        }
    }
    assert_eq!(service.effects(), 1);
}

#[tokio::test]
async fn a_window_has_a_largest_size() {
    let build = |max_in_flight| {
        let config = Config {
            max_in_flight,
            ..config()
        };
        Service::default().builder().config(config).build()
    };
    assert!(build(65_536).is_ok());
    for size in [65_537, usize::MAX] {
        let error = build(size).err().expect("too large").to_string();
        for word in ["max_in_flight", &size.to_string(), "65536"] {
            assert!(error.contains(word), "{error}");
        }
    }
}

/// A call that was cancelled before it arrived holds the slots before it open, and no record.
#[tokio::test]
async fn records_count_calls_and_not_gaps() {
    let server = Service::default().server(config());
    let (mut peer, session) = client(&server).await;
    peer.call(ask("rpc.cancel", session, 1023)).await;
    assert_eq!(server.stats().session_records, 0);
    peer.call(inc(session, 5)).await;
    assert_eq!(server.stats().session_records, 1);
}

#[tokio::test]
async fn gaps_count_as_the_memory_they_take() {
    let service = Service::default();
    let server = service.server(Config {
        max_all_session_bytes: 20_000,
        ..config()
    });
    let (mut hostile, theirs) = client(&server).await;
    hostile.call(ask("rpc.cancel", theirs, 1023)).await;
    assert!(server.stats().session_bytes >= 1_024 * 32);
    let (mut peer, session) = client(&server).await;
    let refused = peer.call_json(inc(session, 0)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    assert_eq!(service.effects(), 0);
    hostile.call(ack_request(theirs, 1024, &json!([]))).await;
    assert_eq!(server.stats().session_bytes, 0);
    let reply = peer.call_json(attempt("inc", session, 0, 2)).await;
    assert_eq!(reply["result"]["value"], 1);
}
