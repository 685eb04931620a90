//! A program may keep any number of errors and tokens: new calls find room all the same. Beyond the
//! bound the call that ended first is let go, and is then honestly unknown.

use crate::peer::{
    Peer, connected_once, inc, ms,
    session::{Sessions, number},
    start, with_sessions, with_sessions_and,
};
use redial_client::{CallError, CallToken, Client, Resolution};
use serde_json::json;

/// A call that is never answered, and whose error is kept.
async fn unanswered(client: &Client, peer: &mut Peer, sessions: &mut Sessions) -> CallToken {
    let call = client.request("inc", json!({})).max_attempts(1);
    let call = start(call.deadline(ms(90)));
    peer.next_call(sessions).await;
    match call.await.unwrap() {
        Err(CallError::Unknown { token, .. }) => *token,
        other => panic!("{other:?}"),
    }
}

/// One that is answered, and what of the window it needed.
async fn answered(client: &Client, peer: &mut Peer, sessions: &mut Sessions) {
    let call = inc(client);
    let request = peer.next_call(sessions).await;
    peer.execute(sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

/// As many sessions as it likes, or as many as a connection may have, or no other at all.
#[tokio::test(start_paused = true)]
async fn any_number_of_kept_errors_leaves_room_for_calls() {
    for max_sessions in [u64::MAX, 16, 1] {
        for window in [8, 4, 2, 1] {
            let (client, mut peer, _network) = connected_once(with_sessions()).await;
            let mut sessions = Sessions::with_window(window);
            sessions.max_sessions = max_sessions;
            let mut tokens = Vec::new();
            for _ in 0..150 {
                tokens.push(unanswered(&client, &mut peer, &mut sessions).await);
            }
            answered(&client, &mut peer, &mut sessions).await;
            let retained = client.stats().retained_calls;
            assert!(retained <= 16 * window as usize, "{retained}");
            drop(tokens);
            peer.serve_for(&mut sessions, ms(500)).await;
            assert_eq!(client.stats().retained_calls, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_were_serialised_and_never_forgotten_leave_room_too() {
    for max_sessions in [u64::MAX, 1] {
        let (client, mut peer, _network) = connected_once(with_sessions()).await;
        let mut sessions = Sessions::with_window(8);
        sessions.max_sessions = max_sessions;
        for _ in 0..100 {
            let mut call = client.request("inc", json!({}));
            let call = tokio::spawn(async move {
                serde_json::to_string(&call.token().await.unwrap()).unwrap();
                call.await
            });
            let request = peer.next_call(&mut sessions).await;
            peer.execute(&mut sessions, &request, json!(1)).await;
            call.await.unwrap().unwrap();
        }
        answered(&client, &mut peer, &mut sessions).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_call_that_ended_first_is_let_go_and_is_then_unknown() {
    let builder = with_sessions_and(|config| config.max_retained_calls = 3);
    let (client, mut peer, _network) = connected_once(builder).await;
    let mut sessions = Sessions::with_window(64);
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(unanswered(&client, &mut peer, &mut sessions).await);
    }
    assert_eq!(client.stats().retained_calls, 3);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 2, "the two oldest");
    for (token, is_kept) in tokens.into_iter().zip([false, false, true, true, true]) {
        let resolving = tokio::spawn(client.resolve(token).into_future());
        peer.serve_for(&mut sessions, ms(50)).await;
        match resolving.await.unwrap() {
            Ok(Resolution::Never) => assert!(is_kept),
            Err(CallError::Unknown { .. }) => assert!(!is_kept),
            other => panic!("{other:?}"),
        }
    }
}

/// Kind: what is refused for a moment is taken for refused for good. Instance: a session for new calls that a server whose
/// disk is full does not open now, at which the client let go of calls that were asked for later.
#[tokio::test(start_paused = true)]
async fn a_server_that_opens_no_session_now_costs_no_kept_error() {
    for (refusal, kept) in [(-32006, 4), (-32001, 3)] {
        let (client, mut peer, _network) = connected_once(with_sessions()).await;
        let mut sessions = Sessions::with_window(4);
        (sessions.max_sessions, sessions.refusal) = (1, refusal);
        let mut tokens = Vec::new();
        for _ in 0..4 {
            tokens.push(unanswered(&client, &mut peer, &mut sessions).await);
        }
        peer.serve_for(&mut sessions, ms(100)).await;
        assert_eq!(client.stats().retained_calls, kept, "{refusal}");
    }
}

/// What has a number and is still to be sent is no ended call.
#[tokio::test(start_paused = true)]
async fn reserved_numbers_are_never_let_go() {
    let builder = with_sessions_and(|config| config.max_retained_calls = 1);
    let (client, mut peer, _network) = connected_once(builder).await;
    let mut sessions = Sessions::with_window(8);
    sessions.max_sessions = 1;
    answered(&client, &mut peer, &mut sessions).await;
    let mut reserved = Vec::new();
    for _ in 0..3 {
        let mut call = client.request("inc", json!({}));
        call.token().await.unwrap();
        reserved.push(call);
    }
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(unanswered(&client, &mut peer, &mut sessions).await);
    }
    for (call, expected) in reserved.into_iter().zip(1..) {
        let call = start(call);
        let request = peer.next_call(&mut sessions).await;
        assert_eq!(number(&request), expected);
        peer.execute(&mut sessions, &request, json!(1)).await;
        call.await.unwrap().unwrap();
    }
}
