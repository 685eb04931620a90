//! A refusal counts for the attempt that it names: a copied request is refused twice.

use crate::peer::{Peer, SentRequest, connected, ms, session::Sessions, start, with_sessions_and};
use redial_client::{CallError, ClientBuilder};
use serde_json::json;

/// Refuses an attempt as a server with sessions does.
async fn refuse(peer: &mut Peer, request: &SentRequest, attempt: u32) {
    let reply = json!({
        "jsonrpc": "2.0",
        "id": serde_json::from_str::<serde_json::Value>(&request.id).unwrap(),
        "error": {"code": -32001, "message": "busy", "data": {"executed": "no"}},
        "redial": {"attempt": attempt},
    });
    peer.frame(reply.to_string().as_bytes()).await;
}

/// A client whose calls have two attempts.
fn two_attempts() -> ClientBuilder {
    with_sessions_and(|config| config.call.max_attempts = 2)
}

#[tokio::test(start_paused = true)]
async fn a_repeated_refusal_does_not_count_for_the_next_attempt() {
    let (client, mut peer, _network) = connected(two_attempts()).await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    let first = peer.next_call(&mut sessions).await;
    refuse(&mut peer, &first, 1).await;
    let second = peer.next_call(&mut sessions).await;
    assert_eq!(second.meta.attempt, 2);
    refuse(&mut peer, &first, 1).await;
    // The second attempt may still run, and it does.
    tokio::time::sleep(ms(1)).await;
    peer.execute(&mut sessions, &second, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().value, json!(1));
    assert_eq!(client.stats().unmatched_replies, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_every_attempt_is_refused_is_not_executed() {
    let (client, mut peer, _network) = connected(two_attempts()).await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    for attempt in [1, 2] {
        let request = peer.next_call(&mut sessions).await;
        refuse(&mut peer, &request, attempt).await;
    }
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn two_late_refusals_of_one_attempt_count_once() {
    let (client, mut peer, _network) = connected(two_attempts()).await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    let first = peer.next_call(&mut sessions).await;
    let second = peer.next_call(&mut sessions).await;
    assert_eq!((first.meta.attempt, second.meta.attempt), (1, 2));
    for _ in 0..2 {
        refuse(&mut peer, &first, 1).await;
    }
    tokio::time::sleep(ms(10)).await;
    assert!(!call.is_finished(), "the second attempt may run");
    peer.execute(&mut sessions, &second, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().value, json!(1));
    assert_eq!(client.stats().unmatched_replies, 1);
}

/// No room to wait for a running call is a reason to come back, not an end: the outcome is yet to come.
#[tokio::test(start_paused = true)]
async fn a_call_goes_on_if_there_is_no_room_to_wait_for_its_running_attempt() {
    let (client, mut peer, _network) = connected(with_sessions_and(|config| {
        config.call.max_attempts = 100;
    }))
    .await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    for _ in 0..3 {
        let request = peer.next_call(&mut sessions).await;
        let busy = json!({"executed": "unknown", "retry_after_ms": 100});
        peer.error(&request, -32001, busy).await;
    }
    let replayed = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &replayed, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().value, json!(1));
}

/// But nothing is concluded from it: the call may have been executed.
#[tokio::test(start_paused = true)]
async fn a_call_without_room_to_wait_is_unknown_at_its_deadline() {
    let (client, mut peer, _network) = connected(two_attempts()).await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    for data in [
        json!({"executed": "unknown", "retry_after_ms": 10}),
        json!({"executed": "no"}),
    ] {
        let request = peer.next_call(&mut sessions).await;
        peer.error(&request, -32001, data).await;
    }
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
}

/// Kind: *not executed* that speaks of a message, taken for the call. Instance: an attempt that was
/// changed on its way is refused, under the id of a call whose first attempt has run.
#[tokio::test(start_paused = true)]
async fn a_refused_message_says_nothing_of_an_earlier_attempt() {
    for code in [-32700, -32600, -32601, -32602] {
        for names_attempt in [true, false] {
            let (client, mut peer, _network) = connected(two_attempts()).await;
            let mut sessions = Sessions::new();
            let call = start(client.request("inc", json!({})));
            let _runs = peer.next_call(&mut sessions).await;
            let changed = peer.next_call(&mut sessions).await;
            let mut reply = json!({
                "jsonrpc": "2.0",
                "id": serde_json::from_str::<serde_json::Value>(&changed.id).unwrap(),
                "error": {"code": code, "message": "", "data": {"executed": "no"}},
            });
            if names_attempt {
                reply["redial"] = json!({"attempt": 2});
            }
            peer.frame(reply.to_string().as_bytes()).await;
            let error = call.await.unwrap().unwrap_err();
            assert!(
                matches!(error, CallError::Unknown { .. }),
                "{code}: {error}"
            );
        }
    }
}

/// A bare -32001 is another server's, and says nothing.
#[tokio::test(start_paused = true)]
async fn a_refusal_without_redials_data_ends_the_call_as_unknown() {
    let (client, mut peer, _network) = connected(two_attempts()).await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    let request = peer.next_call(&mut sessions).await;
    peer.error(&request, -32001, json!(null)).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    // At once, where a server of Redial's that is busy would be asked again until the deadline.
    assert_eq!(
        (error.report().attempts(), error.report().total()),
        (1, ms(0))
    );
}

/// Says that so many attempts wait for the call already.
async fn leave_without_place(peer: &mut Peer, request: &SentRequest, retry_after_ms: u64) {
    let data = json!({"executed": "unknown", "retry_after_ms": retry_after_ms});
    peer.error(request, -32001, data).await;
}

/// A reason to wait, in the words of a server that says when to come back, and of one that doesn't.
#[tokio::test(start_paused = true)]
async fn a_call_that_runs_is_asked_for_again_where_there_was_no_room_to_wait_for_it() {
    for retry_after_ms in [0, 100] {
        let (client, mut peer, _network) = connected(two_attempts()).await;
        let mut sessions = Sessions::new();
        let call = start(client.request("inc", json!({})));
        for attempt in 1..=6 {
            let request = peer.next_call(&mut sessions).await;
            assert_eq!(request.meta.attempt, attempt, "it doesn't count");
            leave_without_place(&mut peer, &request, retry_after_ms).await;
        }
        let last = peer.next_call(&mut sessions).await;
        peer.execute(&mut sessions, &last, json!(1)).await;
        assert_eq!(call.await.unwrap().unwrap().value, json!(1));
    }
}

/// Its time was up before the refusal came, and it was the last.
#[tokio::test(start_paused = true)]
async fn a_last_attempt_that_found_no_place_late_is_made_again() {
    let (client, mut peer, network) = connected(two_attempts()).await;
    network.refuse(true);
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    let requests = [
        peer.next_call(&mut sessions).await,
        peer.next_call(&mut sessions).await,
    ];
    tokio::time::sleep(ms(500)).await;
    for request in &requests {
        leave_without_place(&mut peer, request, 100).await;
    }
    let third = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &third, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().value, json!(1));
}

/// What waits is waited for to the end, which is then unknown.
#[tokio::test(start_paused = true)]
async fn a_call_without_place_ends_as_unknown_at_its_deadline() {
    let (client, mut peer, _network) = connected(two_attempts()).await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})));
    let serving = tokio::spawn(async move {
        while let Some(request) = peer.request().await {
            if !peer.serve(&mut sessions, &request).await {
                leave_without_place(&mut peer, &request, 500).await;
            }
        }
    });
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert!(error.report().total() >= ms(2500), "{error:?}");
    drop(client);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_question_that_found_no_place_is_asked_again() {
    let (client, mut peer, _network) = connected(two_attempts()).await;
    let mut sessions = Sessions::new();
    let session = sessions.foreign();
    let token = crate::peer::session::foreign_token(&session, 0);
    let question = tokio::spawn(client.resolve(token).into_future());
    for _ in 0..4 {
        let question = peer.next_resolve(&mut sessions).await;
        leave_without_place(&mut peer, &question, 100).await;
    }
    peer.serve_for(&mut sessions, ms(500)).await;
    let resolution = question.await.unwrap().unwrap();
    assert_eq!(resolution, redial_client::Resolution::Never);
}
