//! At the server's window calls wait in their order, and none fails for it before its deadline.

use std::future::IntoFuture;

use crate::peer::{
    self, connected, inc, ms, network,
    session::{Sessions, number},
    start, with_sessions, with_sessions_and,
};
use redial_client::{CallError, Cause};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_window_wait_in_their_order() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(4);
    let first = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    first.await.unwrap().unwrap();
    let patient = |n: u64| client.request("inc", json!([n])).attempt_timeout(ms(3000));
    let calls: Vec<_> = (0..12).map(|n| start(patient(n))).collect();
    let mut unanswered = std::collections::VecDeque::new();
    for expected in 0..12 {
        if unanswered.len() == 4 {
            let quiet = async { peer.serve_for(&mut sessions, ms(1)).await };
            quiet.await;
            let request: peer::SentRequest = unanswered.pop_front().unwrap();
            peer.execute(&mut sessions, &request, json!(1)).await;
        }
        let request = peer.next_call(&mut sessions).await;
        assert_eq!(
            (number(&request), &request.params),
            (expected + 1, &json!([expected]))
        );
        unanswered.push_back(request);
    }
    for request in unanswered {
        peer.execute(&mut sessions, &request, json!(1)).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_at_the_window_waits_no_longer_than_its_deadline() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(1);
    let slow = start(client.request("slow", json!({})).attempt_timeout(ms(3000)));
    let held = peer.next_call(&mut sessions).await;
    let (hasty, dropped) = (
        start(client.request("inc", json!({})).deadline(ms(50))),
        inc(&client),
    );
    let patient = inc(&client);
    let error = hasty.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert!(matches!(error.cause(), Cause::NotSent(_)), "{error}");
    assert_eq!(error.report().total(), ms(50));
    dropped.abort();
    dropped.await.unwrap_err();
    peer.execute(&mut sessions, &held, json!(1)).await;
    slow.await.unwrap().unwrap();
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(
        (number(&request), request.meta.ack),
        (1, Some(1)),
        "it was sent to the server"
    );
    peer.execute(&mut sessions, &request, json!(1)).await;
    patient.await.unwrap().unwrap();
    assert_eq!(client.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_window_completed_calls_behind_a_slow_one_make_room_at_once() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(8);
    let patient = |method| client.request(method, json!({})).attempt_timeout(ms(3000));
    let calls: Vec<_> = (0..8).map(|_| start(patient("slow"))).collect();
    let mut requests = Vec::new();
    for _ in 0..8 {
        requests.push(peer.next_call(&mut sessions).await);
    }
    let waiting = start(patient("inc"));
    assert!(peer.is_quiet_for(ms(30)).await);
    // At any other time one acknowledgement short of all would be too few to send.
    peer.execute(&mut sessions, &requests[3], json!(1)).await;
    let ack = peer.next().await;
    assert_eq!(
        (ack.method.as_str(), &ack.params["above"]),
        ("rpc.ack", &json!([[3, 4]]))
    );
    peer.serve(&mut sessions, &ack).await;
    let request = peer.next_call(&mut sessions).await;
    assert_eq!((number(&request), request.at), (8, ack.at));
    peer.execute(&mut sessions, &request, json!(1)).await;
    waiting.await.unwrap().unwrap();
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn unreported_room_is_found_on_the_next_connection() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(2);
    let unknown = start(
        client
            .request("inc", json!({}))
            .max_attempts(1)
            .deadline(ms(20)),
    );
    peer.next_call(&mut sessions).await;
    let error = unknown.await.unwrap().unwrap_err();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
    drop(peer);
    tokio::time::sleep(ms(1)).await;
    let call = inc(&client);
    let mut peer = network.accept().await;
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
    drop(error);
}

/// Futures that are awaited together in one task are all polled when one of them is woken.
#[tokio::test(start_paused = true)]
async fn polling_a_waiting_call_does_not_lose_its_turn() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(1);
    let call = |n: u64| client.request("inc", json!([n])).into_future();
    let (a, b, c) = (call(0), call(1), call(2));
    let all = tokio::spawn(async move {
        let ticks = async {
            for _ in 0..100 {
                tokio::time::sleep(ms(1)).await;
            }
        };
        tokio::join!(async { tokio::try_join!(a, b, c) }, ticks).0
    });
    for expected in 0..3 {
        let request = peer.next_call(&mut sessions).await;
        assert_eq!(number(&request), expected);
        assert!(peer.is_quiet_for(ms(10)).await, "there is no room");
        let value = request.params[0].clone();
        peer.execute(&mut sessions, &request, value).await;
    }
    let values = all.await.unwrap().unwrap();
    assert_eq!(values, (json!(0), json!(1), json!(2)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_room_sends_no_call_without_a_number() {
    let (mut network, connector) = network(1 << 16);
    let builder = with_sessions_and(|config| config.connections = 2);
    let client = builder.connect_with(connector).await.unwrap();
    let (mut first, mut second) = (network.accept().await, network.accept().await);
    let mut sessions = Sessions::with_window(2);
    let call = |n: u64| client.request("inc", json!([n])).into_future();
    let (a, b, c, d) = (call(0), call(1), call(2), call(3));
    let all = tokio::spawn(async move { tokio::try_join!(a, b, c, d) });
    let mut numbers = Vec::new();
    while numbers.len() < 4 {
        let (seen, peer) = tokio::select! {
            biased;
            seen = first.next() => (seen, &mut first),
            seen = second.next() => (seen, &mut second),
        };
        if !peer.serve(&mut sessions, &seen).await {
            assert!(!seen.is_notification, "{}", seen.text);
            numbers.push(number(&seen));
            peer.execute(&mut sessions, &seen, json!(1)).await;
        }
    }
    // Either connection may get either call.
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    all.await.unwrap().unwrap();
}

/// Nothing is sent for it, so the end of the window is all that it can wait for.
#[tokio::test(start_paused = true)]
async fn a_token_awaited_at_the_window_comes_when_there_is_room() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(1);
    let slow = client.request("slow", json!({})).into_future();
    let mut calls = [0, 1].map(|n| client.request("inc", json!([n])));
    let all = tokio::spawn(async move {
        let [b, c] = &mut calls;
        let (slow, ..) = tokio::join!(slow, b.token(), c.token());
        slow.unwrap();
        let mut tokens = Vec::new();
        for call in &mut calls {
            tokens.push(call.token().await.unwrap().id);
        }
        tokens
    });
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    let serving = tokio::spawn(async move {
        peer.serve_for(&mut sessions, ms(3000)).await;
        sessions
    });
    let tokens = all.await.unwrap();
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(client.stats().retained_calls, 0, "the calls are gone");
    let sessions = serving.await.unwrap();
    let acked = sessions.known.values().map(|table| table.ack);
    assert_eq!(acked.sum::<u64>(), 3);
}
