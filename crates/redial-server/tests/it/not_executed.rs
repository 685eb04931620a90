//! "Not executed" is final for an attempt: no copy of it runs when there is room later, only an
//! attempt with a higher number.

use std::time::Duration;

use crate::common::{
    Service, code, executed,
    session::{
        ack, ask, attempt, client, config, id, inc, one_at_a_time, reply_to, request, request_with,
    },
};
use redial_server::{Abort, Config, Context, Server};
use serde_json::{Value, json};

/// A window of 4, so that number 8 is out of reach.
fn narrow(service: &Service) -> Server {
    service.server(Config {
        max_in_flight: 4,
        ..config()
    })
}

#[tokio::test]
async fn a_copy_of_an_attempt_that_was_beyond_the_window_never_runs() {
    let service = Service::default();
    let (mut peer, session) = client(&narrow(&service)).await;
    let refused = peer.call_json(inc(session, 8)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    // It names the attempt, so that the refusal of a copy is not taken for another's.
    assert_eq!(refused["redial"], json!({"attempt": 1}));
    peer.send(ack(session, 1, &json!([]))).await;
    let copy = peer.call_json(inc(session, 8)).await;
    assert_eq!((code(&copy), executed(&copy)), (-32001, "no"));
    assert_eq!(service.effects(), 0);
    let second = peer.call_json(attempt("inc", session, 8, 2)).await;
    assert_eq!(second["result"]["value"], 1);
}

/// Beyond the window nothing can be fenced, so the reply promises nothing about the call.
#[tokio::test]
async fn a_question_beyond_the_window_does_not_get_never() {
    let service = Service::default();
    let (mut peer, session) = client(&narrow(&service)).await;
    for method in ["rpc.resolve", "rpc.cancel"] {
        let answer = peer.call_json(ask(method, session, 8)).await;
        assert_eq!((code(&answer), executed(&answer)), (-32001, "unknown"));
    }
    peer.send(ack(session, 1, &json!([]))).await;
    let late = peer.call_json(inc(session, 8)).await;
    assert_eq!(late["result"]["value"], 1);
}

/// The earlier call under the id had no effect, and leaves the id free.
#[tokio::test(start_paused = true)]
async fn a_copy_of_an_attempt_that_was_another_call_never_runs() {
    let service = Service::default();
    let builder = service
        .builder()
        .mutation("nothing", async |_: Value, _: Context| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err::<(), _>(Abort::no_effect("nothing"))
        });
    let server = builder.config(config()).build().unwrap();
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("nothing", session, 0, 1)).await;
    let other = attempt("inc", session, 0, 2);
    let refused = peer.call_json(&other).await;
    assert_eq!((code(&refused), executed(&refused)), (-32003, "unknown"));
    assert_eq!(executed(&peer.receive_json().await), "no");
    let copy = peer.call_json(&other).await;
    assert_eq!((code(&copy), executed(&copy)), (-32001, "no"));
    assert_eq!(service.effects(), 0);
}

/// Only attempts of the call itself say how long it may wait.
#[tokio::test(start_paused = true)]
async fn a_question_does_not_let_a_call_run_after_its_time_is_up() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(one_at_a_time())).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    let hasty = request("inc", session, 1, json!({"timeout_ms": 10}));
    peer.send(hasty).await;
    peer.send(ask("rpc.resolve", session, 1)).await;
    let replies = peer.receive_all::<3>().await;
    let call = reply_to(&replies, &id(session, 1));
    assert_eq!((code(call), executed(call)), (-32002, "no"));
    let answer = reply_to(&replies, "rpc.resolve");
    assert_eq!(answer["result"], json!({"state": "never"}));
    assert_eq!(service.effects(), 1);
}

/// A process that repeats a call of its predecessor does not know how many attempts that one made.
#[tokio::test(start_paused = true)]
async fn a_repeated_refused_call_hears_which_attempt_may_run() {
    let service = Service::default();
    let server = service.server(Config {
        max_queued: 0,
        ..one_at_a_time()
    });
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    let refused = peer.call_json(attempt("inc", session, 1, 7)).await;
    assert_eq!(code(&refused), -32001);
    peer.receive_json().await;
    let again = peer.call_json(inc(session, 1)).await;
    assert_eq!((code(&again), executed(&again)), (-32001, "no"));
    let detail = again["error"]["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("\"attempt\" 8 or higher"), "{detail}");
    let right = peer.call_json(attempt("inc", session, 1, 8)).await;
    assert_eq!(right["result"]["value"], 2);
}

/// The lower attempt was overtaken, and never refused itself.
#[tokio::test]
async fn an_attempt_that_a_refused_one_overtook_hears_of_that_one() {
    let service = Service::default();
    let builder = service
        .builder()
        .mutation("number", async |(n,): (u64,), _: Context| Ok(n));
    let server = builder.config(config()).build().unwrap();
    let (mut peer, session) = client(&server).await;
    let number = |params, attempt| {
        let redial = json!({"attempt": attempt});
        request_with("number", session, 0, (params, redial))
    };
    let wrong = peer.call_json(number(json!(["x"]), 2)).await;
    assert_eq!((code(&wrong), executed(&wrong)), (-32602, "no"));
    let overtaken = peer.call_json(number(json!([1]), 1)).await;
    assert_eq!((code(&overtaken), executed(&overtaken)), (-32001, "no"));
    let detail = overtaken["error"]["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("up to 2 were refused"), "{detail}");
}

#[tokio::test]
async fn there_is_no_attempt_0() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    let reply = peer.call_json(attempt("inc", session, 0, 0)).await;
    assert_eq!((code(&reply), executed(&reply)), (-32600, "no"), "{reply}");
}

/// A handler's `no_effect` is about one attempt, too: the next may run, and the reply to a copy of
/// the first must not be taken for the next one's.
#[tokio::test(start_paused = true)]
async fn no_effect_is_about_the_attempt_that_the_reply_names() {
    let service = Service::default();
    let nothing = async |_: Value, _: Context| Err::<(), _>(Abort::no_effect("nothing"));
    let later = async |_: Value, _: Context| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err::<(), _>(Abort::no_effect("nothing"))
    };
    let builder = service.builder().mutation("nothing", nothing);
    let builder = builder.mutation("nothing_later", later).config(config());
    let (mut peer, session) = client(&builder.build().unwrap()).await;
    let at_once = peer.call_json(attempt("nothing", session, 0, 2)).await;
    assert_eq!(executed(&at_once), "no");
    assert_eq!(at_once["redial"], json!({"attempt": 2}));
    for number in [1, 1, 3] {
        peer.send(attempt("nothing_later", session, 1, number))
            .await;
    }
    let mut named = Vec::new();
    for _ in 0..3 {
        let reply = peer.receive_json().await;
        assert_eq!(executed(&reply), "no");
        named.push(reply["redial"]["attempt"].as_u64());
    }
    assert_eq!(named, [Some(1), Some(1), Some(3)]);
}

/// A client without Redial's extensions, which sends the bytes of its refused request again. By that
/// it withdraws what it concluded from the refusal, so there is no promise to keep.
#[tokio::test(start_paused = true)]
async fn a_client_that_numbers_no_attempts_repeats_its_bytes_until_there_is_room() {
    let service = Service::default();
    let server = service.server(Config {
        max_queued: 0,
        ..one_at_a_time()
    });
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    let calls = [
        json!({"jsonrpc": "2.0", "id": id(session, 1), "method": "inc"}),
        json!({"id": id(session, 2), "method": "inc"}),
        json!({"id": "plain", "method": "inc"}),
    ];
    for call in &calls {
        for _ in 0..2 {
            let refused = peer.call_json(call.to_string()).await;
            assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
            let detail = refused["error"]["data"]["detail"].as_str().unwrap();
            assert!(detail.contains("calls are running"), "{detail}");
        }
    }
    peer.receive_json().await;
    for (call, value) in calls.iter().zip(2..) {
        for _ in 0..2 {
            let reply = peer.call_json(call.to_string()).await;
            assert_eq!(reply["result"]["value"], value, "{reply}");
        }
    }
    assert_eq!(service.effects(), 4);
}

/// The same for whatever else a call is refused for: its time was up, or it had no effect.
#[tokio::test(start_paused = true)]
async fn a_client_that_numbers_no_attempts_may_repeat_after_any_refusal() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    let call = json!({"jsonrpc": "2.0", "id": id(session, 0), "method": "no_effect"}).to_string();
    for tried in 1..3 {
        let reply = peer.call_json(&call).await;
        assert_eq!(reply["error"]["message"], format!("try {tried}"), "{reply}");
    }
    // What it numbers is held to its numbers, whatever asked before.
    let late = request("inc", session, 1, json!({"attempt": 3, "timeout_ms": 0}));
    assert_eq!(code(&peer.call_json(late).await), -32002);
    let copy = peer.call_json(attempt("inc", session, 1, 3)).await;
    assert_eq!((code(&copy), executed(&copy)), (-32001, "no"));
    let bare = json!({"jsonrpc": "2.0", "id": id(session, 1), "method": "inc"}).to_string();
    assert_eq!(peer.call_json(bare).await["result"]["value"], 1);
}
