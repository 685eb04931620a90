//! A call of a session is executed at most once, however late a copy of it arrives: until its
//! caller acknowledges it, it is replayed, and from then on refused.

use std::time::Duration;

use crate::common::{
    Service, code, connect, executed, listen, now, pipe,
    session::{ack, attach, client, config, id, inc, open, request},
    uuid,
};
use redial_protocol::{SessionCall, SessionId};
use redial_server::{Config, Delay, Fault, FaultRule};
use serde_json::json;

#[tokio::test]
async fn hello_returns_the_session_and_the_limits() {
    let server = Service::default().server(Config {
        max_in_flight: 17,
        ..config()
    });
    let mut peer = pipe(&server);
    let hello = peer
        .call_json(r#"{"id":"h","method":"rpc.hello","params":{}}"#)
        .await;
    let result = &hello["result"];
    assert_eq!(result["lease_ms"], 60_000);
    assert_eq!(result["max_frame"], 1024 * 1024);
    assert_eq!(result["max_in_flight"], 17);
    assert!(result["table"].as_str().unwrap().len() >= 16);
    let session: SessionId = result["session"].as_str().unwrap().parse().unwrap();
    assert_ne!(open(&mut pipe(&server)).await, session);
    // A second connection of the same client.
    let attached = pipe(&server).call_json(attach(session)).await;
    assert_eq!(attached["result"], *result);
    assert_eq!(server.stats().sessions, 2);
}

#[tokio::test]
async fn an_invalid_hello_is_refused_with_the_reason() {
    let server = Service::default().server(config());
    let mut peer = pipe(&server);
    for (params, expected) in [
        (json!({"session": "xyz"}), "15 hex digits"),
        (json!({"session": 7}), "string"),
        (json!({"sesion": "123456789abcdef"}), "sesion"),
    ] {
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "rpc.hello", "params": params});
        let reply = peer.call_json(hello.to_string()).await;
        assert_eq!((code(&reply), executed(&reply)), (-32602, "no"));
        let detail = reply["error"]["data"]["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{params}: {detail}");
    }
    assert_eq!(server.stats().sessions, 0);
}

#[tokio::test]
async fn an_unknown_session_is_unknown_and_its_mutations_are_not_executed() {
    let service = Service::default();
    let mut peer = pipe(&service.server(config()));
    let stranger = SessionId::from_bits(0xabc);
    let reply = peer.call_json(attach(stranger)).await;
    assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
    let reply = peer.call_json(inc(stranger, 0)).await;
    assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
    assert_eq!(service.effects(), 0);
    // A query has no effect, so it needs no session.
    let reply = peer
        .call_json(request("get", stranger, 1, json!({"ack": 1})))
        .await;
    assert_eq!(reply["result"], 0);
}

/// In the notebook dialect, too, and in whatever case the id is written.
#[tokio::test]
async fn a_duplicate_is_replayed_and_marked_so() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    let first = peer.call_json(inc(session, 0)).await;
    assert_eq!(
        (&first["result"]["value"], first.get("redial")),
        (&json!(1), None)
    );
    let again = peer.call_json(inc(session, 0)).await;
    assert_eq!(again["result"], first["result"]);
    assert_eq!(again["redial"]["replayed"], true);
    let id = id(session, 0).to_uppercase();
    let notebook = json!({"id": id, "method": "inc", "params": {}}).to_string();
    let again = peer.call_json(notebook).await;
    assert_eq!(
        (&again["result"]["value"], &again["id"]),
        (&json!(1), &json!(id))
    );
    let other = json!({"id": id, "method": "inc", "params": {"key": "other"}}).to_string();
    let reply = peer.call_json(other).await;
    assert_eq!((code(&reply), executed(&reply)), (-32003, "unknown"));
    assert_eq!(service.effects(), 1);
}

/// With a handler that returns at once, duplicates would never meet a running call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_and_three_after_have_one_effect() {
    let service = Service::default();
    let server = service.server(config());
    let delay = Delay::Fixed(Duration::from_millis(100));
    let rule = FaultRule::new(Fault::DelayExecution(delay), 1.0).unwrap();
    server.faults().set([rule.for_method("inc")]);
    let address = listen(&server).await;
    let session = open(&mut connect(address).await).await;

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        tasks.spawn(async move { connect(address).await.call_json(inc(session, 0)).await });
    }
    let mut replies = tasks.join_all().await;
    for _ in 0..3 {
        replies.push(connect(address).await.call_json(inc(session, 0)).await);
    }
    for reply in replies {
        assert_eq!(reply["result"]["value"], 1);
    }
    let stats = server.stats();
    assert_eq!((stats.started, stats.joined, stats.replayed), (1, 19, 3));
    assert_eq!(service.effects(), 1);
}

#[tokio::test]
async fn an_acknowledged_call_is_stale_however_it_was_acknowledged() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    for number in 0..5 {
        peer.call(inc(session, number)).await;
    }
    assert_eq!(server.stats().session_records, 5);
    // Alone, and above the lowest that is not acknowledged.
    peer.send(ack(session, 1, &json!([[3, 4]]))).await;
    // In a mutation, and in a query.
    peer.call(request("inc", session, 5, json!({"ack": 2})))
        .await;
    for (number, is_stale) in [(0, true), (1, true), (2, false), (3, true), (4, false)] {
        let reply = peer.call_json(inc(session, number)).await;
        if is_stale {
            assert_eq!((code(&reply), executed(&reply)), (-32007, "unknown"));
        } else {
            assert_eq!(reply["redial"]["replayed"], true);
        }
    }
    peer.call(request("get", session, 6, json!({"ack": 6})))
        .await;
    assert_eq!(server.stats().session_records, 0);
    assert_eq!(server.stats().session_bytes, 0);
    assert_eq!(service.effects(), 6);
}

#[tokio::test]
async fn a_restarted_server_executes_no_call_of_the_life_before() {
    let service = Service::default();
    let first = service.server(config());
    let mut peer = pipe(&first);
    let session = open(&mut peer).await;
    peer.call(inc(session, 0)).await;
    let mut peer = pipe(&service.server(config()));
    for number in [0, 1] {
        let reply = peer.call_json(inc(session, number)).await;
        assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
    }
    assert_eq!(service.effects(), 1);
    assert_ne!(open(&mut peer).await, session);
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_refused_attempt_is_refused_and_the_next_attempt_is_not() {
    let service = Service::default();
    let server = service.server(Config {
        max_running: 1,
        max_queued: 0,
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    peer.send(request("slow_inc", session, 0, json!({}))).await;
    let refused = peer.call_json(inc(session, 1)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    assert!(peer.receive().await.unwrap().contains("value"));
    // There is room again, but the caller may have heard that nothing was executed.
    let copy = peer.call_json(inc(session, 1)).await;
    assert_eq!((code(&copy), executed(&copy)), (-32001, "no"));
    assert_eq!(service.effects(), 1);
    let second = peer
        .call_json(request("inc", session, 1, json!({"attempt": 2})))
        .await;
    assert_eq!(second["result"]["value"], 2);
}

#[tokio::test]
async fn a_call_beyond_the_window_is_overload() {
    let service = Service::default();
    let server = service.server(Config {
        max_in_flight: 8,
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    // What is far beyond it is not noted, so that nothing is promised of it.
    for (number, said) in [
        (16, "no"),
        (1_000_000, "unknown"),
        (SessionCall::MAX_NUMBER, "unknown"),
    ] {
        let reply = peer.call_json(inc(session, number)).await;
        assert_eq!((code(&reply), executed(&reply)), (-32001, said));
        assert!(reply["error"]["data"]["retry_after_ms"].as_u64().unwrap() > 0);
    }
    assert_eq!(server.stats().session_records, 0);
    // There is a slot for this one, but a copy of its first attempt looks like those that were
    // refused.
    let again = request("inc", session, 15, json!({"attempt": 2}));
    assert_eq!(peer.call_json(again).await["result"]["value"], 1);
    // Acknowledging everything is the client's own decision.
    peer.send(ack(session, SessionCall::MAX_NUMBER + 1, &json!([])))
        .await;
    let reply = peer.call_json(inc(session, SessionCall::MAX_NUMBER)).await;
    assert_eq!(code(&reply), -32007);
    assert_eq!(open(&mut pipe(&server)).await.to_string().len(), 15);
}

/// Plain ids, counted ones and UUIDs of other versions work beside sessions.
#[tokio::test]
async fn plain_ids_live_beside_sessions() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, mut plain) = (pipe(&server), pipe(&server));
    let session = open(&mut peer).await;
    peer.call(inc(session, 0)).await;
    let notebook = format!(r#"{{"id":"{}","method":"inc","params":{{}}}}"#, uuid(1));
    for _ in 0..2 {
        let reply = plain.call_json(&notebook).await;
        assert_eq!(
            (&reply["result"]["value"], reply.get("redial")),
            (&json!(2), None)
        );
    }
    for value in [3, 4] {
        let counted = r#"{"jsonrpc":"2.0","id":0,"method":"inc","params":{}}"#;
        assert_eq!(plain.call_json(counted).await["result"]["value"], value);
    }
    peer.send(ack(session, 1, &json!([]))).await;
    assert_eq!(plain.call_json(&notebook).await["result"]["value"], 2);
    assert_eq!(server.stats().records, 1);
}

/// A client that makes its own ids of version 8 hears why they are refused, in either dialect.
#[tokio::test]
async fn a_uuid_of_version_8_always_names_a_call_of_a_session() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, _) = client(&server).await;
    let id = "6b1f0e1c-7f51-8f5c-9d0e-0a5d1c2b3a49";
    for request in [
        json!({"id": id, "method": "inc", "params": {}}),
        json!({"jsonrpc": "2.0", "id": id, "method": "inc", "params": {}}),
    ] {
        let reply = peer.call_json(request.to_string()).await;
        assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
        let detail = reply["error"]["data"]["detail"].as_str().unwrap();
        assert!(detail.contains("UUID of version 8"), "{detail}");
    }
    assert_eq!((service.effects(), server.stats().records), (0, 0));
}

/// What takes memory is what is not acknowledged: here 300 calls.
#[tokio::test]
async fn records_and_bytes_are_counted_and_freed() {
    let server = Service::default().server(Config {
        max_session_bytes: 2_000,
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    let mut number = 0;
    let refused = loop {
        let reply = peer.call_json(inc(session, number)).await;
        if reply.get("error").is_some() {
            break reply;
        }
        number += 1;
        assert!(number < 300, "the bytes of a session are not bounded");
    };
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    let stats = server.stats();
    assert_eq!(stats.session_records as u64, number);
    assert!(stats.session_bytes >= 2_000, "{stats:?}");
    peer.send(ack(session, number, &json!([]))).await;
    let next = request("inc", session, number, json!({"attempt": 2}));
    assert!(peer.call_json(next).await.get("result").is_some());
}

/// An acknowledgement may overtake the call on another connection, when no caller waits.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_acknowledged_while_it_runs_ends_and_leaves_nothing() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    let start = now();
    peer.send(request("slow_inc", session, 0, json!({}))).await;
    peer.send(request("slow_inc", session, 0, json!({}))).await;
    peer.send(ack(session, 1, &json!([]))).await;
    let joined = peer.receive_json().await;
    assert_eq!(code(&joined), -32007);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(peer.receive().await.unwrap().contains("value"));
    assert_eq!((service.effects(), server.stats().session_records), (1, 0));
}
