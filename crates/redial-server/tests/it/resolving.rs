//! `rpc.resolve` returns a call's outcome, or that it was not executed and never will be;
//! `rpc.cancel` stops a call only if it has not begun.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use crate::common::{
    Service, code, executed, now,
    session::{PING, ack, ask, ask_for, attempt, client, config, id, inc, one_at_a_time, reply_to},
    uuid,
};
use redial_protocol::SessionId;
use redial_server::{Abort, Config, Context, Server};
use serde_json::{Value, json};

#[tokio::test]
async fn a_finished_call_has_its_recorded_outcome_result_or_error() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    peer.call(inc(session, 0)).await;
    peer.call(attempt("fail", session, 1, 1)).await;
    for _ in 0..2 {
        let done = json!({"state": "done", "result": {"value": 1}});
        let resolved = peer.call_json(ask("rpc.resolve", session, 0)).await;
        assert_eq!(resolved["result"], done);
        let failed = peer.call_json(ask("rpc.resolve", session, 1)).await;
        assert_eq!(failed["result"]["state"], "done");
        assert_eq!(failed["result"]["error"]["code"], -32000);
    }
    assert_eq!(service.effects(), 2);
}

#[tokio::test]
async fn a_call_that_never_arrived_is_fenced_and_never_runs() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    for _ in 0..2 {
        let never = peer.call_json(ask("rpc.resolve", session, 3)).await;
        assert_eq!(never["result"], json!({"state": "never"}));
    }
    for number in 1..3 {
        let late = peer.call_json(attempt("inc", session, 3, number)).await;
        assert_eq!((code(&late), executed(&late)), (-32007, "no"));
    }
    assert_eq!(service.effects(), 0);
}

#[tokio::test(start_paused = true)]
async fn resolving_a_running_call_waits_for_it() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    let start = now();
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    peer.send(ask("rpc.resolve", session, 0)).await;
    let replies = peer.receive_all::<2>().await;
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    let done = json!({"state": "done", "result": {"value": 1}});
    assert_eq!(reply_to(&replies, "rpc.resolve")["result"], done);
}

#[tokio::test]
async fn an_unknown_call_resolves_to_unknown() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    let stranger = id(SessionId::from_bits(5), 0);
    for id in [stranger, uuid(1), "text".to_owned()] {
        let request = ask_for("rpc.resolve", &json!(id));
        let reply = peer.call_json(request).await;
        assert_eq!(
            (code(&reply), executed(&reply)),
            (-32004, "unknown"),
            "{id}"
        );
    }
    peer.call(inc(session, 0)).await;
    peer.send(ack(session, 1, &json!([]))).await;
    let reply = peer.call_json(ask("rpc.resolve", session, 0)).await;
    assert_eq!((code(&reply), executed(&reply)), (-32007, "unknown"));
}

/// In the notebook dialect every id is a key, an integer too. It is resolved as it was written.
#[tokio::test]
async fn a_plain_id_is_resolved_while_its_record_lives() {
    let service = Service::default();
    let (mut peer, _) = client(&service.server(config())).await;
    for (id, value) in [(json!(uuid(1)), 1), (json!("text"), 2), (json!(7), 3)] {
        let inc = json!({"id": id, "method": "inc", "params": {}});
        peer.call(inc.to_string()).await;
        let reply = peer.call_json(ask_for("rpc.resolve", &id)).await;
        let done = json!({"state": "done", "result": {"value": value}});
        assert_eq!(reply["result"], done, "{id}");
    }
    let reply = peer.call_json(ask_for("rpc.resolve", &json!("7"))).await;
    assert_eq!(code(&reply), -32004, "7 and \"7\" are two ids: {reply}");
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_is_cancelled_and_frees_its_permit_at_once() {
    let service = Service::default();
    let config = Config {
        max_queued: 1,
        ..one_at_a_time()
    };
    let (mut peer, session) = client(&service.server(config)).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    peer.send(inc(session, 1)).await;
    peer.send(ask("rpc.cancel", session, 1)).await;
    let cancelled = peer.receive_all::<2>().await;
    let answer = reply_to(&cancelled, "rpc.cancel");
    assert_eq!(answer["result"], json!({"state": "never"}));
    let reply = reply_to(&cancelled, &id(session, 1));
    assert_eq!((code(reply), executed(reply)), (-32007, "no"));
    // The next call gets the slot in the queue that was freed, while the first still runs.
    peer.send(inc(session, 2)).await;
    let replies = peer.receive_all::<2>().await;
    assert!(
        replies.iter().all(|reply| reply.get("result").is_some()),
        "{replies:?}"
    );
    let late = peer.call_json(attempt("inc", session, 1, 2)).await;
    assert_eq!((code(&late), executed(&late)), (-32007, "no"));
    assert_eq!(service.effects(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_runs_or_has_run_is_not_cancelled() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    let cancel = ask("rpc.cancel", session, 0);
    let running = peer.call_json(&cancel).await;
    assert_eq!(running["result"], json!({"state": "running"}));
    assert!(peer.receive_json().await.get("result").is_some());
    let done = peer.call_json(&cancel).await;
    assert_eq!(done["result"], json!({"state": "done"}));
    assert_eq!(service.effects(), 1);
}

#[tokio::test]
async fn a_call_is_cancelled_before_it_arrives() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    let never = peer.call_json(ask("rpc.cancel", session, 0)).await;
    assert_eq!(never["result"], json!({"state": "never"}));
    let late = peer.call_json(inc(session, 0)).await;
    assert_eq!((code(&late), executed(&late)), (-32007, "no"));
    let plain = ask_for("rpc.cancel", &json!(uuid(1)));
    assert_eq!(code(&peer.call_json(plain).await), -32602);
}

/// A handler whose first attempt fails without an effect, and whose later attempts have one.
fn flaky(service: &Service) -> Server {
    let (builder, service) = (service.builder(), service.clone());
    let handler = move |_: Value, context: Context| {
        let service = service.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if context.attempt() == 1 {
                return Err(Abort::no_effect("busy"));
            }
            service.effects.fetch_add(1, SeqCst);
            Ok(())
        }
    };
    let builder = builder.mutation("flaky", handler);
    builder.config(one_at_a_time()).build().unwrap()
}

/// `no_effect` would leave the id free. But a reply has said that the call never will have an
/// effect, and that is final, whether the question came before the call began or after.
#[tokio::test(start_paused = true)]
async fn never_is_final_for_a_call_that_had_no_effect() {
    for waits_first in [false, true] {
        let service = Service::default();
        let server = flaky(&service);
        let (mut peer, session) = client(&server).await;
        if waits_first {
            peer.send(r#"{"id":"other","method":"slow_inc","params":{}}"#)
                .await;
        }
        let effects = u64::from(waits_first);
        peer.send(attempt("flaky", session, 0, 1)).await;
        peer.send(ask("rpc.resolve", session, 0)).await;
        let replies = if waits_first {
            peer.receive_all::<3>().await.to_vec()
        } else {
            peer.receive_all::<2>().await.to_vec()
        };
        let resolved = reply_to(&replies, "rpc.resolve");
        assert_eq!(resolved["result"], json!({"state": "never"}), "{replies:?}");
        let again = peer.call_json(attempt("flaky", session, 0, 2)).await;
        assert_eq!((code(&again), executed(&again)), (-32007, "no"));
        assert_eq!(service.effects(), effects);
    }
}

/// A notification gets no reply, in a batch or alone.
#[tokio::test(start_paused = true)]
async fn a_question_without_an_id_is_not_answered() {
    let service = Service::default();
    let (mut peer, session) = client(&service.server(config())).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    let params = json!({"id": id(session, 0)});
    let question = json!({"jsonrpc": "2.0", "method": "rpc.resolve", "params": params});
    peer.send(question.to_string()).await;
    peer.send(format!("[{question},{PING}]")).await;
    let pong = json!({"jsonrpc": "2.0", "id": "p", "result": "pong"});
    assert_eq!(peer.receive_json().await, json!([pong]));
    assert_eq!(peer.receive_json().await["id"], id(session, 0));
    assert_eq!(peer.call_json(PING).await, pong);
}
