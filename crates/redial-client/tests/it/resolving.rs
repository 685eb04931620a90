//! `resolve` returns what happened to the call of a token, in the process that made it or in
//! another.

use crate::peer::{
    Network, Peer, connected, connected_once, inc, ms,
    session::{Sessions, number},
    start, with_sessions,
};
use redial_client::{CallError, CallToken, Cause, Client, Executed, Resolution};
use serde_json::{Value, json};

/// A call that is sent and not answered, and ends as unknown.
async fn unknown(client: &Client, peer: &mut Peer, sessions: &mut Sessions) -> CallToken {
    let call = client.request("inc", json!({"key": "k"})).max_attempts(1);
    let call = start(call.deadline(ms(200)));
    peer.next_call(sessions).await;
    match call.await.unwrap() {
        Err(CallError::Unknown { token, .. }) => *token,
        other => panic!("{other:?}"),
    }
}

/// A second process, and what the first one left on the server.
async fn after_a_crash() -> (Client, Peer, Network, Sessions, String) {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let token = unknown(&client, &mut peer, &mut sessions).await;
    let text = serde_json::to_string(&token).unwrap();
    drop((client, peer));
    let (client, peer, network) = connected(with_sessions()).await;
    (client, peer, network, sessions, text)
}

fn spawn(
    client: &Client,
    token: CallToken,
) -> tokio::task::JoinHandle<Result<Resolution<Value>, CallError>> {
    let resolve = client.resolve(token);
    tokio::spawn(async move { resolve.await })
}

#[tokio::test(start_paused = true)]
async fn resolving_returns_the_recorded_result_and_frees_the_record() {
    let (client, mut peer, _network) = connected_once(with_sessions()).await;
    let mut sessions = Sessions::new();
    let token = unknown(&client, &mut peer, &mut sessions).await;
    sessions
        .known
        .values_mut()
        .next()
        .unwrap()
        .executed
        .insert(0, json!(7));
    let resolve = spawn(&client, token.clone());
    peer.serve_for(&mut sessions, ms(10)).await;
    assert_eq!(resolve.await.unwrap().unwrap(), Resolution::Value(json!(7)));
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    drop(token);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_arrived_resolves_to_never() {
    let (client, mut peer, _network) = connected_once(with_sessions()).await;
    let mut sessions = Sessions::new();
    let token = unknown(&client, &mut peer, &mut sessions).await;
    let resolve = spawn(&client, token);
    peer.serve_for(&mut sessions, ms(10)).await;
    assert_eq!(resolve.await.unwrap().unwrap(), Resolution::Never);
    assert!(sessions.only().fenced.contains(&0));
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 1);
}

#[tokio::test(start_paused = true)]
async fn another_process_can_resolve_the_call() {
    let (client, mut peer, _network, mut sessions, text) = after_a_crash().await;
    sessions
        .known
        .values_mut()
        .next()
        .unwrap()
        .executed
        .insert(0, json!({"value": 7}));
    let token: CallToken = serde_json::from_str(&text).unwrap();
    let resolve = client
        .resolve(token.clone())
        .returning::<std::collections::BTreeMap<String, u64>>();
    let resolve = tokio::spawn(async move { resolve.await });
    peer.serve_for(&mut sessions, ms(100)).await;
    let Resolution::Value(value) = resolve.await.unwrap().unwrap() else {
        panic!("it was executed");
    };
    assert_eq!(value["value"], 7);
    // The process may die before it has kept the outcome, and ask again in its next life.
    let again = spawn(&client, token.clone());
    peer.serve_for(&mut sessions, ms(1000)).await;
    let Resolution::Value(value) = again.await.unwrap().unwrap() else {
        panic!("it was executed");
    };
    assert_eq!(value["value"], 7);
    client.forget(token);
    peer.serve_for(&mut sessions, ms(100)).await;
    let foreign = sessions.known.values().next().unwrap();
    assert_eq!((foreign.ack, foreign.above.contains(&0)), (0, true));
    assert_eq!(client.stats().retained_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn another_process_can_repeat_the_same_call() {
    let (client, mut peer, _network, mut sessions, text) = after_a_crash().await;
    let token: CallToken = serde_json::from_str(&text).unwrap();
    let id = token.id;
    let resumed = start(client.resume(token.clone()));
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(request.id, format!("\"{id}\""));
    assert_eq!(
        (request.params.clone(), request.meta.ack),
        (json!({"key": "k"}), None)
    );
    peer.execute(&mut sessions, &request, json!(1)).await;
    resumed.await.unwrap().unwrap();
    peer.serve_for(&mut sessions, ms(1000)).await;
    assert!(!sessions.known.values().next().unwrap().above.contains(&0));
    client.forget(token);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert!(sessions.known.values().next().unwrap().above.contains(&0));
    // The client numbers its own calls independently.
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 0);
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_without_sessions_is_not_sent_the_call_again() {
    let (client, mut peer, _network, _, text) = after_a_crash().await;
    let resumed = start(client.resume(serde_json::from_str::<CallToken>(&text).unwrap()));
    let hello = peer.next().await;
    peer.error(&hello, -32601, Value::Null).await;
    let error = resumed.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert!(matches!(error.cause(), Cause::SessionLost), "{error}");
    assert!(peer.is_quiet_for(ms(1000)).await);
}

#[tokio::test(start_paused = true)]
async fn a_handlers_error_is_an_outcome() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let token = unknown(&client, &mut peer, &mut sessions).await;
    let resolve = spawn(&client, token);
    let request = peer.next_resolve(&mut sessions).await;
    let error = json!({"code": -32000, "message": "no such key"});
    peer.result(&request, json!({"state": "done", "error": error}))
        .await;
    let error = resolve.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("no such key"), "{error}");
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_resolve_stays_unknown_with_the_token() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let mut token = unknown(&client, &mut peer, &mut sessions).await;
    let unknown = json!({"executed": "unknown"});
    let interrupted = json!({"code": -32008, "message": "Interrupted", "data": unknown});
    for (result, code, data) in [
        (None, -32004, unknown),
        (None, -32601, Value::Null),
        (Some(json!(7)), 0, Value::Null),
        (Some(json!({"state": "running"})), 0, Value::Null),
        (Some(json!({"state": "done"})), 0, Value::Null),
        (
            Some(json!({"state": "done", "error": interrupted})),
            0,
            Value::Null,
        ),
    ] {
        let resolve = spawn(&client, token.clone());
        let request = peer.next_resolve(&mut sessions).await;
        match result {
            Some(result) => peer.result(&request, result).await,
            None => peer.error(&request, code, data).await,
        }
        match resolve.await.unwrap() {
            Err(CallError::Unknown { token: same, .. }) => {
                assert_eq!(same.id, token.id);
                token = *same;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    }
    // No reply at all: it is sent again, and then given up.
    let hasty = client.resolve(token).max_attempts(2).deadline(ms(500));
    let hasty = tokio::spawn(async move { hasty.await });
    let first = peer.next_resolve(&mut sessions).await;
    let second = peer.next_resolve(&mut sessions).await;
    assert_eq!(first.id, second.id);
    let error = hasty.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert_eq!(error.details().method, "inc");
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_call_resolves_to_no_value() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let token = unknown(&client, &mut peer, &mut sessions).await;
    for (executed, is_never) in [("no", true), ("yes", false)] {
        let resolve = spawn(&client, token.clone());
        let request = peer.next_resolve(&mut sessions).await;
        peer.error(&request, -32007, json!({"executed": executed}))
            .await;
        match resolve.await.unwrap() {
            Ok(resolution) => assert!(is_never, "{resolution:?}"),
            Err(error) => assert_eq!((error.executed(), is_never), (Executed::Yes, false)),
        }
    }
}
