//! What a peer sends is bounded before it is kept: no value in one request decides about later ones.

use redial_protocol::{Limits, SessionCall};
use serde_json::{Value, json};

use crate::common::{
    Service, code, executed, now,
    session::{ack, attempt, client, config, inc, one_at_a_time, request},
};
use redial_server::{Config, Context};

#[tokio::test(start_paused = true)]
async fn an_attempt_beyond_all_numbers_is_refused_and_the_next_one_runs() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    for number in [u64::from(Limits::MAX_ATTEMPT) + 1, 4_294_967_295, u64::MAX] {
        let beyond = request("inc", session, 0, json!({"attempt": number}));
        let refused = peer.call_json(beyond).await;
        assert_eq!((code(&refused), executed(&refused)), (-32600, "no"));
    }
    assert_eq!(peer.call_json(inc(session, 0)).await["result"]["value"], 1);
}

/// The highest number is refused like any other; the hint names one that is still to be had.
#[tokio::test(start_paused = true)]
async fn after_the_highest_attempt_another_one_can_be_made() {
    let service = Service::default();
    let server = service.server(Config {
        max_queued: 0,
        ..one_at_a_time()
    });
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    let highest = attempt("inc", session, 1, Limits::MAX_ATTEMPT);
    let refused = peer.call_json(&highest).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "unknown"));
    peer.receive_json().await;
    let low = peer.call_json(attempt("inc", session, 1, 2)).await;
    let hint = low["error"]["data"]["detail"].as_str().unwrap();
    assert!(
        hint.ends_with("expected \"attempt\" 1000000 or higher"),
        "{hint}"
    );
    assert_eq!(peer.call_json(&highest).await["result"]["value"], 2);
}

/// Kind: a refusal that says *not executed*, of which not enough is kept. Instance: a copy of the highest
/// attempt, whose mark can't be kept, runs.
#[tokio::test(start_paused = true)]
async fn a_refusal_says_not_executed_only_if_no_copy_of_the_attempt_can_run() {
    let service = Service::default();
    let server = service.server(Config {
        max_in_flight: 4,
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    for (number, highest) in [(0, Limits::MAX_ATTEMPT), (1, Limits::MAX_ATTEMPT - 1)] {
        for (method, redial) in [
            ("inc", json!({"attempt": highest, "timeout_ms": 0})),
            ("no_effect", json!({"attempt": highest})),
            ("inc", json!({"attempt": highest})),
        ] {
            let at = number + if method == "inc" { 0 } else { 2 };
            let far = request(method, session, at, redial);
            let refused = peer.call_json(&far).await;
            let before = service.effects();
            let _copy = peer.call_json(attempt("inc", session, at, highest)).await;
            let ran = service.effects() > before;
            assert!(
                !ran || refused["error"].is_null() || executed(&refused) == "unknown",
                "{method} {highest}: {refused}"
            );
        }
    }
    // Beyond the window, where the mark is for every number up to that one.
    let beyond = attempt("inc", session, 12, Limits::MAX_ATTEMPT);
    let refused = peer.call_json(&beyond).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "unknown"));
}

/// A number that no client counts to is not noted as refused, or every number below it would be.
#[tokio::test(start_paused = true)]
async fn a_number_far_beyond_the_window_refuses_no_other_call() {
    let service = Service::default();
    let server = service.server(Config {
        max_in_flight: 4,
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    let far = peer.call_json(inc(session, SessionCall::MAX_NUMBER)).await;
    assert_eq!((code(&far), executed(&far)), (-32001, "unknown"));
    for number in 0..40 {
        let reply = peer.call_json(inc(session, number)).await;
        assert_eq!(reply["result"]["value"], number + 1, "{reply}");
        peer.send(ack(session, number + 1, &json!([]))).await;
    }
}

/// A deadline, and an acknowledgement, as large as they can be written.
#[tokio::test(start_paused = true)]
async fn the_largest_numbers_are_taken_for_what_they_mean() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    let endless = request("inc", session, 0, json!({"timeout_ms": u64::MAX}));
    assert_eq!(peer.call_json(endless).await["result"]["value"], 1);
    let all = request("inc", session, 1, json!({"ack": u64::MAX}));
    let stale = peer.call_json(all).await;
    assert_eq!((code(&stale), executed(&stale)), (-32007, "unknown"));
}

/// Kind: a number of a peer's that a program reckons with. Instance: a deadline in 584 million years,
/// which is beyond what fits where a handler passes it on.
#[tokio::test(start_paused = true)]
async fn no_handler_sees_a_deadline_further_away_than_a_year() {
    let start = now().into_std();
    let time_left = move |_: Value, context: Context| {
        let deadline = context.deadline();
        async move { Ok(deadline.map(|deadline| deadline.duration_since(start).as_secs())) }
    };
    let server = Service::default().builder().query("time_left", time_left);
    let (mut peer, session) = client(&server.config(config()).build().unwrap()).await;
    for (timeout_ms, expected) in [(5_000, 5), (u64::MAX, 365 * 24 * 3600)] {
        let question = request("time_left", session, 0, json!({"timeout_ms": timeout_ms}));
        let reply = peer.call_json(question).await;
        assert_eq!(reply["result"], expected, "{reply}");
    }
}
