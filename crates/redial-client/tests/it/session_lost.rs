//! When the session is lost, unwritten calls go to the next session, calls that may have been
//! executed end as unknown, and nothing is executed twice.

use crate::peer::{
    Network, Peer, connected, ends, inc, ms, network,
    session::{Sessions, call, number},
    start, with_sessions, with_sessions_and,
};
use redial_client::{CallError, CallToken, Cause, Client, Executed};
use serde_json::{Value, json};

/// A client with a session, whose first call has completed, and its server.
async fn attached() -> (Client, Peer, Network, Sessions) {
    let (client, mut peer, network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
    (client, peer, network, sessions)
}

/// The server restarts, and has lost its records.
async fn restart(peer: Peer, network: &mut Network, sessions: &mut Sessions) -> Peer {
    drop(peer);
    sessions.known.clear();
    network.accept().await
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_been_executed_ends_as_unknown_with_its_token() {
    let (client, mut peer, mut network, mut sessions) = attached().await;
    let written = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    let mut peer = restart(peer, &mut network, &mut sessions).await;
    let fresh = inc(&client);
    let next = peer.next_call(&mut sessions).await;
    // It was sent under the old session right behind the hello, and refused.
    assert_eq!(number(&next), 2);
    peer.execute(&mut sessions, &next, json!(1)).await;
    let error = written.await.unwrap().unwrap_err();
    assert!(matches!(error.cause(), Cause::SessionLost), "{error}");
    let CallError::Unknown { token, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(format!("\"{}\"", token.id), request.id);
    let again = peer.next_call(&mut sessions).await;
    assert_eq!((number(&again), again.method.as_str()), (0, "inc"));
    assert_ne!(call(&again).unwrap().session, call(&next).unwrap().session);
    peer.execute(&mut sessions, &again, json!(1)).await;
    let report = fresh.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["refused", "reply"]);
    assert_eq!(report.attempts(), 1, "an unexecuted attempt was counted");
    let ids: Vec<_> = report
        .history()
        .map(|attempt| format!("\"{}\"", attempt.id))
        .collect();
    assert_eq!(ids, [next.id, again.id]);
    let stats = client.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (2, 1));
    assert!(peer.is_quiet_for(ms(1)).await, "the other was not sent");
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_never_written_go_on_under_the_next_session() {
    let (client, peer, mut network, mut sessions) = attached().await;
    network.refuse(true);
    drop(peer);
    sessions.known.clear();
    tokio::time::sleep(ms(1)).await;
    let try_once = || client.request("inc", json!({})).max_attempts(1);
    let calls: Vec<_> = (0..3).map(|_| start(try_once())).collect();
    tokio::time::sleep(ms(100)).await;
    network.refuse(false);
    let mut peer = network.accept().await;
    let hello = peer.next().await;
    assert!(peer.serve(&mut sessions, &hello).await);
    let mut fresh = Vec::new();
    while fresh.len() < 3 {
        let request = peer.next_call(&mut sessions).await;
        let session = call(&request).unwrap().session.to_string();
        if sessions.known.contains_key(&session) {
            fresh.push(number(&request));
        }
        peer.execute(&mut sessions, &request, json!(1)).await;
    }
    assert_eq!(fresh, [0, 1, 2]);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    }
}

/// The server may have known the session when the call, or a copy of it, first arrived.
#[tokio::test(start_paused = true)]
async fn without_a_reply_to_the_hello_a_refusal_proves_nothing() {
    let (client, peer, mut network, mut sessions) = attached().await;
    drop(peer);
    sessions.known.clear();
    tokio::time::sleep(ms(1)).await;
    let refused = inc(&client);
    let mut peer = network.accept().await;
    assert_eq!(peer.next().await.method, "rpc.hello");
    let request = peer.next().await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    let error = refused.await.unwrap().unwrap_err();
    assert!(matches!(error.cause(), Cause::SessionLost), "{error}");
    assert_eq!(error.executed(), Executed::Unknown);
    assert_eq!(client.stats().sessions_lost, 1);
    // The next call goes to a new session.
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 0);
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_query_is_simply_sent_again() {
    let (client, mut peer, mut network, mut sessions) = attached().await;
    let query = start(client.query("get", json!({})));
    let first = peer.next_call(&mut sessions).await;
    let mut peer = restart(peer, &mut network, &mut sessions).await;
    let mutation = inc(&client);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let request = peer.next_call(&mut sessions).await;
        let session = call(&request).unwrap().session.to_string();
        if sessions.known.contains_key(&session) {
            assert_ne!(request.id, first.id);
            seen.insert(request.method.clone());
            peer.execute(&mut sessions, &request, json!(7)).await;
        }
    }
    assert_eq!(query.await.unwrap().unwrap().value, 7);
    mutation.await.unwrap().unwrap();
    assert!(seen.contains("get"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_on_an_open_connection_leaves_its_calls_unknown() {
    let (client, mut peer, _network, mut sessions) = attached().await;
    let (first, second) = (inc(&client), inc(&client));
    let requests = [
        peer.next_call(&mut sessions).await,
        peer.next_call(&mut sessions).await,
    ];
    sessions.known.clear();
    // Both may have been executed before.
    peer.execute(&mut sessions, &requests[1], json!(1)).await;
    for call in [first, second] {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown);
        assert!(matches!(error.cause(), Cause::SessionLost), "{error}");
    }
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 0);
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_in_use_on_one_connection_survives_another_server_that_does_not_know_it() {
    let (mut network, connector) = network(1 << 16);
    let client = with_sessions_and(|config| config.connections = 2)
        .connect_with(connector)
        .await
        .unwrap();
    let (mut first, mut second) = (network.accept().await, network.accept().await);
    let (mut sessions, mut strange) = (Sessions::new(), Sessions::new());
    let calls = [inc(&client), inc(&client)];
    for peer in [&mut first, &mut second] {
        let request = peer.next_call(&mut sessions).await;
        peer.execute(&mut sessions, &request, json!(1)).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // The second connection is made again, and reaches another server.
    drop(second);
    tokio::time::sleep(ms(1)).await;
    let calls = [inc(&client), inc(&client)];
    let mut second = network.accept().await;
    let hello = second.next().await;
    second.serve(&mut strange, &hello).await;
    while let Some(request) = second.request().await {
        assert_eq!(request.method, "inc");
    }
    for _ in &calls {
        let request = first.next_call(&mut sessions).await;
        first.execute(&mut sessions, &request, json!(1)).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let stats = client.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (1, 0));
    assert_eq!(strange.opened, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_sessions_that_replaces_one_with_executes_nothing_again() {
    let (client, mut peer, mut network, mut sessions) = attached().await;
    let written = inc(&client);
    peer.next_call(&mut sessions).await;
    drop(peer);
    let mut peer = network.accept().await;
    let plain = async {
        loop {
            let Some(request) = peer.request().await else {
                peer = network.accept().await;
                continue;
            };
            match request.method.as_str() {
                "rpc.hello" => peer.error(&request, -32601, json!(null)).await,
                "rpc.ack" => {}
                other => panic!("{other} is sent"),
            }
        }
    };
    let error = tokio::select! {
        ended = written => ended.unwrap().unwrap_err(),
        () = plain => unreachable!("it has no end"),
    };
    assert_eq!(error.executed(), Executed::Unknown);
    assert!(
        error
            .to_string()
            .contains("sessions at this address before"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_token_was_given_out_keeps_its_id() {
    let (client, peer, mut network, mut sessions) = attached().await;
    let mut call = client.request("inc", json!({}));
    let token = call.token().await.unwrap();
    let mut later = client.request("inc", json!({}));
    later.token().await.unwrap();
    drop(peer);
    sessions.known.clear();
    tokio::time::sleep(ms(1)).await;
    let call = start(call);
    let mut peer = network.accept().await;
    let hello = peer.next().await;
    peer.serve(&mut sessions, &hello).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.executed(), error.details().id),
        (Executed::No, token.id)
    );
    assert!(matches!(error.cause(), Cause::SessionLost), "{error}");
    let error = start(later).await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert!(matches!(error.cause(), Cause::SessionLost), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_session_that_is_unknown_leaves_the_clients_own_alone() {
    let (client, mut peer, _network, mut sessions) = attached().await;
    let text = r#"{"id":"12345678-9abc-8def-8000-000000000007","method":"inc"}"#;
    let resumed = start(client.resume(serde_json::from_str::<CallToken>(text).unwrap()));
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    let error = resumed.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 1);
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
    assert_eq!(client.stats().sessions_lost, 0);
}

/// The code is Redial's own, but a handler or a proxy may have chosen it, too.
#[tokio::test(start_paused = true)]
async fn an_error_that_names_no_session_loses_none() {
    let (client, mut peer, _network, mut sessions) = attached().await;
    let other = sessions.foreign();
    let others = json!({"executed": "unknown", "unknown_session": other});
    let mut expected = 1;
    for data in [Value::Null, json!({"executed": "unknown"}), others] {
        let (failing, other) = (inc(&client), inc(&client));
        let refused = peer.next_call(&mut sessions).await;
        let request = peer.next_call(&mut sessions).await;
        assert_eq!(
            (number(&refused), number(&request)),
            (expected, expected + 1)
        );
        peer.error(&refused, -32004, data.clone()).await;
        let error = failing.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown);
        assert!(matches!(error.cause(), Cause::Server(_)), "{data}: {error}");
        // The other call goes on, and so do those to come.
        peer.execute(&mut sessions, &request, json!(1)).await;
        other.await.unwrap().unwrap();
        drop(error);
        expected += 2;
    }
    let stats = client.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_sent_to_a_server_without_sessions_go_to_no_other() {
    let (mut network, connector) = network(1 << 16);
    let builder = with_sessions_and(|config| config.connections = 2);
    let client = builder.connect_with(connector).await.unwrap();
    let (mut first, mut second) = (network.accept().await, network.accept().await);
    let mut sessions = Sessions::new();
    let calls = [inc(&client), inc(&client)];
    for peer in [&mut first, &mut second] {
        let request = peer.next_call(&mut sessions).await;
        peer.execute(&mut sessions, &request, json!(1)).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // The second server is replaced by one of an older version, which executes what is written
    // behind the hello.
    drop(second);
    tokio::time::sleep(ms(1)).await;
    let calls = [inc(&client), inc(&client)];
    let mut plain = network.accept().await;
    let hello = plain.next().await;
    assert_eq!(hello.method, "rpc.hello");
    let executed = plain.next().await;
    plain.error(&hello, -32601, json!(null)).await;
    plain.result(&executed, json!(1)).await;
    let request = first.next_call(&mut sessions).await;
    assert_ne!(request.id, executed.id);
    first.execute(&mut sessions, &request, json!(1)).await;
    first.serve_for(&mut sessions, ms(3000)).await;
    let mut outcomes = Vec::new();
    for call in calls {
        let outcome = call.await.unwrap();
        outcomes.push(outcome.map_or_else(|error| error.executed(), |_| Executed::Yes));
    }
    outcomes.sort_by_key(|executed| *executed == Executed::Yes);
    assert_eq!(outcomes, [Executed::Unknown, Executed::Yes]);
}
