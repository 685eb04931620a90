//! Connections are not chosen blindly: one that takes nothing, or brings nothing, gets no calls while
//! another one works.

use crate::peer::{Peer, builder, builder_with, ends, limits, ms, network, start};
use redial_client::{CallLimits, Client, Hedge};
use serde_json::{Value, json};

const SMALL: usize = 20;

/// A client with two connections, of which the first is full of a large call that the server does not read.
async fn half_full(limits: CallLimits, capacity: usize) -> (Client, Peer, Peer) {
    let (mut network, connector) = network(capacity);
    let client = builder_with(|config| (config.connections, config.call) = (2, limits));
    let client = client.connect_with(connector).await.unwrap();
    (client, network.accept().await, network.accept().await)
}

fn large(client: &Client) -> redial_client::Call<Value> {
    client.request("put", json!({"text": "x".repeat(50_000)}))
}

/// Answers what comes, for ever.
async fn serve(mut peer: Peer) {
    while let Some(request) = peer.request().await {
        peer.result(&request, json!(1)).await;
    }
}

fn patient() -> CallLimits {
    CallLimits {
        attempt_timeout: ms(1000),
        ..limits()
    }
}

#[tokio::test(start_paused = true)]
async fn new_calls_go_where_bytes_are_taken() {
    let (client, _full, idle) = half_full(patient(), 1000).await;
    let _large = start(large(&client));
    tokio::spawn(serve(idle));
    tokio::time::sleep(ms(1)).await;
    let calls = [(); SMALL].map(|()| start(client.request("inc", json!({}))));
    for call in calls {
        let report = call.await.unwrap().unwrap().report;
        assert_eq!((report.attempts(), report.total()), (1, ms(0)));
    }
}

/// They wait behind a large call: most in the client's buffer, and some with the driver already.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_behind_a_large_one_move() {
    let (client, _full, idle) = half_full(patient(), 1000).await;
    let _large = start(large(&client));
    let calls = [(); SMALL].map(|()| start(client.request("inc", json!({}))));
    tokio::spawn(serve(idle));
    for call in calls {
        let report = call.await.unwrap().unwrap().report;
        assert!(report.total() < ms(1100), "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_where_bytes_are_taken() {
    let hedge = Hedge::After(ms(20));
    let (client, _full, idle) = half_full(CallLimits { hedge, ..patient() }, 1000).await;
    let _large = start(large(&client).hedge(Hedge::Off));
    let calls = [(); SMALL].map(|()| start(client.request("inc", json!({}))));
    tokio::spawn(serve(idle));
    for call in calls {
        let report = call.await.unwrap().unwrap().report;
        assert!(report.total() < ms(100), "{report:?}");
    }
}

/// One that has been silent for an attempt's timeout, beside one that has not.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_gets_no_calls_until_something_is_heard_on_it() {
    let (client, mut silent, idle) = half_full(limits(), 1 << 16).await;
    tokio::spawn(serve(idle));
    let call = start(client.request("inc", json!({})));
    let lost = silent.next().await;
    let report = call.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["timeout", "reply"]);
    for _ in 0..SMALL {
        let call = start(client.request("inc", json!({})));
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    }
    assert_eq!(client.stats().connects, 2, "the other one does");
    // Late, and of no use to its call, but a sign of life.
    silent.result(&lost, json!(1)).await;
    tokio::spawn(serve(silent));
    tokio::time::sleep(ms(1)).await;
    let calls = [(); SMALL].map(|()| start(client.request("inc", json!({}))));
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    }
}

/// The only one there is has to do.
#[tokio::test(start_paused = true)]
async fn a_full_connection_without_another_is_waited_for() {
    let (mut network, connector) = network(1000);
    let client = builder().connect_with(connector).await.unwrap();
    let peer = network.accept().await;
    let large = start(large(&client));
    let small = start(client.request("inc", json!({})));
    tokio::time::sleep(ms(500)).await;
    tokio::spawn(serve(peer));
    large.await.unwrap().unwrap();
    assert_eq!(small.await.unwrap().unwrap().report.attempts(), 1);
}
