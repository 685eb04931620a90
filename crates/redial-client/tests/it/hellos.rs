//! A lost, refused or useless hello delays calls no longer than it must, and their errors say what
//! was wrong with it.

use std::time::Duration;

use crate::peer::{
    self, Peer, config, connected, inc, lazy, ms,
    session::{Sessions, call, number},
    start, with_sessions,
};
use redial_client::{CallError, Cause, Client, Executed};
use serde_json::json;
use tokio::time::timeout;

/// A client that has used up half of its one session, so that it asks for a second.
async fn crowded() -> (
    Client,
    Peer,
    Sessions,
    Vec<redial_client::Call<serde_json::Value>>,
) {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::with_window(4);
    let first = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    first.await.unwrap().unwrap();
    let mut reserved = Vec::new();
    for _ in 0..2 {
        let mut call = client.request("inc", json!({}));
        call.token().await.unwrap();
        reserved.push(call);
    }
    (client, peer, sessions, reserved)
}

/// The next hello; other `rpc.*` requests are answered.
async fn next_hello(peer: &mut Peer, sessions: &mut Sessions) -> peer::SentRequest {
    loop {
        let seen = peer.next().await;
        if seen.method == "rpc.hello" {
            return seen;
        }
        assert!(peer.serve(sessions, &seen).await, "{}", seen.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_hello_costs_a_call_no_attempt() {
    let mut patient = config();
    patient.sessions = true;
    // As long as the deadline: a call that waited for it would have no time left.
    patient.call.attempt_timeout = patient.call.deadline;
    let (client, mut network) = lazy(Client::builder().config(patient));
    let call = inc(&client);
    let mut peer = network.accept().await;
    let mut sessions = Sessions::new();
    assert_eq!(peer.next().await.method, "rpc.hello");
    let request = timeout(ms(2000), peer.next_call(&mut sessions)).await;
    let request = request.expect("the hello is sent again");
    peer.execute(&mut sessions, &request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn unanswered_hellos_for_a_second_session_leave_the_first_one_in_use() {
    let (client, mut peer, mut sessions, _reserved) = crowded().await;
    for _ in 0..4 {
        let hello = timeout(ms(5000), next_hello(&mut peer, &mut sessions)).await;
        hello.expect("it goes on asking");
    }
    let running = inc(&client);
    let mut attempts = Vec::new();
    while attempts.len() < 2 {
        let seen = peer.next().await;
        if seen.method == "inc" {
            let session = call(&seen).expect("a call of the session").session;
            assert!(sessions.known.contains_key(&session.to_string()));
            let data = json!({"executed": "no", "retry_after_ms": 1});
            peer.error(&seen, -32001, data).await;
            attempts.push((seen.id, seen.meta.attempt));
        }
    }
    // With its extensions, which distinguish an attempt from a copy of an earlier one.
    assert_eq!(attempts[0].0, attempts[1].0);
    assert_eq!((attempts[0].1, attempts[1].1), (1, 2));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_number_reports_the_servers_refusal() {
    let (client, mut peer, mut sessions, mut reserved) = crowded().await;
    for refused in [true, false] {
        // The last two numbers of the session, which leave no room.
        while reserved.len() < 4 {
            let mut call = client.request("inc", json!({}));
            call.token().await.unwrap();
            reserved.push(call);
        }
        let mut call = client.request("inc", json!({})).deadline(ms(3000));
        let token = tokio::spawn(async move { call.token().await });
        let hello = next_hello(&mut peer, &mut sessions).await;
        if !refused {
            peer.serve(&mut sessions, &hello).await;
            token.await.unwrap().unwrap();
            break;
        }
        let data = json!({"executed": "no", "retry_after_ms": 4000});
        peer.error(&hello, -32001, data).await;
        let error = token.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
        let Cause::Server(refusal) = error.cause() else {
            panic!("{error}");
        };
        assert_eq!(i32::from(refusal.code), -32001);
        assert_eq!(error.report().total(), ms(3000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_of_any_size_lets_calls_through() {
    for window in [0, 1, u64::MAX] {
        let (client, mut peer, _network) = connected(with_sessions()).await;
        let mut sessions = Sessions::with_window(window);
        sessions.max_frame = u64::MAX;
        for expected in 0..3 {
            let running = inc(&client);
            let request = peer.next_call(&mut sessions).await;
            assert_eq!(number(&request), expected, "window {window}");
            peer.execute(&mut sessions, &request, json!(1)).await;
            running.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_no_frames_gets_none() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    sessions.max_frame = 0;
    let running = inc(&client);
    let hello = peer.next().await;
    peer.serve(&mut sessions, &hello).await;
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert!(matches!(error.cause(), Cause::TooLarge(_)), "{error}");
    assert!(peer.is_quiet_for(ms(5000)).await);
}

/// A server answers the hello and closes, while a call waits that must go to this server.
#[tokio::test(start_paused = true)]
async fn connections_that_close_after_the_hello_are_made_with_pauses() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let running = start(client.request("inc", json!({})).deadline(ms(60_000)));
    peer.next_call(&mut sessions).await;
    drop(peer);
    let mut connections = 0;
    let storm = async {
        loop {
            let mut peer = network.accept().await;
            connections += 1;
            assert!(connections < 1000, "without pause");
            let hello = peer.next().await;
            peer.serve(&mut sessions, &hello).await;
        }
    };
    let minute = timeout(Duration::from_secs(50), storm).await;
    minute.expect_err("it never ends");
    // 50 ms, doubled up to 2 s.
    assert!((20..40).contains(&connections), "{connections} connections");
    running.abort();
}
