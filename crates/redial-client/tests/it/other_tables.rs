//! A server that attaches a connection to the client's session, but in another table of calls: nothing is
//! known there of what the session's calls did, and what followed the hello may have been executed.

use crate::peer::{
    Peer, connected, inc, ms, network,
    session::{Sessions, call, number},
    with_sessions, with_sessions_and,
};
use redial_client::{CallError, Cause};
use serde_json::json;

/// Answers the next request, which must be `inc`.
async fn answer(peer: &mut Peer, sessions: &mut Sessions) -> u64 {
    let request = peer.next_call(sessions).await;
    assert_eq!(request.method, "inc");
    peer.execute(sessions, &request, json!(1)).await;
    number(&request)
}

/// Answers everything until nothing has arrived for a while. Gives the numbers of the calls.
async fn execute_all(peer: &mut Peer, sessions: &mut Sessions) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Ok(Some(seen)) = tokio::time::timeout(ms(30), peer.request()).await {
        if !peer.serve(sessions, &seen).await {
            peer.execute(sessions, &seen, json!(1)).await;
            numbers.push(number(&seen));
        }
    }
    numbers
}

fn expect_unknown(error: &CallError) {
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert!(matches!(error.cause(), Cause::NoSession(_)), "{error}");
    assert!(error.to_string().contains("another table"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_session_in_another_table_is_lost() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call_of_first = inc(&client);
    answer(&mut peer, &mut sessions).await;
    call_of_first.await.unwrap().unwrap();
    drop(peer);
    tokio::time::sleep(ms(1)).await;
    sessions.table = "another";
    let pipelined = inc(&client);
    let mut peer = network.accept().await;
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 1, "it follows the hello at once");
    let error = pipelined.await.unwrap().unwrap_err();
    expect_unknown(&error);
    // What was not sent there gets a number of a session in that table.
    let next = inc(&client);
    let again = peer.next_call(&mut sessions).await;
    assert_eq!(number(&again), 0);
    assert_ne!(
        call(&again).unwrap().session,
        call(&request).unwrap().session
    );
    peer.execute(&mut sessions, &again, json!(1)).await;
    next.await.unwrap().unwrap();
    let stats = client.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (2, 1));
}

/// Otherwise the call that followed the hello would be sent again, over the other connection.
#[tokio::test(start_paused = true)]
async fn a_connection_to_another_table_is_closed_while_one_to_the_right_table_stands() {
    let (mut network, connector) = network(1 << 16);
    let client = with_sessions_and(|config| config.connections = 2);
    let client = client.connect_with(connector).await.unwrap();
    let calls = [inc(&client), inc(&client)];
    let (mut first, mut second) = (network.accept().await, network.accept().await);
    let mut sessions = Sessions::new();
    for _ in 0..2 {
        execute_all(&mut first, &mut sessions).await;
        execute_all(&mut second, &mut sessions).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    drop(second);
    let mut elsewhere = Sessions::new();
    elsewhere.table = "another";
    elsewhere.known = sessions
        .known
        .keys()
        .cloned()
        .map(|id| (id, Default::default()))
        .collect();
    tokio::time::sleep(ms(1)).await;
    let calls = [(); 4].map(|()| inc(&client));
    let mut second = network.accept().await;
    let mut executed_elsewhere = Vec::new();
    while let Ok(Some(seen)) = tokio::time::timeout(ms(30), second.request()).await {
        if !second.serve(&mut elsewhere, &seen).await {
            executed_elsewhere.push(number(&seen));
        }
    }
    assert!(!executed_elsewhere.is_empty(), "some follow the hello");
    let executed = execute_all(&mut first, &mut sessions).await;
    assert_eq!(executed.len() + executed_elsewhere.len(), calls.len());
    assert!(first.is_quiet_for(ms(2000)).await);
    let mut unknown = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            expect_unknown(&error);
            unknown += 1;
        }
    }
    assert_eq!(unknown, executed_elsewhere.len());
    assert_eq!(client.stats().sessions_lost, 0);
}
