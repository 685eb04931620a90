//! A call that takes longer than most is sent a second time, on another connection, and the first
//! reply ends it.

use crate::peer::{
    Peer, SentRequest, builder, builder_with, config, connected, ends, limits, ms, network,
    session::Sessions, session_config, start, with_sessions_and,
};
use redial_client::{CallLimits, Client, Config, Executed, Hedge, RetryBudget};
use serde_json::json;

/// The next call on either connection, which is then the first of the two.
async fn next_of(peers: &mut [Peer; 2], sessions: &mut Sessions) -> SentRequest {
    let mut others = Sessions::new();
    let [first, second] = &mut *peers;
    tokio::select! {
        biased;
        seen = first.next_call(sessions) => seen,
        seen = second.next_call(&mut others) => {
            peers.swap(0, 1);
            seen
        }
    }
}

/// A client with two connections and a session, and its servers.
async fn pair_with_session(config: Config) -> (Client, [Peer; 2], Sessions) {
    let (client, mut first, mut second) = pair(config).await;
    let mut sessions = Sessions::new();
    let call = start(client.query("get", json!({})).hedge(Hedge::Off));
    let hello = first.next().await;
    first.serve(&mut sessions, &hello).await;
    let hello = second.next().await;
    second.serve(&mut sessions, &hello).await;
    let mut peers = [first, second];
    let request = next_of(&mut peers, &mut sessions).await;
    peers[0].result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
    (client, peers, sessions)
}

/// A client with two connections, and its servers.
async fn pair(config: Config) -> (Client, Peer, Peer) {
    let (mut network, connector) = network(1 << 16);
    let config = Config {
        connections: 2,
        ..config
    };
    let client = Client::builder().config(config).connect_with(connector);
    let client = client.await.unwrap();
    (client, network.accept().await, network.accept().await)
}

#[tokio::test(start_paused = true)]
async fn the_copy_goes_out_on_another_connection_and_its_reply_wins() {
    let (client, mut peers, mut sessions) = pair_with_session(session_config()).await;
    let call = client.request("inc", json!({})).hedge(Hedge::After(ms(20)));
    let call = start(call);
    let original = next_of(&mut peers, &mut sessions).await;
    let [_, second] = &mut peers;
    let copy = second.next_call(&mut sessions).await;
    assert_eq!((&copy.id, copy.meta.attempt), (&original.id, 2));
    assert_eq!(copy.at - original.at, ms(20));
    second.execute(&mut sessions, &copy, json!(7)).await;
    let reply = call.await.unwrap().unwrap();
    let report = reply.report;
    assert_eq!(
        (reply.value, report.attempts(), report.hedges()),
        (json!(7), 2, 1)
    );
    assert_eq!(ends(&report), ["superseded", "reply"]);
    let winner = report.winner().unwrap();
    assert_eq!((winner.number, winner.is_hedge), (2, true));
    assert_eq!(client.stats().hedges, 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_request_may_win() {
    let mut config = session_config();
    config.call.hedge = Hedge::After(ms(20));
    let (client, mut peers, mut sessions) = pair_with_session(config).await;
    let call = start(client.request("inc", json!({})));
    let original = next_of(&mut peers, &mut sessions).await;
    peers[1].next_call(&mut sessions).await;
    peers[0].execute(&mut sessions, &original, json!(1)).await;
    let report = call.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["reply", "superseded"]);
    assert!(!report.winner().unwrap().is_hedge);
    // A call that is answered in time has no copy.
    let call = start(client.request("inc", json!({})));
    let request = next_of(&mut peers, &mut sessions).await;
    peers[0].execute(&mut sessions, &request, json!(2)).await;
    assert_eq!(call.await.unwrap().unwrap().report.hedges(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_does_not_prolong_the_attempt() {
    let (client, mut first, mut second) = pair(config()).await;
    let call = client.request("inc", json!({})).hedge(Hedge::After(ms(60)));
    let call = start(call.max_attempts(3));
    let original = first.next().await;
    let copy = second.next().await;
    assert_eq!((copy.meta.attempt, copy.at - original.at), (2, ms(60)));
    // 100 ms for the attempt, and 60 ms of backoff after the second.
    let retry = first.next().await;
    assert_eq!((retry.meta.attempt, retry.at - original.at), (3, ms(160)));
    second.result(&copy, json!(1)).await;
    let report = call.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["timeout", "reply", "superseded"]);
}

#[tokio::test(start_paused = true)]
async fn one_connection_carries_both() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = start(client.query("get", json!({})).hedge(Hedge::After(ms(20))));
    let original = peer.next().await;
    let copy = peer.next().await;
    assert_eq!((&copy.id, copy.at - original.at), (&original.id, ms(20)));
    peer.result(&original, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_token_or_an_attempt_to_spare_there_is_no_copy() {
    let config = Config {
        retry_budget: RetryBudget {
            percent_of_calls: 0.0,
            min_per_second: 0.0,
            burst: 1.0,
        },
        ..config()
    };
    let (client, mut peer, _network) = connected(Client::builder().config(config)).await;
    let hedged = || {
        client
            .request("inc", json!({}))
            .hedge(Hedge::After(ms(20)))
            .deadline(ms(90))
    };
    let call = start(hedged().max_attempts(1));
    peer.next().await;
    assert!(peer.is_quiet_for(ms(80)).await);
    assert_eq!(
        call.await.unwrap().unwrap_err().executed(),
        Executed::Unknown
    );
    let call = start(hedged());
    let (first, second) = (peer.next().await, peer.next().await);
    assert_eq!(second.at - first.at, ms(20), "the one token");
    call.await.unwrap().unwrap_err();
    let call = start(hedged());
    peer.next().await;
    assert!(
        peer.is_quiet_for(ms(80)).await,
        "it doesn't wait for another"
    );
    call.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_plain_mutation_has_no_copy_once_the_server_may_have_forgotten_it() {
    let config = Config {
        resend_window: ms(10),
        ..config()
    };
    let (client, mut peer, _network) = connected(Client::builder().config(config)).await;
    let call = client
        .request("inc", json!({}))
        .hedge(Hedge::After(ms(20)))
        .max_attempts(2);
    let call = start(call.deadline(ms(200)));
    peer.next().await;
    assert!(peer.is_quiet_for(ms(150)).await);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_refused_or_lost_leaves_the_first_alone() {
    let (client, mut first, mut second) = pair(config()).await;
    let call = client
        .request("inc", json!({}))
        .hedge(Hedge::After(ms(20)))
        .max_attempts(2);
    let call = start(call);
    let original = first.next().await;
    let copy = second.next().await;
    second.error(&copy, -32001, json!({"executed": "no"})).await;
    assert!(first.is_quiet_for(ms(50)).await);
    first.result(&original, json!(1)).await;
    assert_eq!(
        ends(&call.await.unwrap().unwrap().report),
        ["reply", "refused"]
    );
    let call = client
        .request("inc", json!({}))
        .hedge(Hedge::After(ms(20)))
        .max_attempts(2);
    let call = start(call);
    let original = first.next().await;
    second.next().await;
    drop(second);
    assert!(first.is_quiet_for(ms(50)).await);
    first.result(&original, json!(1)).await;
    assert_eq!(
        ends(&call.await.unwrap().unwrap().report),
        ["reply", "connection_lost"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_percentile_is_that_of_the_calls_before() {
    let limits = CallLimits {
        hedge: Hedge::P95 { at_least: ms(1) },
        ..limits()
    };
    let (client, mut peer, _network) = connected(builder_with(|config| config.call = limits)).await;
    for n in 0..100 {
        let call = start(client.request("inc", json!({})));
        let request = peer.next().await;
        // Nine in ten after 10 ms, the others after 30 ms.
        assert!(
            peer.is_quiet_for(ms(if n % 10 == 9 { 30 } else { 10 }))
                .await
        );
        peer.result(&request, json!(1)).await;
        call.await.unwrap().unwrap();
    }
    assert_eq!(client.stats().hedges, 0, "too few calls so far");
    let call = start(client.request("inc", json!({})));
    let (original, copy) = (peer.next().await, peer.next().await);
    let waited = copy.at - original.at;
    assert!((ms(30)..ms(40)).contains(&waited), "{waited:?}");
    peer.result(&copy, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_never_left_is_not_counted() {
    let (mut network, connector) = network(1 << 16);
    let builder = with_sessions_and(|config| config.connections = 2);
    let client = builder.connect_with(connector).await.unwrap();
    let mut peers = [network.accept().await, network.accept().await];
    let mut sessions = Sessions::new();
    // Both connections are in use, so the next call goes to one and its copy to the other.
    let calls = [(); 2].map(|()| start(client.query("get", json!({}))));
    for peer in &mut peers {
        let request = peer.next_call(&mut sessions).await;
        peer.result(&request, json!(1)).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let call = client.query("get", json!({})).hedge(Hedge::After(ms(20)));
    let call = start(call);
    let request = next_of(&mut peers, &mut sessions).await;
    let [mut first, second] = peers;
    // The other connection cannot be made.
    network.refuse(true);
    drop(second);
    tokio::time::sleep(ms(30)).await;
    first.result(&request, json!(1)).await;
    let report = call.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["reply", "connect_failed"]);
    assert_eq!((report.attempts(), report.hedges()), (1, 0));
    assert_eq!(client.stats().hedges, 0);
}
