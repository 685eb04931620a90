//! A retry is safe: a call has one effect however often it is sent, and every attempt gets the same
//! bytes.

use std::{sync::Arc, time::Duration};

use crate::common::{Service, code, connect, executed, listen, pipe, until, uuid};
use redial_server::{Config, Delay, Fault, FaultRule};
use tokio::sync::Barrier;

fn inc(id: &str) -> String {
    format!(r#"{{"id":"{id}","method":"inc","params":{{"key":"k"}}}}"#)
}

fn slow_inc(id: &str, ms: u64) -> String {
    format!(r#"{{"id":"{id}","method":"slow_inc","params":{{"ms":{ms}}}}}"#)
}

/// With a handler that returns at once, duplicates would never meet a running call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_and_three_after_have_one_effect_and_one_reply() {
    let service = Service::default();
    let server = service.server(Config::default());
    let delay = Delay::Fixed(Duration::from_millis(100));
    server
        .faults()
        .set([FaultRule::new(Fault::DelayExecution(delay), 1.0).unwrap()]);
    let address = listen(&server).await;
    let request = inc(&uuid(1));

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = request.clone();
        tasks.spawn(async move { connect(address).await.call(request).await });
    }
    let mut replies = tasks.join_all().await;
    for _ in 0..3 {
        replies.push(connect(address).await.call(&request).await);
    }

    assert_eq!(service.effects(), 1);
    assert_eq!(replies, vec![replies[0].clone(); 23]);
    let stats = server.stats();
    assert_eq!((stats.started, stats.joined, stats.replayed), (1, 19, 3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_is_joined_too_and_on_the_same_connection() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    let request = slow_inc(&uuid(1), 50);
    peer.send(&request).await;
    peer.send(&request).await;
    let (one, other) = (peer.receive().await.unwrap(), peer.receive().await.unwrap());
    assert_eq!(one, other);
    assert_eq!(peer.call(&request).await, one);
    assert_eq!(service.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_execution_outlives_the_connection_that_started_it() {
    let service = Service::default();
    let server = service.server(Config::default());
    let mut peer = pipe(&server);
    peer.send(slow_inc(&uuid(1), 200)).await;
    until("it runs", || server.stats().running == 1).await;
    drop(peer);

    let mut other = pipe(&server);
    let reply = other.call(slow_inc(&uuid(1), 200)).await;
    assert!(reply.contains(r#""value":1"#), "{reply}");
    assert_eq!((service.effects(), server.stats().joined), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_same_id_for_another_call_is_refused_in_flight_and_after() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    let mut other_params = slow_inc(&uuid(1), 51);
    let other_method = inc(&uuid(1));
    peer.send(slow_inc(&uuid(1), 50)).await;
    for request in [&other_params, &other_method] {
        let reply = peer.call_json(request).await;
        assert_eq!((code(&reply), executed(&reply)), (-32003, "unknown"));
    }
    let first = peer.receive().await.unwrap();
    other_params.push(' ');
    for request in [&other_params, &other_method] {
        let reply = peer.call_json(request).await;
        assert_eq!((code(&reply), executed(&reply)), (-32003, "unknown"));
    }
    assert_eq!(
        peer.call(slow_inc(&uuid(1), 50)).await,
        first,
        "the entry was touched"
    );
    assert_eq!(service.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_recorded_whether_at_once_or_later_and_reaches_joined_attempts() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    for (number, params) in [(1, "{}"), (2, r#"{"ms":20}"#)] {
        let id = uuid(number);
        let request = format!(r#"{{"id":"{id}","method":"panic","params":{params}}}"#);
        peer.send(&request).await;
        peer.send(&request).await;
        let one = peer.receive().await.unwrap();
        assert!(
            one.contains("-32603") && one.contains("the handler panicked (reference "),
            "{one}"
        );
        assert!(one.contains(r#""executed":"yes""#), "{one}");
        assert_eq!(peer.receive().await.unwrap(), one);
        assert_eq!(peer.call(&request).await, one);
        assert_eq!(service.effects(), u64::from(number));
    }
    let alive = peer.call_json(r#"{"id":"1","method":"get"}"#).await;
    assert_eq!(alive["result"], 0);
}

#[tokio::test]
async fn a_handlers_error_is_an_outcome_and_is_replayed() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    let request = format!(r#"{{"id":"{}","method":"fail"}}"#, uuid(1));
    let reply = peer.call(&request).await;
    assert!(
        reply.contains(r#""error":{"code":-32000,"message":"no 1"}"#),
        "{reply}"
    );
    assert_eq!(peer.call(&request).await, reply);
    assert_eq!(service.effects(), 1);
}

#[tokio::test]
async fn no_effect_releases_the_id() {
    let service = Service::default();
    let server = service.server(Config::default());
    let mut peer = pipe(&server);
    let request = format!(r#"{{"id":"{}","method":"no_effect"}}"#, uuid(1));
    for attempt in 1..=3 {
        let reply = peer.call_json(&request).await;
        assert_eq!(executed(&reply), "no");
        assert_eq!(reply["error"]["message"], format!("try {attempt}"));
    }
    assert_eq!(server.stats().records, 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_lives_for_its_ttl_and_no_longer() {
    let service = Service::default();
    let config = Config {
        ttl: Duration::from_millis(500),
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    let first = peer.call(inc(&uuid(1))).await;
    tokio::time::sleep(Duration::from_millis(499)).await;
    assert_eq!(peer.call(inc(&uuid(1))).await, first);
    tokio::time::sleep(Duration::from_millis(3)).await;
    assert_ne!(peer.call(inc(&uuid(1))).await, first);
    assert_eq!(service.effects(), 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    until("the idle server forgot everything", || {
        server.stats().records == 0
    })
    .await;
    assert_eq!(server.stats().record_bytes, 0);
}

#[tokio::test]
async fn refused_params_are_not_recorded() {
    let service = Service::default();
    let server = service.server(Config::default());
    let mut peer = pipe(&server);
    let request = format!(r#"{{"id":"{}","method":"big","params":["x"]}}"#, uuid(1));
    let reply = peer.call_json(&request).await;
    assert_eq!((code(&reply), executed(&reply)), (-32602, "no"));
    assert_eq!(server.stats().records, 0);
    assert_eq!(server.stats().running, 0);
}

#[tokio::test(start_paused = true)]
async fn the_attempts_that_wait_for_one_call_are_limited() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config {
        max_joined: 2,
        ..Config::default()
    }));
    for _ in 0..4 {
        peer.send(slow_inc(&uuid(1), 50)).await;
    }
    let refused: serde_json::Value = serde_json::from_str(&peer.receive().await.unwrap()).unwrap();
    assert_eq!((code(&refused), executed(&refused)), (-32001, "unknown"));
    assert!(refused["error"]["data"]["retry_after_ms"].as_u64().unwrap() > 0);
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(peer.receive().await.unwrap());
    }
    assert_eq!(replies, vec![replies[0].clone(); 3]);
    assert_eq!(service.effects(), 1);
}

/// A payload that panics when it is dropped.
struct PanickingPayload;

impl Drop for PanickingPayload {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the payload panics too");
    }
}

#[tokio::test]
async fn a_panic_whose_payload_panics_is_recorded_and_frees_its_permit() {
    let server = redial_server::Server::builder()
        .mutation(
            "bomb",
            async |at_once: serde_json::Value, _: redial_server::Context| {
                if at_once.is_null() {
                    tokio::task::yield_now().await;
                }
                std::panic::panic_any(PanickingPayload);
                #[expect(unreachable_code, reason = "it says what the handler would answer")]
                Ok(())
            },
        )
        .build()
        .unwrap();
    let mut peer = pipe(&server);
    for (number, params) in [(1, "[]"), (2, "null")] {
        let id = uuid(number);
        let request = format!(r#"{{"id":"{id}","method":"bomb","params":{params}}}"#);
        let reply = peer.call_json(&request).await;
        assert_eq!((code(&reply), executed(&reply)), (-32603, "yes"));
        assert_eq!(peer.call_json(&request).await, reply);
    }
    until("both permits are free", || server.stats().running == 0).await;
}

/// One attempt's deadline passes, the other has none: only the first may be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_without_a_deadline_never_hears_that_its_deadline_passed() {
    let service = Service::default();
    let server = service.server(Config::default());
    let address = listen(&server).await;
    // Side by side at every id, or one of them may be ahead of the other throughout.
    let start = Arc::new(Barrier::new(2));
    let ask = move |member: &'static str, start: Arc<Barrier>| async move {
        let mut peer = connect(address).await;
        let mut codes = Vec::new();
        for number in 0..3_000 {
            start.wait().await;
            let id = uuid(number);
            let request = format!(r#"{{"id":"{id}","method":"inc"{member}}}"#);
            let reply = peer.call_json(request).await;
            codes.push(reply["error"]["code"].as_i64());
        }
        codes
    };
    let hasty = tokio::spawn(ask(r#","redial":{"timeout_ms":0}"#, start.clone()));
    let patient = tokio::spawn(ask("", start));
    assert!(
        hasty.await.unwrap().contains(&Some(-32002)),
        "the race was never run"
    );
    assert_eq!(patient.await.unwrap(), vec![None; 3_000]);
    assert_eq!(service.effects(), 3_000);
}
