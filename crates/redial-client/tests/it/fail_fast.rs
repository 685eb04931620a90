//! Calls that don't wait for a server that is known to be down, and those that do.

use std::time::Duration;

use redial_client::{Call, CallError, Cause, Client, Config, Executed, GiveUpReason};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::peer::{
    Running, builder, config, connected,
    fleet::{Fleet, address},
    inc, lazy, ms,
    session::Sessions,
    start, with_sessions, with_sessions_and,
};

fn hasty(client: &Client) -> Call<Value> {
    client.request("inc", json!({"key": "k"})).fail_fast(true)
}

/// The error of a call that has not waited.
async fn refused(call: Running) -> CallError {
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert_eq!(error.details().reason, GiveUpReason::FailFast, "{error}");
    assert_eq!(error.report().attempts(), 0, "{error}");
    error
}

/// A call that waits for ten seconds for a server that is known to be down, or doesn't say which and why.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_to_wait_ends_at_once_and_says_what_is_down_since_when_and_why() {
    for config in [
        config(),
        Config {
            sessions: true,
            ..config()
        },
    ] {
        let (client, network) = lazy(Client::builder().config(config));
        network.refuse(true);
        let patient = inc(&client);
        let first = refused(start(hasty(&client))).await;
        assert_eq!(first.report().total(), Duration::ZERO);
        sleep(ms(20)).await;
        let second = refused(start(hasty(&client))).await;
        assert_eq!(second.report().total(), Duration::ZERO);
        assert_eq!(
            second.to_string(),
            "inc was not executed; 0 attempts, no waiting (fail_fast): \
             the server has been down for 20ms: refused by the test"
        );
        let Cause::EndpointDown { since, others, .. } = second.cause() else {
            panic!("{second}");
        };
        assert_eq!((*since, *others), (ms(20), 0));
        sleep(ms(1_000)).await;
        let third = refused(start(hasty(&client))).await;
        assert!(third.to_string().contains("down for 1.02s"), "{third}");
        let error = patient.await.unwrap().unwrap_err();
        assert_eq!(error.report().total(), ms(3_000), "others wait as ever");
    }
}

/// A server that is back, and whom no call finds out about because each ends before it could.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_is_found_while_calls_are_refused() {
    let (client, mut network) = lazy(builder());
    network.refuse(true);
    refused(start(hasty(&client))).await;
    // Connected to after 50, 150 and 350 ms.
    for _ in 0..20 {
        sleep(ms(10)).await;
        refused(start(hasty(&client))).await;
    }
    network.refuse(false);
    sleep(ms(200)).await;
    let mut peer = network.accept().await;
    let call = start(hasty(&client));
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.total(), Duration::ZERO);
    assert_eq!(client.stats().connects, 1);
}

/// A call that ends by what was known of a server long ago.
#[tokio::test(start_paused = true)]
async fn after_a_while_without_calls_the_next_one_finds_out() {
    let (client, mut network) = lazy(builder());
    network.refuse(true);
    refused(start(hasty(&client))).await;
    sleep(ms(60_000)).await;
    let error = refused(start(hasty(&client))).await;
    assert!(error.to_string().contains("down for 60s"), "{error}");
    // The last call is followed by one more look.
    sleep(ms(1_000)).await;
    network.refuse(false);
    sleep(ms(60_000)).await;
    assert!(
        network.is_quiet(),
        "without calls there is no end of looking"
    );
    let call = start(hasty(&client));
    let mut peer = network.accept().await;
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}

/// A call that may have been executed, and is said not to have been because its server is gone.
#[tokio::test(start_paused = true)]
async fn what_may_have_been_executed_is_waited_for() {
    let (client, mut peer, network) = connected(builder()).await;
    let written = start(hasty(&client));
    peer.next().await;
    let refused_before = start(hasty(&client));
    let request = peer.next().await;
    peer.error(&request, -32001, json!({"executed": "no"}))
        .await;
    network.refuse(true);
    drop(peer);
    let error = refused_before.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert_eq!(error.details().reason, GiveUpReason::FailFast);
    let error = written.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert_eq!(error.report().total(), ms(3_000));
}

/// A call that is refused because one of several is down.
#[tokio::test(start_paused = true)]
async fn a_call_is_refused_when_no_endpoint_is_left_and_not_before() {
    for tables in [["t", "t", "t"], ["a", "b", "c"]] {
        let fleet = Fleet::new(&tables);
        let client = fleet.client(with_sessions()).await;
        fleet.servers[0].kill();
        fleet.servers[1].kill();
        for n in 0..50 {
            let call = client.request("inc", json!({ "key": format!("k{n}") }));
            start(call.fail_fast(true)).await.unwrap().unwrap();
        }
        sleep(ms(500)).await;
        fleet.servers[2].kill();
        sleep(ms(100)).await;
        let error = refused(start(hasty(&client))).await;
        assert_eq!(error.report().total(), Duration::ZERO);
        let text = error.to_string();
        let expected = format!("{} has been down for 100ms: ", address(2));
        assert!(text.contains(&expected), "{text}");
        assert!(
            text.ends_with("; 2 other endpoints are down, too"),
            "{text}"
        );
        fleet.servers[1].revive();
        sleep(ms(2_100)).await;
        for n in 0..50 {
            let call = client.request("inc", json!({ "key": format!("l{n}") }));
            let reply = start(call.fail_fast(true)).await.unwrap().unwrap();
            assert_eq!(reply.report.endpoint(), Some(&*address(1)));
        }
        fleet.check();
    }
}

/// Servers that accept, and say nothing: they are left out, probed, and used again.
#[tokio::test(start_paused = true)]
async fn endpoints_that_were_left_out_are_down_until_a_probe_is_answered() {
    let fleet = Fleet::new(&["t", "t"]);
    let builder = with_sessions_and(|config| config.max_endpoint_failures = 1);
    let client = fleet.client(builder).await;
    fleet.servers.iter().for_each(|server| server.silence(true));
    let lost: Vec<_> = (0..8).map(|_| inc(&client)).collect();
    sleep(ms(110)).await;
    let error = refused(start(hasty(&client))).await;
    assert!(
        error.to_string().contains("nothing came from it"),
        "{error}"
    );
    fleet
        .servers
        .iter()
        .for_each(|server| server.silence(false));
    // They are left out for 50 ms at first.
    sleep(ms(150)).await;
    let call = client
        .request("inc", json!({"key": "probe"}))
        .fail_fast(true);
    start(call).await.unwrap().unwrap();
    for call in lost {
        let _: Result<_, _> = call.await.unwrap();
    }
}

/// A call that waits for room on a connection, or for a number in the session, when the server goes down.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_room_ends_when_the_server_goes_down() {
    for is_numbered in [false, true] {
        let config = Config {
            sessions: is_numbered,
            max_in_flight: 1,
            ..config()
        };
        let (client, mut peer, network) = connected(Client::builder().config(config)).await;
        let mut sessions = Sessions::new();
        sessions.window = 1;
        let written = inc(&client);
        if is_numbered {
            peer.next_call(&mut sessions).await;
        } else {
            peer.next().await;
        }
        let waiting = start(hasty(&client));
        sleep(ms(10)).await;
        network.refuse(true);
        drop(peer);
        let error = refused(waiting).await;
        assert_eq!(error.report().total(), ms(10), "{error}");
        assert_eq!(
            written.await.unwrap().unwrap_err().executed(),
            Executed::Unknown
        );
    }
}
