//! Every request that waits for a call hears the truth about it, even if the call is acknowledged
//! or its lease ends meanwhile.

use std::time::Duration;

use crate::common::{
    Service, code, executed, pipe,
    session::{
        LEASE, PING, ack, ask, attempt, client, config, connections_left, id, inc, one_at_a_time,
        reply_to, request_with,
    },
    until,
};
use redial_server::{CutPoint, Fault, FaultRule};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_question_about_a_running_call_does_not_get_no_when_it_is_acknowledged() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    let mut other = pipe(&server);
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    until("it runs", || server.stats().started == 1).await;
    other.send(ask("rpc.resolve", session, 0)).await;
    other.call(PING).await;
    peer.send(ack(session, 1, &json!([]))).await;
    let refused = other.receive_json().await;
    assert_eq!((code(&refused), executed(&refused)), (-32007, "unknown"));
    assert_eq!(service.effects(), 0, "it had to wait for the end");
    assert_eq!(peer.receive_json().await["result"]["value"], 1);
}

/// Its execution goes on to its end, but no client can ask about it any more.
#[tokio::test(start_paused = true)]
async fn a_question_about_a_running_call_does_not_get_no_when_its_lease_ends() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    let long = (json!({"ms": 2 * LEASE.as_millis() as u64}), json!({}));
    peer.send(request_with("slow_inc", session, 0, long)).await;
    until("it runs", || server.stats().started == 1).await;
    let mut other = pipe(&server);
    other.call(PING).await;
    let cut = FaultRule::new(Fault::Cut(CutPoint::BeforeExecution), 1.0).unwrap();
    server.faults().set([cut.for_method("get")]);
    peer.send(r#"{"jsonrpc":"2.0","id":1,"method":"get"}"#)
        .await;
    connections_left(&server, 1).await;
    other.send(ask("rpc.resolve", session, 0)).await;
    // At the end of the lease, which the question had renewed.
    tokio::time::sleep(LEASE + Duration::from_secs(5)).await;
    let refused = other.receive_json().await;
    assert_eq!((code(&refused), executed(&refused)), (-32004, "unknown"));
    tokio::time::sleep(LEASE).await;
    assert_eq!(service.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_waiters_of_an_acknowledged_queued_call_hear_that_it_never_runs() {
    let service = Service::default();
    let server = service.server(one_at_a_time());
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    peer.send(inc(session, 1)).await;
    peer.send(attempt("inc", session, 1, 2)).await;
    peer.send(ask("rpc.resolve", session, 1)).await;
    peer.call(PING).await;
    peer.send(ack(session, 0, &json!([[1, 2]]))).await;
    let replies = peer.receive_all::<4>().await;
    for reply in replies.iter().filter(|reply| reply["id"] == id(session, 1)) {
        assert_eq!((code(reply), executed(reply)), (-32007, "no"));
    }
    let answer = reply_to(&replies, "rpc.resolve");
    assert_eq!(answer["result"], json!({"state": "never"}));
    assert_eq!(reply_to(&replies, &id(session, 0))["result"]["value"], 1);
    assert_eq!(service.effects(), 1);
}
