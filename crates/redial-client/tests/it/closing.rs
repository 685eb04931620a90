//! Closing a client writes its acknowledgements before `close` returns, and then closes its
//! connections. A server that does not read delays it by a second at most.

use std::time::Duration;

use crate::peer::{
    self, Network, Peer, connected, inc, lazy, ms, network,
    session::{Sessions, foreign_token},
    start,
};
use redial_client::{CallToken, Client};
use serde_json::json;
use tokio::{task::JoinHandle, time::timeout};

/// How long the last frames may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A client with one connection, whose pipe holds so many bytes, and its server.
async fn narrow(bytes: usize) -> (Client, Peer, Network) {
    let (mut network, connector) = network(bytes);
    let builder = peer::with_sessions();
    let client = builder.connect_with(connector).await.unwrap();
    let peer = network.accept().await;
    (client, peer, network)
}

/// One executed call.
async fn one_call(client: &Client, peer: &mut Peer, sessions: &mut Sessions) {
    let call = inc(client);
    let request = peer.next_call(sessions).await;
    peer.execute(sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

/// The one session is needed no longer, and the connection is closed.
async fn hear_goodbye(peer: &mut Peer, sessions: &mut Sessions) {
    let goodbye = peer.next().await;
    assert_eq!(goodbye.method, "rpc.goodbye");
    peer.serve(sessions, &goodbye).await;
    assert!(sessions.known.keys().eq(&sessions.ended));
    assert!(peer.request().await.is_none(), "the connection is closed");
}

fn close(client: Client) -> JoinHandle<Duration> {
    tokio::spawn(async move {
        let before = now();
        client.close().await;
        now() - before
    })
}

fn now() -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "the test's own clock is tokio's")]
    tokio::time::Instant::now()
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_written_before_close_returns() {
    let (client, mut peer, _network) = connected(peer::with_sessions()).await;
    let mut sessions = Sessions::new();
    for _ in 0..3 {
        one_call(&client, &mut peer, &mut sessions).await;
    }
    let before = now();
    client.close().await;
    assert_eq!(now() - before, ms(0), "it waits for the server");
    // Nothing can be written any more, so what is read now was written before.
    let ack = peer.next().await;
    assert_eq!(
        (ack.method.as_str(), &ack.params["ack"]),
        ("rpc.ack", &json!(3))
    );
    peer.serve(&mut sessions, &ack).await;
    assert_eq!(sessions.only().ack, 3);
    hear_goodbye(&mut peer, &mut sessions).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_clone_acknowledges_too() {
    let (client, mut peer, _network) = connected(peer::with_sessions()).await;
    let mut sessions = Sessions::new();
    one_call(&client, &mut peer, &mut sessions).await;
    drop(client);
    let ack = peer.next().await;
    assert_eq!((ack.method.as_str(), ack.at), ("rpc.ack", now()));
    peer.serve(&mut sessions, &ack).await;
    assert_eq!(sessions.only().ack, 1);
    hear_goodbye(&mut peer, &mut sessions).await;
}

#[tokio::test(start_paused = true)]
async fn forgotten_tokens_are_acknowledged_before_close_returns() {
    let (client, mut peer, _network) = connected(peer::with_sessions()).await;
    let mut sessions = Sessions::new();
    one_call(&client, &mut peer, &mut sessions).await;
    peer.serve_for(&mut sessions, ms(100)).await;
    // A token of an earlier life of the program, in another session.
    let session = sessions.foreign();
    client.forget(foreign_token(&session, 7));
    client.close().await;
    while let Some(seen) = peer.request().await {
        assert!(peer.serve(&mut sessions, &seen).await);
    }
    assert!(sessions.known[&session].above.contains(&7));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_delays_close_by_a_second() {
    // The acknowledgement alone is more than the pipe holds.
    let (client, mut peer, _network) = narrow(64).await;
    let mut sessions = Sessions::new();
    one_call(&client, &mut peer, &mut sessions).await;
    assert_eq!(close(client).await.unwrap(), LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stopped_reading_before_delays_close_by_a_second() {
    let (client, mut peer, _network) = narrow(64).await;
    let mut sessions = Sessions::new();
    one_call(&client, &mut peer, &mut sessions).await;
    // A part of this is in the pipe, so it must be written to its end.
    let stuck = client.request("inc", json!({"text": "x".repeat(1000)}));
    let stuck = start(stuck.deadline(ms(60_000)));
    tokio::time::sleep(ms(10)).await;
    stuck.abort();
    stuck.await.unwrap_err();
    // Until nothing else keeps the connection's task busy.
    tokio::time::sleep(ms(1000)).await;
    let took = timeout(LAST_WORDS * 100, close(client)).await;
    assert_eq!(took.expect("it ends").unwrap(), LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_late_gets_everything() {
    let (client, mut peer, _network) = narrow(64).await;
    let mut sessions = Sessions::new();
    one_call(&client, &mut peer, &mut sessions).await;
    let closing = close(client);
    tokio::time::sleep(LAST_WORDS / 2).await;
    while let Some(seen) = peer.request().await {
        assert!(peer.serve(&mut sessions, &seen).await);
    }
    assert_eq!(sessions.only().ack, 1);
    assert_eq!(closing.await.unwrap(), LAST_WORDS / 2);
}

#[tokio::test(start_paused = true)]
async fn all_connections_of_a_pool_are_closed_when_close_returns() {
    let (mut network, connector) = network(1 << 16);
    let builder = peer::with_sessions_and(|config| config.connections = 3);
    let client = builder.connect_with(connector).await.unwrap();
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(network.accept().await);
    }
    let mut sessions = Sessions::new();
    let calls: Vec<_> = (0..3).map(|_| inc(&client)).collect();
    for peer in &mut peers {
        let request = peer.next_call(&mut sessions).await;
        peer.execute(&mut sessions, &request, json!(1)).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    client.close().await;
    for peer in &mut peers {
        let rest = async {
            while let Some(seen) = peer.request().await {
                peer.serve(&mut sessions, &seen).await;
            }
        };
        let ended = timeout(ms(0), rest).await;
        ended.expect("the connection is closed");
    }
    assert_eq!(sessions.only().ack, 3);
}

#[tokio::test(start_paused = true)]
async fn a_clone_goes_on() {
    let (client, mut peer, _network) = connected(peer::with_sessions()).await;
    let mut sessions = Sessions::new();
    let running = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    let clone = client.clone();
    assert_eq!(close(client).await.unwrap(), ms(0));
    peer.execute(&mut sessions, &request, json!(1)).await;
    running.await.unwrap().unwrap();
    one_call(&clone, &mut peer, &mut sessions).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_connected_closes_at_once() {
    let (client, mut network) = lazy(peer::with_sessions());
    assert_eq!(close(client).await.unwrap(), ms(0));
    assert!(network.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_kept_for_a_token_elsewhere_outlives_the_client() {
    let (client, mut peer, _network) = connected(peer::with_sessions()).await;
    let mut sessions = Sessions::new();
    let running = tokio::spawn({
        let mut call = client.request("inc", json!({}));
        async move {
            let token: CallToken = call.token().await.unwrap();
            serde_json::to_string(&token).unwrap();
            call.await
        }
    });
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    running.await.unwrap().unwrap();
    client.close().await;
    while let Some(seen) = peer.request().await {
        assert!(peer.serve(&mut sessions, &seen).await);
    }
    assert!(sessions.ended.is_empty(), "it may be asked for elsewhere");
    let table = sessions.only();
    assert!(table.executed.contains_key(&0));
    assert_eq!((table.ack, table.above.len()), (0, 0));
}

/// `main` returns after the last reply: no task has another turn.
#[test]
fn a_runtime_that_ends_at_once_leaves_neither_session_nor_record() {
    for is_closed_first in [true, false] {
        let (mut network, connector) = network(1 << 16);
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap()
        };
        let (clients, servers) = (runtime(), runtime());
        let mut sessions = Sessions::new();
        let builder = peer::with_sessions();
        let client = clients.block_on(builder.connect_with(connector)).unwrap();
        let mut peer = servers.block_on(network.accept());
        let call = clients.spawn(client.request("inc", json!({})).into_future());
        let served = std::thread::spawn(move || {
            servers.block_on(one_served(&mut peer, &mut sessions));
            (servers, peer, sessions)
        });
        clients.block_on(call).unwrap().unwrap();
        if is_closed_first {
            drop(client);
            drop(clients);
        } else {
            drop(clients);
            drop(client);
        }
        let (servers, mut peer, mut sessions) = served.join().unwrap();
        servers.block_on(async {
            while let Some(seen) = peer.request().await {
                assert!(peer.serve(&mut sessions, &seen).await);
            }
        });
        assert_eq!(sessions.only().ack, 1);
        assert_eq!(sessions.ended.len(), usize::from(is_closed_first));
    }
}

async fn one_served(peer: &mut Peer, sessions: &mut Sessions) {
    let request = peer.next_call(sessions).await;
    peer.execute(sessions, &request, json!(1)).await;
}
