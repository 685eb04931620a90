//! A client acknowledges a call when its caller has the outcome, or when nothing can ask about it
//! any more: not before, and not much later.

use crate::peer::{
    Peer, Running, connected, connected_once, inc, ms,
    session::{Sessions, number},
    start, with_sessions,
};
use redial_client::{CallError, CallToken, Client};
use serde_json::json;

async fn answer(peer: &mut Peer, sessions: &mut Sessions) {
    let request = peer.next_call(sessions).await;
    peer.execute(sessions, &request, json!(1)).await;
}

/// A call that is never answered, and ends as unknown.
async fn unanswered(client: &Client, peer: &mut Peer, sessions: &mut Sessions) -> Box<CallToken> {
    let call = client.request("inc", json!({})).max_attempts(1);
    let call = start(call.deadline(ms(200)));
    peer.next_call(sessions).await;
    unknown(call).await
}

async fn unknown(call: Running) -> Box<CallToken> {
    match call.await.unwrap() {
        Err(CallError::Unknown { token, .. }) => token,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_carries_new_acknowledgements() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let first = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(request.meta.ack, None);
    peer.execute(&mut sessions, &request, json!(1)).await;
    first.await.unwrap().unwrap();
    let calls = [inc(&client), inc(&client)];
    let (second, third) = (peer.next().await, peer.next().await);
    assert_eq!((second.meta.ack, third.meta.ack), (Some(1), None));
    // The third call ends before the second, so the watermark stays.
    peer.execute(&mut sessions, &third, json!(1)).await;
    let [slow, fast] = calls;
    fast.await.unwrap().unwrap();
    let fourth = inc(&client);
    assert_eq!(peer.next().await.meta.ack, None);
    drop((slow, fourth));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_its_caller_has_not_read_is_not_acknowledged() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let mut untaken = Box::pin(client.request("inc", json!({})).with_report());
    // It is polled no further than to its sending.
    assert!(
        tokio::time::timeout(ms(10), async {
            tokio::select! {
                biased;
                _ = &mut untaken => {}
                request = peer.next_call(&mut sessions) => {
                    peer.execute(&mut sessions, &request, json!(1)).await;
                    return;
                }
            }
            panic!("it has no reply yet");
        })
        .await
        .is_ok()
    );
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 0);
    untaken.await.unwrap();
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_acknowledges_once_in_a_request_of_its_own() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    answer(&mut peer, &mut sessions).await;
    call.await.unwrap().unwrap();
    let before = {
        #[expect(clippy::disallowed_methods, reason = "the test's own clock is tokio's")]
        tokio::time::Instant::now()
    };
    let ack = peer.next().await;
    assert_eq!(
        (ack.method.as_str(), ack.is_notification),
        ("rpc.ack", true)
    );
    assert!(ack.at - before <= ms(40), "{:?}", ack.at - before);
    peer.serve(&mut sessions, &ack).await;
    assert_eq!(sessions.only().ack, 1);
    assert!(peer.is_quiet_for(ms(5000)).await, "there is no more to say");
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_does_not_keep_the_records_of_the_others() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(16);
    let slow = start(client.request("slow", json!({})).attempt_timeout(ms(3000)));
    let held = peer.next_call(&mut sessions).await;
    for call in 0..1000 {
        let quick = inc(&client);
        answer(&mut peer, &mut sessions).await;
        quick.await.unwrap().unwrap();
        let table = sessions.only();
        let unknown = (0..=call + 1).filter(|n| *n >= table.ack && !table.above.contains(n));
        assert!(unknown.count() <= 1 + 4 + 1, "a quarter of the window");
    }
    peer.serve_for(&mut sessions, ms(100)).await;
    let table = sessions.only();
    assert_eq!(
        (table.ack, table.above.len()),
        (0, 1000),
        "when idle, all of it"
    );
    peer.execute(&mut sessions, &held, json!(1)).await;
    slow.await.unwrap().unwrap();
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 1001);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_on_a_lost_connection_is_sent_again() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let slow = start(client.request("slow", json!({})).attempt_timeout(ms(3000)));
    peer.next_call(&mut sessions).await;
    let call = inc(&client);
    answer(&mut peer, &mut sessions).await;
    call.await.unwrap().unwrap();
    let lost = peer.next().await;
    assert_eq!(
        (lost.method.as_str(), &lost.params["above"]),
        ("rpc.ack", &json!([[1, 2]]))
    );
    drop(peer);
    let mut peer = network.accept().await;
    let hello = peer.next().await;
    peer.serve(&mut sessions, &hello).await;
    let again = peer.next().await;
    assert_eq!((again.method, again.params), (lost.method, lost.params));
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_executed_is_fenced_by_its_acknowledgement() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = start(client.request("inc", json!({})).max_attempts(1));
    let request = peer.next_call(&mut sessions).await;
    peer.error(&request, -32001, json!({"executed": "no"}))
        .await;
    call.await.unwrap().unwrap_err();
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 1, "so that a copy of it is stale");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_calls_record_stays_until_its_token_is_dropped() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let token = unanswered(&client, &mut peer, &mut sessions).await;
    let call = inc(&client);
    answer(&mut peer, &mut sessions).await;
    call.await.unwrap().unwrap();
    let clone = token.clone();
    drop(token);
    peer.serve_for(&mut sessions, ms(10_000)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    assert!(
        sessions.only().above.contains(&1),
        "which is no reason to keep the others"
    );
    drop(clone);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_serialised_keeps_the_record() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let token = unanswered(&client, &mut peer, &mut sessions).await;
    let text = serde_json::to_string(&token).unwrap();
    drop(token);
    peer.serve_for(&mut sessions, ms(10_000)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    // The token is resumed and its call completes, but other copies of the token may exist.
    let token: CallToken = serde_json::from_str(&text).unwrap();
    let resumed = start(client.resume(token.clone()));
    answer(&mut peer, &mut sessions).await;
    resumed.await.unwrap().unwrap();
    peer.serve_for(&mut sessions, ms(1000)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    client.forget(token);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_call_ended_well_keeps_the_record_only_if_it_was_serialised() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    for is_serialised in [false, true] {
        let mine = client.clone();
        let call = tokio::spawn(async move {
            let mut call = mine.request("inc", json!({}));
            let token = call.token().await.unwrap();
            if is_serialised {
                serde_json::to_string(&token).unwrap();
            }
            call.await.unwrap();
            token
        });
        answer(&mut peer, &mut sessions).await;
        let token = call.await.unwrap();
        peer.serve_for(&mut sessions, ms(1000)).await;
        let held = usize::from(is_serialised);
        assert_eq!(
            (sessions.only().ack, client.stats().retained_calls),
            (1, held)
        );
        client.forget(token);
    }
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unsent_call_is_acknowledged_when_call_and_token_are_gone() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let prepared = tokio::spawn(async move {
        let mut call = client.request("inc", json!({}));
        let token = call.token().await.unwrap();
        (client, call, token)
    });
    let hello = peer.next().await;
    peer.serve(&mut sessions, &hello).await;
    let (client, call, token) = prepared.await.unwrap();
    drop(call);
    peer.serve_for(&mut sessions, ms(1000)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    drop(token);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn half_a_window_of_unknown_calls_is_left_for_a_new_session() {
    let (client, mut peer, _network) = connected_once(with_sessions()).await;
    let mut sessions = Sessions::with_window(8);
    let mut tokens = Vec::new();
    for expected in 0..4 {
        assert_eq!(sessions.opened, u64::from(expected > 0));
        tokens.push(unanswered(&client, &mut peer, &mut sessions).await);
    }
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.opened, client.stats().sessions_opened), (2, 2));
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 0, "in the new one");
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
    assert_eq!(
        (client.stats().retained_calls, client.stats().sessions_lost),
        (4, 0)
    );
    // The calls of the old session are acknowledged, too.
    drop(tokens);
    peer.serve_for(&mut sessions, ms(100)).await;
    let mut acks: Vec<u64> = sessions.known.values().map(|table| table.ack).collect();
    acks.sort_unstable();
    assert_eq!((acks, client.stats().retained_calls), (vec![1, 4], 0));
}
