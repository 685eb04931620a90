//! A server keeps what a client may still ask for, and no more: nothing of clients that are gone,
//! and no more of one client than its sessions allow.

use std::future::IntoFuture;

use crate::world::{World, ms, patient, seconds};
use redial_client::{CallError, CallToken, Cause};
use redial_protocol::Limits;
use redial_server::Config;
use serde_json::json;

/// Programs that make one call and end.
#[tokio::test(start_paused = true)]
async fn clients_that_live_for_one_call_do_not_use_up_the_sessions() {
    let config = Config {
        max_sessions: 8,
        ..Config::default()
    };
    let world = World::new(config, ms(10));
    for expected in 1..=20u64 {
        let client = world.client(patient()).await;
        let value = client.request("inc", json!({})).await;
        assert_eq!(value.unwrap(), json!(expected));
        match expected % 2 {
            0 => client.close().await,
            _ => drop(client),
        }
        tokio::time::sleep(seconds(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_client_that_has_been_closed() {
    let world = World::new(Config::default(), ms(10));
    let client = world.client(patient()).await;
    for _ in 0..3 {
        client.request("inc", json!({})).await.unwrap();
    }
    assert_ne!(world.server.stats().session_records, 0);
    client.close().await;
    // As long as it takes to read what was written.
    tokio::time::sleep(ms(1)).await;
    let stats = world.server.stats();
    assert_eq!((stats.session_records, stats.connections), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_client_that_was_dropped() {
    let world = World::new(Config::default(), ms(10));
    let client = world.client(patient()).await;
    client.request("inc", json!({})).await.unwrap();
    drop(client);
    tokio::time::sleep(ms(1)).await;
    let stats = world.server.stats();
    assert_eq!((stats.session_records, stats.connections), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_serialised_call_is_kept_until_a_later_run_forgets_it() {
    let world = World::new(Config::default(), ms(10));
    let client = world.client(patient()).await;
    let mut call = client.request("inc", json!({}));
    let text = serde_json::to_string(&call.token().await.unwrap()).unwrap();
    call.await.unwrap();
    client.close().await;
    tokio::time::sleep(seconds(20)).await;
    assert_eq!(world.server.stats().session_records, 1);
    let client = world.client(patient()).await;
    let token: CallToken = serde_json::from_str(&text).unwrap();
    let resolved = client.resolve(token.clone()).await.unwrap();
    assert_eq!(resolved, redial_client::Resolution::Value(json!(1)));
    assert_eq!(world.server.stats().session_records, 1);
    client.forget(token);
    client.close().await;
    tokio::time::sleep(ms(1)).await;
    assert_eq!(world.server.stats().session_records, 0);
}

/// Every second call has ended when the connection is cut, so the next acknowledgement is long.
#[tokio::test(start_paused = true)]
async fn acknowledgements_fit_into_the_frames_that_the_server_takes() {
    let limits = Limits {
        max_frame_bytes: 256,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let world = World::new(config, seconds(5));
    let client = world.client(patient()).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let call = client.request("slow", json!({}));
        let call = call.attempt_timeout(seconds(20));
        slow.push(tokio::spawn(call.into_future()));
        tokio::time::sleep(ms(1)).await;
        client.request("inc", json!({})).await.unwrap();
    }
    tokio::time::sleep(ms(200)).await;
    world.cut();
    for call in slow {
        call.await.unwrap().unwrap();
    }
    assert_eq!(client.stats().connects, 2, "it was cut once");
    assert_eq!(world.effects(), 80);
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(world.server.stats().session_records, 0);
    let sent = world.requests();
    let acks = sent.iter().filter(|text| text.contains("rpc.ack"));
    assert!(acks.count() > 5, "one would have been too long");
}

/// A connection may have 16 sessions, and reserve half of the window of each.
#[tokio::test(start_paused = true)]
async fn tokens_are_given_out_until_sessions_run_out() {
    let config = Config {
        max_in_flight: 4,
        ..Config::default()
    };
    let world = World::new(config, ms(10));
    let client = world.client(patient()).await;
    let mut calls = Vec::new();
    let error = loop {
        assert!(calls.len() <= 16 * 4, "there are no more numbers");
        let mut call = client.request("inc", json!({})).deadline(seconds(60));
        match call.token().await {
            Ok(_) => calls.push(call),
            Err(error) => break error,
        }
        tokio::time::sleep(ms(50)).await;
    };
    assert!(calls.len() >= 16 * 2, "{} tokens", calls.len());
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    let Cause::Server(refusal) = error.cause() else {
        panic!("{error}");
    };
    assert_eq!(i32::from(refusal.code), -32001);
    assert!(error.to_string().contains("sessions"), "{error}");
    assert_eq!(client.stats().sessions_opened, 16);
    // Each of them works, and makes room again.
    for call in calls {
        call.await.unwrap();
    }
    let mut call = client.request("inc", json!({})).deadline(seconds(60));
    call.token().await.unwrap();
}
