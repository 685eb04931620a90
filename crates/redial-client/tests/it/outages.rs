//! A server that is away is waited for at no cost; a link that is silently dead is noticed.

use std::{io, time::Duration};

use crate::peer::{
    builder, builder_with, config, connected, connected_once, ends, inc, lazy, ms, start,
};
use redial_client::{CallError, Config, RetryBudget};
use serde_json::json;
use tokio::io::DuplexStream;

#[tokio::test(start_paused = true)]
async fn without_a_server_calls_end_at_their_deadline_and_say_where_and_why() {
    let (client, network) = lazy(builder());
    network.refuse(true);
    let call = || client.request("inc", json!({})).max_attempts(1);
    let calls: Vec<_> = (0..10).map(|_| start(call())).collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::NotExecuted { .. }));
        assert_eq!(error.report().total(), ms(3000));
        assert_eq!(ends(error.report()), ["connect_failed"], "one for them all");
        assert_eq!(
            error.to_string(),
            "inc was not executed; 0 attempts, no time for another before the deadline: \
             cannot connect to the server: refused by the test"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_while_costs_no_attempt_and_no_token() {
    let budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst: 1.0,
    };
    let (client, mut peer, mut network) =
        connected(builder_with(|config| config.retry_budget = budget)).await;
    let retried = start(client.request("retried", json!({})).max_attempts(2));
    peer.next().await;
    network.refuse(true);
    drop(peer);
    tokio::time::sleep(ms(100)).await;
    let fresh = start(client.request("fresh", json!({})).max_attempts(1));
    tokio::time::sleep(ms(1400)).await;
    network.refuse(false);
    let mut peer = within_a_minute(network.accept()).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let request = peer.next().await;
        peer.result(&request, json!(1)).await;
        seen.push((request.method, request.meta.attempt));
    }
    seen.sort();
    assert_eq!(seen, [("fresh".to_owned(), 1), ("retried".to_owned(), 2)]);
    let (retried, fresh) = (retried.await.unwrap(), fresh.await.unwrap());
    assert_eq!(
        ends(&retried.unwrap().report),
        ["connection_lost", "connect_failed", "reply"]
    );
    let fresh = fresh.unwrap().report;
    assert_eq!(ends(&fresh), ["connect_failed", "reply"]);
    assert_eq!(fresh.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_found_no_connection_gives_its_token_back() {
    let budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst: 1.0,
    };
    let (client, mut peer, mut network) =
        connected(builder_with(|config| config.retry_budget = budget)).await;
    let call = inc(&client);
    peer.next().await;
    network.refuse(true);
    drop(peer);
    call.await.unwrap().unwrap_err();
    network.refuse(false);
    let call = inc(&client);
    let mut peer = network.accept().await;
    network.refuse(true);
    let first = peer.next().await;
    let second = peer.next().await;
    assert_eq!((first.id == second.id, second.meta.attempt), (true, 2));
    peer.result(&second, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_dialled_with_pauses() {
    let dials = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = dials.clone();
    let connector = move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::Other.into()))
    };
    let client = builder_with(|config| config.connections = 2)
        .connect_lazy_with(connector)
        .unwrap();
    let calls: Vec<_> = (0..100).map(|_| inc(&client)).collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.report().total(), ms(3000));
    }
    // At 0, 50, 150, 350, 750, 1550 ms: six times on each of two links.
    let dials = dials.load(std::sync::atomic::Ordering::SeqCst);
    assert!((6..=12).contains(&dials), "{dials} in 3 s");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_pinged_and_then_closed() {
    let config = Config {
        keepalive: ms(1000),
        ..config()
    };
    let (client, mut peer, mut network) = connected(builder().config(config)).await;
    peer.shows_pings = true;
    let call = client.request("inc", json!({})).deadline(ms(60_000));
    let call = start(call.attempt_timeout(ms(50_000)));
    let first = peer.next().await;
    let ping = peer.next().await;
    assert_eq!(
        (ping.method.as_str(), ping.at - first.at),
        ("rpc.ping", ms(1000))
    );
    peer.error(&ping, -32601, json!(null)).await;
    let second_ping = peer.next().await;
    assert_eq!(
        second_ping.at - ping.at,
        ms(1000),
        "any answer is a sign of life"
    );
    assert!(peer.request().await.is_none(), "silent for as long again");
    let mut peer = network.accept().await;
    let second = peer.next().await;
    assert_eq!(
        (second.id, second.at - second_ping.at),
        (first.id.clone(), ms(1030))
    );
    peer.result(&first, json!(1)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(ends(&reply.report), ["connection_lost", "reply"]);
    assert_eq!(
        client.stats().unmatched_replies,
        0,
        "a ping's answer was asked for"
    );
    assert!(
        peer.is_quiet_for(ms(100_000)).await,
        "an idle connection is left alone"
    );
}

/// A process that was stopped finds its timers due before it hears of what lies in its sockets.
#[tokio::test(start_paused = true)]
async fn a_frozen_client_reads_before_it_takes_a_connection_for_dead() {
    let config = Config {
        keepalive: ms(1000),
        ..config()
    };
    let (client, mut peer, _network) = connected(builder().config(config)).await;
    peer.shows_pings = true;
    let call = client.request("inc", json!({})).deadline(ms(60_000));
    let call = start(call.attempt_timeout(ms(50_000)));
    let first = peer.next().await;
    let ping = peer.next().await;
    tokio::time::sleep(ms(10)).await;
    for _ in 0..3 {
        tokio::time::advance(ms(5_000)).await;
        tokio::time::sleep(ms(10)).await;
    }
    peer.error(&ping, -32601, json!(null)).await;
    peer.result(&first, json!(1)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(ends(&reply.report), ["reply"]);
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_noticed_though_no_call_waits_on_it_for_long() {
    let config = Config {
        keepalive: ms(1000),
        ..config()
    };
    let (client, mut peer, mut network) = connected_once(builder().config(config)).await;
    peer.shows_pings = true;
    let hasty = || client.request("inc", json!({})).deadline(ms(500));
    let call = start(hasty());
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
    tokio::time::sleep(ms(1600)).await;
    // From here on the link is dead: what is written to it goes nowhere.
    let call = start(hasty().max_attempts(1));
    let lost = peer.next().await;
    call.await.unwrap().unwrap_err();
    let ping = within_a_minute(peer.request()).await.unwrap();
    let waited = ping.at - lost.at;
    assert_eq!((ping.method.as_str(), waited), ("rpc.ping", ms(1000)));
    tokio::time::sleep(ms(600)).await;
    // A call in between does not start the count again.
    let call = start(hasty().max_attempts(1));
    peer.next().await;
    let end = within_a_minute(peer.request()).await;
    assert!(end.is_none(), "silent for as long again");
    call.await.unwrap().unwrap_err();
    network.refuse(false);
    let call = start(hasty());
    let mut peer = network.accept().await;
    let request = peer.next().await;
    assert!(
        request.at - ping.at < ms(1300),
        "{:?}",
        request.at - ping.at
    );
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
    let quiet = peer.is_quiet_for(ms(100_000)).await;
    assert!(quiet, "an idle connection is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_write_right_after_a_reply_is_watched_too() {
    let config = Config {
        keepalive: ms(1000),
        ..config()
    };
    let (client, mut peer, _network) = connected_once(builder().config(config)).await;
    peer.shows_pings = true;
    let hasty = |ms| {
        client
            .request("inc", json!({}))
            .deadline(ms)
            .max_attempts(1)
    };
    let (answered, silent) = (start(hasty(ms(500))), start(hasty(ms(500))));
    let (first, _) = (peer.next().await, peer.next().await);
    peer.result(&first, json!(1)).await;
    answered.await.unwrap().unwrap();
    // While the silence is measured already, since one call still waits.
    tokio::time::sleep(ms(300)).await;
    let last = start(hasty(ms(100)));
    let written = peer.next().await;
    silent.await.unwrap().unwrap_err();
    last.await.unwrap().unwrap_err();
    let ping = within_a_minute(peer.request()).await.unwrap();
    let waited = ping.at - written.at;
    assert_eq!((ping.method.as_str(), waited), ("rpc.ping", ms(1000)));
}

/// Fails a test whose future never completes.
async fn within_a_minute<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, what).await.expect("in time")
}
