//! Calls take effect once, however many wait at the window, whatever happens to their session while
//! they run, and even if their client is gone when they end.

use std::{future::IntoFuture, time::Duration};

use crate::world::{World, ms, patient, seconds};
use redial_client::Config as ClientConfig;
use redial_server::Config;
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

/// A server that keeps so many calls of a session.
fn window(max_in_flight: usize) -> Config {
    Config {
        max_in_flight,
        ..Config::default()
    }
}

/// More calls of one task than the window, over two connections: all are polled at once.
#[tokio::test(start_paused = true)]
async fn calls_that_are_awaited_together_beyond_the_window() {
    let world = World::new(window(4), ms(50));
    let two = ClientConfig {
        connections: 2,
        ..patient()
    };
    let client = world.client(two).await;
    let call = || client.request("slow", json!({})).into_future();
    let six = || async { tokio::try_join!(call(), call(), call(), call(), call(), call()) };
    let both = async { tokio::try_join!(six(), six()) };
    both.await.unwrap();
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(world.effects(), 12);
}

#[tokio::test(start_paused = true)]
async fn calls_over_several_connections_with_a_window_of_one_and_a_lease_of_a_millisecond() {
    let config = Config {
        session_lease: ms(1),
        ..window(1)
    };
    let world = World::new(config, ms(10));
    let three = ClientConfig {
        connections: 3,
        ..patient()
    };
    let client = world.client(three).await;
    let calls = (0..50).map(|_| client.request("inc", json!({})).into_future());
    let calls: JoinSet<_> = calls.collect();
    for outcome in calls.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(world.effects(), 50);
}

/// The lease of a session that the client has left for another doesn't end while the connection is
/// open.
#[tokio::test(start_paused = true)]
async fn a_call_that_runs_in_a_session_that_was_left() {
    let config = Config {
        session_lease: ms(2000),
        ..window(4)
    };
    let world = World::new(config, seconds(30));
    let client = world.client(patient()).await;
    let slow = client.request("slow", json!({}));
    let slow = tokio::spawn(slow.attempt_timeout(seconds(10)).into_future());
    tokio::time::sleep(ms(100)).await;
    let mut reserved = Vec::new();
    for _ in 0..4 {
        let mut call = client.request("inc", json!({}));
        call.token().await.unwrap();
        reserved.push(call);
        tokio::time::sleep(ms(100)).await;
    }
    assert_eq!(client.stats().sessions_opened, 3, "two were crowded");
    assert_eq!(slow.await.unwrap().unwrap(), json!(1));
    assert_eq!(world.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_when_the_last_clone_of_its_client_is_dropped() {
    let world = World::new(Config::default(), ms(100));
    let client = world.client(patient()).await;
    let call = tokio::spawn(client.request("slow", json!({})).into_future());
    tokio::time::sleep(ms(10)).await;
    drop(client);
    let ended = timeout(Duration::from_secs(200), call).await;
    assert_eq!(ended.expect("it ends").unwrap().unwrap(), json!(1));
    assert_eq!(world.effects(), 1);
}
