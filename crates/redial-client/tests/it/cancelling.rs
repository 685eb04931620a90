//! Dropping a call's future cancels the call if the server has not begun it, and frees its number.

use crate::peer::{
    self, connected, inc, ms,
    session::{Sessions, foreign_token, number},
    start, with_sessions,
};
use redial_client::{CallError, CallToken, Resolution};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_and_then_acknowledged() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    call.abort();
    let cancel = peer.next().await;
    assert_eq!(
        (cancel.method.as_str(), cancel.is_notification),
        ("rpc.cancel", true)
    );
    assert_eq!(
        format!("\"{}\"", cancel.params["id"].as_str().unwrap()),
        request.id
    );
    peer.serve(&mut sessions, &cancel).await;
    assert!(sessions.only().fenced.contains(&0));
    assert_eq!(sessions.only().ack, 0, "no sooner than it is cancelled");
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 1);
    assert_eq!(client.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unwritten_call_is_dropped_without_a_frame() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(1);
    let slow = inc(&client);
    let held = peer.next_call(&mut sessions).await;
    let waiting = inc(&client);
    tokio::task::yield_now().await;
    waiting.abort();
    waiting.await.unwrap_err();
    peer.execute(&mut sessions, &held, json!(1)).await;
    slow.await.unwrap().unwrap();
    let next = inc(&client);
    let request = peer.next().await;
    assert_eq!((request.method.as_str(), number(&request)), ("inc", 1));
    peer.execute(&mut sessions, &request, json!(1)).await;
    next.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_answered_is_not_cancelled() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let mut call = Box::pin(client.request("inc", json!({})).with_report());
    tokio::select! {
        biased;
        _ = &mut call => panic!("it has no reply yet"),
        request = peer.next_call(&mut sessions) => {
            peer.execute(&mut sessions, &request, json!(1)).await;
        }
    }
    tokio::time::sleep(ms(1)).await;
    drop(call);
    let ack = peer.next().await;
    assert_eq!(ack.method, "rpc.ack");
    peer.serve(&mut sessions, &ack).await;
    assert_eq!(sessions.only().ack, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_whose_token_lives_can_be_asked_for() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let clone = client.clone();
    let (sender, token) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(async move {
        let mut call = clone.request("inc", json!({}));
        sender.send(call.token().await.unwrap()).unwrap();
        call.await
    });
    peer.next_call(&mut sessions).await;
    running.abort();
    let token = token.await.unwrap();
    peer.serve_for(&mut sessions, ms(1000)).await;
    assert!(
        sessions.only().fenced.contains(&0),
        "cancelled all the same"
    );
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    drop(token);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_session_a_dropped_call_sends_nothing() {
    let (client, mut peer, _network) = connected(peer::builder()).await;
    let call = inc(&client);
    peer.next().await;
    call.abort();
    assert!(peer.is_quiet_for(ms(5000)).await);
}

/// A caller loses patience, and the token still exists.
#[tokio::test(start_paused = true)]
async fn a_resumed_call_that_is_dropped_can_be_asked_for_again() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = client.request("inc", json!({})).max_attempts(1);
    let call = start(call.deadline(ms(50)));
    let request = peer.next_call(&mut sessions).await;
    let CallError::Unknown { token, .. } = call.await.unwrap().unwrap_err() else {
        panic!("it was written");
    };
    let text = serde_json::to_string(&token).unwrap();
    drop(token);
    let read = || serde_json::from_str::<CallToken>(&text).unwrap();
    let table = sessions.known.values_mut().next().unwrap();
    table.executed.insert(number(&request), json!(7));
    let resumed = start(client.resume(read()));
    assert_eq!(peer.next_call(&mut sessions).await.id, request.id);
    resumed.abort();
    resumed.await.unwrap_err();
    peer.serve_for(&mut sessions, ms(1000)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    let resolve = client.resolve(read());
    let resolve = tokio::spawn(async move { resolve.await });
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(resolve.await.unwrap().unwrap(), Resolution::Value(json!(7)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_of_a_foreign_session_is_not_acknowledged() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let session = sessions.foreign();
    let resumed = start(client.resume(foreign_token(&session, 0)));
    peer.next_call(&mut sessions).await;
    resumed.abort();
    resumed.await.unwrap_err();
    peer.serve_for(&mut sessions, ms(1000)).await;
    let table = &sessions.known[&session];
    assert_eq!((table.ack, table.above.len()), (0, 0));
}
