//! A reply completes its call, whichever attempt it belongs to and whenever it comes.

use crate::peer::{builder, builder_with, connected, connected_once, ends, inc, ms, start};
use redial_client::Executed;
use serde_json::json;
use tokio::time::sleep;

/// The notebook's own demo: 120 ms of delay, and a timeout of 100 ms.
#[tokio::test(start_paused = true)]
async fn a_delay_longer_than_the_timeout_costs_no_call() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = inc(&client);
    let first = peer.next().await;
    sleep(ms(120)).await;
    peer.result(&first, json!({"value": 1})).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(reply.value["value"], 1);
    assert_eq!(reply.report.total(), ms(120));
    assert_eq!(reply.report.attempts(), 1);
    assert_eq!(ends(&reply.report), ["reply"]);
}

#[tokio::test(start_paused = true)]
async fn the_reply_to_the_first_attempt_completes_the_call_while_the_second_runs() {
    let (client, mut peer, _network) = connected_once(builder()).await;
    let call = inc(&client);
    let first = peer.next().await;
    let second = peer.next().await;
    assert_eq!(first.id, second.id);
    assert_eq!((first.meta.attempt, second.meta.attempt), (1, 2));
    assert_eq!(second.at - first.at, ms(130));
    peer.result(&first, json!(1)).await;
    let reply = call.await.unwrap().unwrap();
    // The second gets a reply, too, from a server that knows the id. The call has ended.
    peer.result(&second, json!(1)).await;
    assert_eq!(reply.report.attempts(), 2);
    assert_eq!(ends(&reply.report), ["timeout", "reply"]);
    let again = inc(&client);
    let request = peer.next().await;
    peer.result(&request, json!(2)).await;
    assert_eq!(again.await.unwrap().unwrap().value, 2);
    assert_eq!(client.stats().unmatched_replies, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reply_on_another_connection_completes_the_call() {
    let (client, mut first_peer, mut network) =
        connected(builder_with(|config| config.connections = 2)).await;
    // The connector made both when the client was built.
    let mut second_peer = network.accept().await;
    let call = inc(&client);
    let first = first_peer.next().await;
    let second = second_peer.next().await;
    assert_eq!(
        first.id, second.id,
        "a retry goes out on another connection"
    );
    first_peer.result(&first, json!(7)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(reply.value, 7);
    assert_eq!(ends(&reply.report), ["reply", "superseded"]);
    assert_eq!(reply.report.history().next().unwrap().ended, ms(130));
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_to_the_last_attempt_counts_too() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = start(client.request("inc", json!({"key": "k"})).max_attempts(1));
    let only = peer.next().await;
    tokio::time::advance(ms(120)).await;
    peer.result(&only, json!(7)).await;
    assert_eq!(call.await.unwrap().unwrap().value, 7);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_only_the_deadline_ends_the_wait() {
    let (client, mut peer, _network) = connected_once(builder()).await;
    let call = client
        .request("inc", json!({"key": "k"}))
        .max_attempts(2)
        .deadline(ms(700));
    let call = start(call);
    peer.next().await;
    peer.next().await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert_eq!(error.report().total(), ms(700));
    assert_eq!(ends(error.report()), ["timeout", "timeout"]);
    let text = error.to_string();
    assert_eq!(
        text,
        "inc may have been executed; 2 attempts, no more allowed: no reply within 100ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reply_after_the_call_is_ignored_and_counted() {
    let (client, mut peer, _network) = connected_once(builder()).await;
    let call = client.request("inc", json!({})).max_attempts(1);
    let call = start(call.deadline(ms(500)));
    let request = peer.next().await;
    call.await.unwrap().unwrap_err();
    peer.result(&request, json!(1)).await;
    let next = inc(&client);
    let request = peer.next().await;
    peer.result(&request, json!(2)).await;
    assert_eq!(next.await.unwrap().unwrap().value, 2);
    assert_eq!(client.stats().unmatched_replies, 1);
    assert_eq!(client.stats().in_flight, 0);
    assert_eq!(client.stats().connects, 1);
}
