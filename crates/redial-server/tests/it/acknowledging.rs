//! An acknowledgement frees what the call held at once, and is final once accepted. An invalid one
//! changes nothing, and neither does one beyond the window.

use crate::common::{
    Service, code, executed, pipe,
    session::{PING, ack, ack_request, attempt, client, config, inc, one_at_a_time, open, request},
};
use redial_server::Config;
use serde_json::json;

fn narrow() -> Config {
    Config {
        max_in_flight: 4,
        ..config()
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_that_is_acknowledged_frees_its_permit() {
    let service = Service::default();
    let server = service.server(Config {
        max_queued: 1,
        ..one_at_a_time()
    });
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    peer.send(inc(session, 1)).await;
    peer.send(ack(session, 0, &json!([[1, 2]]))).await;
    assert_eq!(executed(&peer.receive_json().await), "no");
    assert_eq!(server.stats().queued, 0);
    peer.send(inc(session, 2)).await;
    for reply in peer.receive_all::<2>().await {
        assert!(reply.get("result").is_some(), "{reply}");
    }
    assert_eq!((service.effects(), server.stats().session_records), (2, 2));
}

#[tokio::test]
async fn an_accepted_acknowledgement_is_final() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(narrow())).await;
    // As far ahead as the window allows, of a call that has not arrived.
    let accepted = peer
        .call_json(ack_request(session, 0, &json!([[8, 9]])))
        .await;
    assert_eq!(accepted["result"], true, "{accepted}");
    peer.send(ack(session, 5, &json!([]))).await;
    let late = peer.call_json(inc(session, 8)).await;
    assert_eq!((code(&late), executed(&late)), (-32007, "unknown"));
    assert_eq!(service.effects(), 0);
}

#[tokio::test]
async fn an_acknowledgement_beyond_the_window_is_refused_and_changes_nothing() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(narrow())).await;
    for number in 0..3 {
        peer.call(inc(session, number)).await;
    }
    let beyond = peer
        .call_json(ack_request(session, 0, &json!([[9, 10]])))
        .await;
    assert_eq!((code(&beyond), executed(&beyond)), (-32001, "unknown"));
    for number in 0..3 {
        let again = peer.call_json(inc(session, number)).await;
        assert_eq!(again["redial"]["replayed"], true, "{number}: {again}");
    }
    peer.send(ack(session, 3, &json!([]))).await;
    let ninth = peer.call_json(inc(session, 9)).await;
    assert_eq!(ninth["result"]["value"], 4, "{ninth}");
}

/// What one query says taken for what another one has said already: one that goes further, or is of
/// another session.
#[tokio::test]
async fn of_the_acknowledgements_of_queries_only_repeated_ones_are_passed_over() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, one) = client(&server).await;
    let other = open(&mut peer).await;
    let stranger = open(&mut pipe(&server)).await;
    for number in 0..3 {
        for session in [one, other, stranger] {
            peer.call(inc(session, number)).await;
        }
    }
    for (session, ack, left) in [
        (one, 1, 8),
        (one, 1, 8),
        (other, 1, 7),
        (stranger, 1, 6),
        (one, 3, 4),
        (stranger, 2, 3),
        (other, 2, 2),
        (one, 1, 2),
        (other, 3, 1),
        (stranger, 3, 0),
    ] {
        let get = request("get", session, 3, json!({"ack": ack}));
        peer.call(get).await;
        assert_eq!(server.stats().session_records, left, "{session} {ack}");
    }
}

#[tokio::test]
async fn ranges_that_do_not_ascend_are_refused_and_change_nothing() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(narrow())).await;
    peer.call(inc(session, 0)).await;
    for ranges in [
        json!([[2, 3], [0, 1]]),
        json!([[0, 2], [1, 3]]),
        json!([[0, 1], [0, 1]]),
        json!([[1, 1]]),
        json!([[2, 1]]),
    ] {
        let reply = peer.call_json(ack_request(session, 0, &ranges)).await;
        assert_eq!(code(&reply), -32602, "{ranges}: {reply}");
        let detail = reply["error"]["data"]["detail"].as_str().unwrap();
        assert!(detail.contains("ascend"), "{detail}");
    }
    let again = peer.call_json(inc(session, 0)).await;
    assert_eq!(again["redial"]["replayed"], true);
    let adjacent = peer
        .call_json(ack_request(session, 0, &json!([[0, 1], [1, 2]])))
        .await;
    assert_eq!(adjacent["result"], true);
}

/// A frame full of ranges costs no more than reading it.
#[tokio::test]
async fn more_ranges_than_two_windows_and_one_are_refused() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(narrow())).await;
    peer.call(inc(session, 0)).await;
    let ranges = |count: u64| {
        let ranges: Vec<_> = (0..count).map(|n| [n, n + 1]).collect();
        ack_request(session, 0, &json!(ranges))
    };
    for count in [10, 50_000] {
        let refused = peer.call_json(ranges(count)).await;
        assert_eq!((code(&refused), executed(&refused)), (-32602, "no"));
        let detail = refused["error"]["data"]["detail"].as_str().unwrap();
        assert!(
            detail.contains(&format!("{count} ranges; expected at most 9")),
            "{detail}"
        );
    }
    assert!(peer.call(PING).await.contains("pong"));
    let again = peer.call_json(inc(session, 0)).await;
    assert_eq!(again["redial"]["replayed"], true);
    assert_eq!(peer.call_json(ranges(9)).await["result"], true);
}
