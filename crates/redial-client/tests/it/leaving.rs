//! A server that shuts down: what it says that it has not read is sent elsewhere, and what may have
//! been executed is not.

use redial_client::{CallError, Cause, Executed};
use serde_json::json;

use crate::peer::{
    Peer, SentRequest, builder, connected, ends, inc, ms,
    session::{Sessions, call, number},
    with_sessions,
};

async fn goaway(peer: &mut Peer, params: &str) {
    let text = format!(r#"{{"jsonrpc":"2.0","method":"rpc.goaway","params":{params}}}"#);
    peer.frame(text.as_bytes()).await;
}

async fn answer(peer: &mut Peer, sessions: &mut Sessions) -> SentRequest {
    let request = peer.next_call(sessions).await;
    peer.execute(sessions, &request, json!(1)).await;
    request
}

/// Requests that lay in the socket of a server without its table are calls of the next session.
#[tokio::test(start_paused = true)]
async fn what_has_no_reply_at_the_last_frame_is_sent_to_the_next_server() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let first = inc(&client);
    answer(&mut peer, &mut sessions).await;
    first.await.unwrap().unwrap();
    let calls: Vec<_> = (0..20).map(|_| inc(&client)).collect();
    let mut session = None;
    for _ in 0..20 {
        session = call(&peer.next().await).map(|call| call.session);
    }
    let known = json!([{"session": session, "calls": [[0, 1]]}]);
    let last = json!({"last": true, "known": known});
    goaway(&mut peer, &last.to_string()).await;
    let (mut peer, mut sessions) = (network.accept().await, Sessions::new());
    for _ in 0..20 {
        // Behind the hello, which says that the session is unknown here.
        answer(&mut peer, &mut sessions).await;
    }
    let mut numbers = Vec::new();
    for _ in 0..20 {
        numbers.push(number(&answer(&mut peer, &mut sessions).await));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(0..20), "numbers of a new session");
    for call in calls {
        let reply = call.await.unwrap().unwrap();
        assert_eq!(ends(&reply.report), ["refused", "refused", "reply"]);
    }
}

/// A stream that ends says nothing of what was read.
#[tokio::test(start_paused = true)]
async fn without_the_last_frame_what_has_no_reply_is_unknown() {
    for params in [r#"{"last":false}"#, "[true]", r#"{"last":1}"#, "{}"] {
        let (client, mut peer, mut network) = connected(with_sessions()).await;
        let mut sessions = Sessions::new();
        let first = inc(&client);
        answer(&mut peer, &mut sessions).await;
        first.await.unwrap().unwrap();
        let call = inc(&client);
        peer.next().await;
        goaway(&mut peer, params).await;
        assert!(peer.is_quiet_for(ms(50)).await);
        drop(peer);
        let (mut peer, mut sessions) = (network.accept().await, Sessions::new());
        let hello = peer.next().await;
        peer.serve(&mut sessions, &hello).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown, "{params}: {error}");
    }
}

/// A copy of a request, which came on another connection, may have been executed before this one lay
/// unread: the server names the calls that it knows, of each session that it can speak of.
#[tokio::test(start_paused = true)]
async fn what_a_server_that_shuts_down_knows_or_does_not_speak_of_is_unknown() {
    for is_named in [true, false] {
        let (client, mut peer, mut network) = connected(with_sessions()).await;
        let mut sessions = Sessions::new();
        let first = inc(&client);
        answer(&mut peer, &mut sessions).await;
        first.await.unwrap().unwrap();
        let copied = inc(&client);
        let session = call(&peer.next().await).map(|call| call.session);
        let calls = json!({"session": session, "calls": [[0, 2]]});
        let known = if is_named { json!([calls]) } else { json!([]) };
        let last = json!({"last": true, "known": known});
        goaway(&mut peer, &last.to_string()).await;
        let (mut peer, mut sessions) = (network.accept().await, Sessions::new());
        let hello = peer.next().await;
        peer.serve(&mut sessions, &hello).await;
        let error = copied.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown, "{is_named}: {error}");
    }
}

/// An attempt that an earlier connection has not answered stays in doubt.
#[tokio::test(start_paused = true)]
async fn the_last_frame_speaks_for_its_own_connection() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let call = inc(&client);
    peer.next().await;
    drop(peer);
    let mut peer = network.accept().await;
    peer.next().await;
    network.refuse(true);
    goaway(&mut peer, r#"{"last":true}"#).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown, "{error}");
}

/// Alone, it is as certain as a refusal.
#[tokio::test(start_paused = true)]
async fn what_was_not_read_and_finds_no_other_server_is_not_executed() {
    let (client, mut peer, network) = connected(builder()).await;
    let call = inc(&client);
    peer.next().await;
    network.refuse(true);
    goaway(&mut peer, r#"{"last":true}"#).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert!(matches!(error.cause(), Cause::Connect(_)), "{error}");
}

/// New calls wait for the next connection, and open ones for their replies on this one.
#[tokio::test(start_paused = true)]
async fn nothing_new_is_sent_to_a_server_that_shuts_down() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let open = inc(&client);
    let request = peer.next().await;
    goaway(&mut peer, r#"{"last":false}"#).await;
    tokio::time::sleep(ms(1)).await;
    let new = inc(&client);
    assert!(peer.is_quiet_for(ms(50)).await, "a request was sent");
    peer.result(&request, json!(1)).await;
    open.await.unwrap().unwrap();
    assert!(peer.request().await.is_none(), "the connection goes on");
    let mut peer = network.accept().await;
    let request = peer.next().await;
    peer.result(&request, json!(2)).await;
    let reply = new.await.unwrap().unwrap();
    assert_eq!(ends(&reply.report), ["reply"]);
}

/// A server that knows no notification says it with its refusals.
#[tokio::test(start_paused = true)]
async fn a_refusal_because_of_a_shutdown_ends_the_connection_once_all_is_answered() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let (one, other) = (inc(&client), inc(&client));
    let (first, second) = (peer.next().await, peer.next().await);
    peer.error(&first, -32006, json!({"executed": "no"})).await;
    assert!(peer.is_quiet_for(ms(60)).await, "a retry was sent here");
    peer.result(&second, json!(1)).await;
    other.await.unwrap().unwrap();
    assert!(peer.request().await.is_none(), "the connection goes on");
    let mut peer = network.accept().await;
    let retry = peer.next().await;
    assert_eq!((&retry.id, retry.meta.attempt), (&first.id, 2));
    peer.result(&retry, json!(2)).await;
    one.await.unwrap().unwrap();
}

/// What could not be read may have been the reply.
#[tokio::test(start_paused = true)]
async fn the_last_frame_says_nothing_after_one_that_was_no_message() {
    let (client, mut peer, network) = connected(builder()).await;
    let call = inc(&client);
    peer.next().await;
    network.refuse(true);
    peer.frame(b"{}").await;
    goaway(&mut peer, r#"{"last":true}"#).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown, "{error}");
}
