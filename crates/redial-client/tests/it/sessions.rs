//! A client uses a session where the server has them, and does without where it hasn't.

use crate::peer::{
    self, Peer, config, connected, inc, ms, network,
    session::{Sessions, call, number},
    start, with_sessions, with_sessions_and,
};
use redial_client::{CallError, Cause, Config};
use redial_protocol::SessionId;
use serde_json::json;

/// Answers the next request, which must be `inc`.
async fn answer(peer: &mut Peer, sessions: &mut Sessions) -> peer::SentRequest {
    let request = peer.next_call(sessions).await;
    assert_eq!(request.method, "inc");
    peer.execute(sessions, &request, json!(1)).await;
    request
}

#[tokio::test(start_paused = true)]
async fn the_first_calls_wait_for_a_session_and_are_numbered_in_it() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let calls = [inc(&client), inc(&client), inc(&client)];
    let hello = peer.next().await;
    assert_eq!(
        (hello.method.as_str(), hello.params.to_string()),
        ("rpc.hello", "{}".to_owned())
    );
    assert!(peer.is_quiet_for(ms(50)).await, "the calls wait");
    let mut sessions = Sessions::new();
    assert!(peer.serve(&mut sessions, &hello).await);
    for expected in 0..3 {
        let request = answer(&mut peer, &mut sessions).await;
        let call = call(&request).unwrap();
        assert_eq!(
            (call.session, call.number),
            (SessionId::from_bits(0xabc_0001), expected)
        );
    }
    for call in calls {
        let report = call.await.unwrap().unwrap().report;
        assert_eq!((report.attempts(), report.replayed()), (1, Some(false)));
    }
    assert_eq!(
        (client.stats().sessions_opened, client.stats().sessions_lost),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_next_connection_is_attached_without_waiting() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let first = inc(&client);
    let before = answer(&mut peer, &mut sessions).await;
    first.await.unwrap().unwrap();
    drop(peer);
    tokio::time::sleep(ms(1)).await;
    let second = inc(&client);
    let mut peer = network.accept().await;
    let hello = peer.next().await;
    let session = call(&before).unwrap().session.to_string();
    assert_eq!(
        (hello.method.as_str(), &hello.params["session"]),
        ("rpc.hello", &json!(session))
    );
    // The call follows, though the hello has no reply yet, and acknowledges the one before.
    let request = peer.next().await;
    assert_eq!(
        (request.at, number(&request), request.meta.ack),
        (hello.at, 1, Some(1))
    );
    peer.result(&request, json!(2)).await;
    assert_eq!(second.await.unwrap().unwrap().value, 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_could_repeat_an_effect_waits_until_the_server_is_known() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    let first = peer.next_call(&mut sessions).await;
    drop(peer);
    let mut peer = network.accept().await;
    let hello = peer.next().await;
    assert_eq!(hello.method, "rpc.hello");
    assert!(
        peer.is_quiet_for(ms(50)).await,
        "it could be a server without sessions"
    );
    assert!(peer.serve(&mut sessions, &hello).await);
    let second = peer.next_call(&mut sessions).await;
    assert_eq!((&second.id, second.meta.attempt), (&first.id, 2));
    peer.execute(&mut sessions, &second, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_hello_is_sent_again_and_blocks_no_call() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let call = inc(&client);
    let first = peer.next().await;
    let second = peer.next().await;
    assert_eq!(second.method, "rpc.hello");
    assert_eq!(second.at - first.at, ms(250), "no sooner than this");
    let mut sessions = Sessions::new();
    peer.serve(&mut sessions, &second).await;
    let request = answer(&mut peer, &mut sessions).await;
    assert_eq!(request.at, second.at);
    call.await.unwrap().unwrap();
    // The reply to the first comes late, and is ignored.
    peer.serve(&mut sessions, &first).await;
    let call = inc(&client);
    let next = answer(&mut peer, &mut sessions).await;
    assert_eq!((number(&next), sessions.opened), (1, 2));
    assert_eq!(client.stats().sessions_opened, 1);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_without_room_for_a_session_is_asked_again_after_its_retry_after() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let call = inc(&client);
    let hasty = start(client.request("inc", json!({})).deadline(ms(300)));
    let hello = peer.next().await;
    peer.error(
        &hello,
        -32001,
        json!({"executed": "no", "retry_after_ms": 700}),
    )
    .await;
    let error = hasty.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    let refused = error.server_error().expect("what the hello was answered");
    assert_eq!(i32::from(refused.code), -32001);
    let again = peer.next().await;
    assert_eq!(
        (again.method.as_str(), again.at - hello.at),
        ("rpc.hello", ms(700))
    );
    peer.error(&again, -32001, json!({"executed": "no"})).await;
    let third = peer.next().await;
    assert_eq!(third.at - again.at, ms(100), "no sooner than a backoff");
    let mut sessions = Sessions::new();
    peer.serve(&mut sessions, &third).await;
    answer(&mut peer, &mut sessions).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pool_has_one_session() {
    let (mut network, connector) = network(1 << 16);
    let client = with_sessions_and(|config| config.connections = 3)
        .connect_with(connector)
        .await
        .unwrap();
    let mut sessions = Sessions::new();
    let calls: Vec<_> = (0..3).map(|_| inc(&client)).collect();
    let mut first = network.accept().await;
    let (mut second, mut third) = (network.accept().await, network.accept().await);
    assert!(second.is_quiet_for(ms(10)).await, "one asks for all");
    assert!(third.is_quiet_for(ms(10)).await);
    let mut numbers = Vec::new();
    for peer in [&mut first, &mut second, &mut third] {
        numbers.push(number(&answer(peer, &mut sessions).await));
    }
    numbers.sort_unstable();
    assert_eq!((numbers, sessions.opened), (vec![0, 1, 2], 1));
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn another_connection_says_hello_if_the_first_is_lost() {
    let (mut network, connector) = network(1 << 16);
    let client = with_sessions_and(|config| config.connections = 2)
        .connect_with(connector)
        .await
        .unwrap();
    let (mut first, mut second) = (network.accept().await, network.accept().await);
    let call = inc(&client);
    assert_eq!(first.next().await.method, "rpc.hello");
    network.refuse(true);
    drop(first);
    answer(&mut second, &mut Sessions::new()).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_the_servers_frame_limit_is_not_sent() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions {
        max_frame: 500,
        ..Sessions::new()
    };
    let large = start(client.request("inc", json!({"text": "x".repeat(600)})));
    let small = inc(&client);
    let request = answer(&mut peer, &mut sessions).await;
    let error = large.await.unwrap().unwrap_err();
    assert!(matches!(error.cause(), Cause::TooLarge(_)), "{error}");
    assert!(matches!(error, CallError::NotExecuted { .. }));
    assert!(request.text.len() < 500);
    small.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_extensions_no_hello_is_sent() {
    let config = Config {
        extensions: false,
        sessions: true,
        ..config()
    };
    let (client, mut peer, _network) =
        connected(redial_client::Client::builder().config(config)).await;
    let call = inc(&client);
    let request = peer.next().await;
    assert_eq!(request.method, "inc");
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}
