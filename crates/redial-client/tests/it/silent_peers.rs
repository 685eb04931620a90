//! A peer that vanishes without closing its connections: the next attempt goes out on a fresh one, of
//! which there is one at most, and what the old ones still bring counts.

use crate::peer::{
    Network, Peer, builder, builder_with, connected, connected_once, ends, inc, limits, ms,
    network, session::Sessions, start, with_sessions, with_sessions_and,
};
use redial_client::{CallLimits, Client, Config, Hedge};
use serde_json::json;
use tokio::task::JoinHandle;

/// Answers what comes, for ever.
fn serve(mut peer: Peer, mut sessions: Sessions) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(seen) = peer.request().await {
            if !peer.serve(&mut sessions, &seen).await {
                peer.execute(&mut sessions, &seen, json!(1)).await;
            }
        }
    })
}

/// Answers what comes, each call after so long, and says when the connection was closed.
fn serve_slowly(mut peer: Peer, after: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(seen) = peer.request().await {
            tokio::time::sleep(ms(after)).await;
            peer.result(&seen, json!(1)).await;
        }
    })
}

/// A client with a session, one call of which its server executed before it fell silent.
async fn vanished(change: impl FnOnce(&mut Config)) -> (Client, Peer, Network, Sessions) {
    let (client, mut peer, network) = connected(with_sessions_and(change)).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
    tokio::time::sleep(ms(1)).await;
    (client, peer, network, sessions)
}

#[tokio::test(start_paused = true)]
async fn calls_go_on_over_a_fresh_connection_attached_to_the_session() {
    let (client, _silent, mut network, sessions) = vanished(|_| {}).await;
    let call = inc(&client);
    serve(network.accept().await, sessions);
    let report = call.await.unwrap().unwrap().report;
    assert_eq!((ends(&report).len(), report.total()), (2, ms(130)));
    for _ in 0..10 {
        let report = inc(&client).await.unwrap().unwrap().report;
        assert_eq!((report.attempts(), report.total()), (1, ms(0)));
    }
    let stats = client.stats();
    assert_eq!((stats.connects, stats.sessions_opened), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_sessions_is_called_on_a_fresh_connection_too() {
    let (client, mut silent, mut network) = connected(builder()).await;
    let call = inc(&client);
    let first = silent.next().await;
    let mut fresh = network.accept().await;
    let second = fresh.next().await;
    assert_eq!((&second.id, second.at - first.at), (&first.id, ms(130)));
    // The old one may still answer.
    silent.result(&first, json!(1)).await;
    let report = call.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["reply", "superseded"]);
}

/// A balancer takes the connection, and has no server for it.
#[tokio::test(start_paused = true)]
async fn a_fresh_connection_that_is_silent_too_is_left_for_the_old_one() {
    let (client, mut silent, mut network, mut sessions) = vanished(|_| {}).await;
    let call = inc(&client);
    let first = silent.next_call(&mut sessions).await;
    let mut fresh = network.accept().await;
    assert_eq!(fresh.next().await.method, "rpc.hello");
    let second = silent.next_call(&mut sessions).await;
    assert_eq!(second.meta.attempt, 2);
    // A hello is waited for at least 250 ms.
    assert_eq!(second.at - first.at, ms(130 + 250));
    silent.execute(&mut sessions, &second, json!(1)).await;
    call.await.unwrap().unwrap();
    assert_eq!(client.stats().connects, 2);
}

/// What comes back from new connections is lost.
#[tokio::test(start_paused = true)]
async fn a_fresh_connection_that_is_not_made_in_time_is_left_for_the_old_one() {
    let (client, mut old, network) = connected(builder()).await;
    network.stall();
    let call = inc(&client);
    let first = old.next().await;
    let second = old.next().await;
    assert_eq!(second.meta.attempt, 2);
    assert!(
        second.at - first.at <= ms(130 + 400),
        "{:?}",
        second.at - first.at
    );
    old.result(&second, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn where_none_can_be_had_the_silent_one_has_to_do() {
    let (client, mut silent, _network) = connected_once(builder()).await;
    let call = inc(&client);
    let first = silent.next().await;
    let second = silent.next().await;
    assert_eq!(second.at - first.at, ms(130));
    silent.result(&second, json!(1)).await;
    let report = call.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["timeout", "reply"]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_gets_one_more_connection_when_all_of_it_is_silent() {
    let (mut network, connector) = network(1 << 16);
    let client = builder_with(|config| config.connections = 2);
    let client = client.connect_with(connector).await.unwrap();
    let (_first, _second) = (network.accept().await, network.accept().await);
    let calls = [(); 50].map(|()| inc(&client));
    let mut fresh = network.accept().await;
    let serving = async {
        while let Some(request) = fresh.request().await {
            fresh.result(&request, json!(1)).await;
        }
    };
    let waiting = async {
        for call in calls {
            call.await.unwrap().unwrap();
        }
    };
    tokio::select! {
        () = serving => panic!("it was closed"),
        () = waiting => {}
    }
    assert_eq!(client.stats().connects, 3);
}

/// Each call takes longer than three attempts are waited for.
#[tokio::test(start_paused = true)]
async fn a_slow_server_costs_one_connection_more_which_is_closed_again() {
    let (client, peer, mut network) = connected(builder()).await;
    serve_slowly(peer, 310);
    let accepting = tokio::spawn(async move {
        let spare = serve_slowly(network.accept().await, 310);
        (network, spare)
    });
    for _ in 0..20 {
        inc(&client).await.unwrap().unwrap();
    }
    assert_eq!(client.stats().connects, 2);
    let (mut network, spare) = accepting.await.unwrap();
    tokio::time::timeout(ms(30_000), spare)
        .await
        .expect("it is closed")
        .unwrap();
    assert!(network.is_quiet());
    assert_eq!(client.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_of_a_silent_connection_goes_to_the_fresh_one() {
    let hedge = Hedge::After(ms(40));
    let limits = CallLimits { hedge, ..limits() };
    let (client, mut silent, mut network, mut sessions) =
        vanished(|config| config.call = limits).await;
    let call = inc(&client);
    let (first, copy) = (
        silent.next_call(&mut sessions).await,
        silent.next_call(&mut sessions).await,
    );
    assert_eq!(copy.at - first.at, ms(40), "it is the only connection");
    serve(network.accept().await, sessions);
    call.await.unwrap().unwrap();
    let report = inc(&client).await.unwrap().unwrap().report;
    assert_eq!(report.attempts(), 1);
}

/// The calls that wait for room on a connection that has died are no better off than those that
/// were sent.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_room_go_to_the_fresh_connection() {
    let builder = builder_with(|config| config.max_in_flight = 1);
    let (client, mut silent, mut network) = connected(builder).await;
    let calls = [(); 3].map(|()| inc(&client));
    silent.next().await;
    let mut fresh = network.accept().await;
    for _ in 0..3 {
        let request = fresh.next().await;
        fresh.result(&request, json!(1)).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

/// Not when the call ends that has the room, but as soon as the connection is known to be silent.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_room_go_to_the_fresh_connection_before_there_is_room() {
    let builder = builder_with(|config| config.max_in_flight = 1);
    let (client, mut silent, mut network) = connected(builder).await;
    let only = start(client.request("inc", json!({})).max_attempts(1));
    let first = silent.next().await;
    let waiting = inc(&client);
    let mut fresh = network.accept().await;
    let request = fresh.next().await;
    assert_eq!(request.at - first.at, ms(100), "an attempt's timeout");
    fresh.result(&request, json!(1)).await;
    waiting.await.unwrap().unwrap();
    only.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_found_before_the_deadlines_of_its_calls() {
    for (deadline, pinged) in [(8_000, 2_000), (2_000, 1_000), (60_000, 10_000)] {
        let (client, mut peer, _network) = connected_once(builder()).await;
        peer.shows_pings = true;
        let call = client.request("inc", json!({})).max_attempts(1);
        let call = start(call.deadline(ms(deadline)).attempt_timeout(ms(deadline)));
        let request = peer.next().await;
        let ping = peer.next().await;
        assert_eq!(ping.method, "rpc.ping");
        assert_eq!(ping.at - request.at, ms(pinged));
        assert!(peer.request().await.is_none(), "silent for as long again");
        let report = call.await.unwrap().unwrap_err();
        assert_eq!(report.report().total(), ms(2 * pinged).min(ms(deadline)));
    }
}

/// A client that has gone quiet is not bound by calls that have ended.
#[tokio::test(start_paused = true)]
async fn an_answered_call_shortens_no_silence() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    peer.shows_pings = true;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
    let ack = peer.next().await;
    assert_eq!(ack.method, "rpc.ack");
    let ping = peer.next().await;
    assert_eq!(
        (ping.method.as_str(), ping.at - ack.at),
        ("rpc.ping", ms(10_000))
    );
}
