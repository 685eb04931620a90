//! A program that has kept the outcome of a call forgets its token: then the server may drop that
//! record, no other, and not before the call has ended.

use crate::peer::{
    self, Peer, connected, inc, ms,
    session::{Sessions, foreign_token, number},
    start, with_sessions,
};
use redial_client::{CallToken, Client};
use serde_json::json;

/// A call that succeeded, and whose token was serialised before it was sent.
async fn written_down(client: &Client, peer: &mut Peer, sessions: &mut Sessions) -> String {
    let mut call = client.request("inc", json!({}));
    let call = tokio::spawn(async move {
        let text = serde_json::to_string(&call.token().await.unwrap()).unwrap();
        call.await.unwrap();
        text
    });
    let request = peer.next_call(sessions).await;
    peer.execute(sessions, &request, json!(1)).await;
    call.await.unwrap()
}

fn read(text: &str) -> CallToken {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_serialised_call_is_kept_until_it_is_forgotten() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(written_down(&client, &mut peer, &mut sessions).await);
    }
    peer.serve_for(&mut sessions, ms(60_000)).await;
    let table = sessions.only();
    assert_eq!((table.executed.len(), table.above.len()), (3, 0));
    assert_eq!(client.stats().retained_calls, 3);
    // One of them, twice: the others stay.
    for _ in 0..2 {
        client.forget(read(&texts[1]));
        peer.serve_for(&mut sessions, ms(100)).await;
        let table = sessions.only();
        assert_eq!(table.ack, 0);
        assert_eq!(table.above.iter().collect::<Vec<_>>(), [&1]);
        assert_eq!(client.stats().retained_calls, 2);
    }
    client.forget(read(&texts[0]));
    client.forget(read(&texts[2]));
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_an_earlier_life_is_forgotten_in_its_own_session() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let earlier = sessions.foreign();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 0);
    client.forget(foreign_token(&earlier, 0));
    peer.serve_for(&mut sessions, ms(50)).await;
    for (session, table) in &sessions.known {
        assert_eq!(table.above.contains(&0), *session == earlier);
    }
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_not_forgotten() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let mut call = client.request("inc", json!({})).attempt_timeout(ms(3000));
    let (sender, token) = tokio::sync::oneshot::channel();
    let call = tokio::spawn(async move {
        sender.send(call.token().await.unwrap()).unwrap();
        call.await
    });
    let request = peer.next_call(&mut sessions).await;
    let token = token.await.unwrap();
    client.forget(token.clone());
    peer.serve_for(&mut sessions, ms(500)).await;
    assert_eq!(sessions.only().ack, 0);
    peer.execute(&mut sessions, &request, json!(7)).await;
    assert_eq!(call.await.unwrap().unwrap(), json!(7));
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (1, 0));
}

/// Its token was given out, and the call was never sent.
#[tokio::test(start_paused = true)]
async fn an_unsent_call_is_acknowledged_when_it_is_forgotten() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let mut call = client.request("inc", json!({}));
    let named = tokio::spawn(async move {
        let token = call.token().await.unwrap();
        serde_json::to_string(&token).unwrap()
    });
    let hello = peer.next().await;
    peer.serve(&mut sessions, &hello).await;
    let text = named.await.unwrap();
    peer.serve_for(&mut sessions, ms(1000)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (0, 1));
    client.forget(read(&text));
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((sessions.only().ack, client.stats().retained_calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_a_forgotten_token_is_acknowledged_on_the_next() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let text = written_down(&client, &mut peer, &mut sessions).await;
    drop(peer);
    tokio::time::sleep(ms(1)).await;
    client.forget(read(&text));
    assert!(network.is_quiet(), "it is no reason to connect");
    let call = start(client.request("inc", json!({})));
    let mut peer = network.accept().await;
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(sessions.only().ack, 1);
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn forgetting_a_plain_id_sends_nothing() {
    let (client, mut peer, _network) = connected(peer::builder()).await;
    let mut call = client.request("inc", json!({}));
    let token = call.token().await.unwrap();
    client.forget(token.clone());
    let call = start(call);
    let request = peer.next().await;
    assert_eq!(request.id, format!("\"{}\"", token.id));
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
    client.forget(token);
    assert!(peer.is_quiet_for(ms(5000)).await);
}
