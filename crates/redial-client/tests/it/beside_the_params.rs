//! What a call says beside its params: in every attempt, and nowhere else.

use redial_client::{CallError, Client, Config, Dialect, Executed, LayerCall, Next, Priority};
use serde_json::{Value, json};

use crate::peer::{
    builder, builder_with, config, connected, ms, session::Sessions, start, with_sessions,
};

fn said(text: &str) -> Value {
    let request: Value = serde_json::from_str(text).unwrap();
    request["redial"]["meta"].clone()
}

/// An attempt that is lost, one that is answered, and the call's token.
#[tokio::test(start_paused = true)]
async fn every_attempt_says_it_and_no_token_keeps_it() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = tokio::spawn(async move {
        let call = client.request("inc", json!({"key": "k"}));
        let mut call = call
            .meta("tenant", "acme")
            .meta("locale", "en")
            .meta("locale", "fr");
        let token = serde_json::to_string(&call.token().await.unwrap()).unwrap();
        assert!(!token.contains("acme"), "{token}");
        let debug = format!("{call:?}");
        assert!(!debug.contains("acme"), "{debug}");
        let value = call.await?;
        let token: redial_client::CallToken = serde_json::from_str(&token).unwrap();
        let again = client.resume(token);
        again.await.map(|_| value)
    });
    let expected = json!({"tenant": "acme", "locale": "fr"});
    let first = peer.next_call(&mut sessions).await;
    assert_eq!(said(&first.text), expected);
    let second = peer.next_call(&mut sessions).await;
    assert_eq!((&second.id, said(&second.text)), (&first.id, expected));
    peer.result(&second, json!(1)).await;
    let resumed = peer.next_call(&mut sessions).await;
    assert_eq!((&resumed.id, said(&resumed.text)), (&first.id, Value::Null));
    peer.result(&resumed, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap(), json!(1));
}

/// More than there may be: the call ends before anything is sent, and no other is affected.
#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_not_sent() {
    let (client, mut peer, _network) = connected(builder()).await;
    let too_long = client
        .request("inc", json!({}))
        .meta("k", "v".repeat(8_192));
    let mut too_many = client.request("inc", json!({}));
    for key in 0..33 {
        too_many = too_many.meta(key.to_string(), "");
    }
    for (call, expected) in [(too_long, "8192 bytes"), (too_many, "32 entries")] {
        let error = call.await.unwrap_err();
        assert_eq!(error.executed(), Executed::No);
        assert!(error.to_string().contains(expected), "{error}");
    }
    let good = start(client.request("inc", json!({})).meta("k", "v"));
    let request = peer.next().await;
    assert_eq!(said(&request.text), json!({"k": "v"}));
    peer.result(&request, json!(1)).await;
    good.await.unwrap().unwrap();
}

/// A call that was sent before, and can't be sent again: its error must not say that it was not executed.
#[tokio::test(start_paused = true)]
async fn a_resumed_call_that_can_not_be_sent_is_unknown() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let unknown = client.request("inc", json!({"key": "k"})).max_attempts(1);
    let unknown = start(unknown.deadline(ms(200)));
    let request = peer.next_call(&mut sessions).await;
    let Err(CallError::Unknown { mut token, .. }) = unknown.await.unwrap() else {
        panic!("it has no reply");
    };
    let too_long = "v".repeat(9_000);
    for bad in [
        client.resume(token.clone()).meta("k", &too_long),
        client.resume(token.clone()).max_attempts(0),
        client.resume(token.clone()).traceparent("00-"),
    ] {
        let Err(CallError::Unknown { token: kept, .. }) = bad.await else {
            panic!("it may have been executed");
        };
        token = kept;
    }
    let mut bad = client.resume(token.clone()).meta("k", &too_long);
    let error = bad.token().await.unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    let good = start(client.resume(token));
    let again = peer.next_call(&mut sessions).await;
    assert_eq!(again.id, request.id);
    peer.execute(&mut sessions, &again, json!(1)).await;
    good.await.unwrap().unwrap();
}

/// A priority that the first attempt alone says, or that changes what a server hears which was said nothing.
#[tokio::test(start_paused = true)]
async fn every_attempt_says_its_priority_and_the_usual_one_is_not_said() {
    let sheddable = |config: &mut Config| config.priority = Priority::Sheddable;
    let (usual, all_sheddable) = (builder(), builder_with(sheddable));
    for (builder, of_client) in [(usual, None), (all_sheddable, Some("sheddable"))] {
        let layer = |mut call: LayerCall, next: Next| async move {
            if call.method() == "raised" {
                assert_eq!(call.priority(), None);
                call.set_priority(Priority::Critical);
            }
            next.run(call).await
        };
        let (client, mut peer, _network) = connected(builder.layer(layer)).await;
        let call = |method: &'static str| client.request(method, json!({}));
        for (call, expected) in [
            (call("inc"), of_client),
            (call("raised"), Some("critical")),
            (call("inc").priority(Priority::Critical), Some("critical")),
            (call("inc").priority(Priority::Sheddable), Some("sheddable")),
            (call("inc").priority(Priority::Default), None),
        ] {
            let call = start(call);
            let first = peer.next().await;
            peer.error(&first, -32001, json!({"executed": "no"})).await;
            let second = peer.next().await;
            peer.result(&second, json!(1)).await;
            call.await.unwrap().unwrap();
            for request in [first, second] {
                let text: Value = serde_json::from_str(&request.text).unwrap();
                let said = text["redial"]
                    .get("priority")
                    .map(|said| said.as_str().unwrap());
                assert_eq!(said, expected, "{}", request.text);
            }
        }
    }
}

/// A server that knows nothing of Redial's extensions, and is sent one.
#[tokio::test(start_paused = true)]
async fn a_server_without_extensions_hears_no_priority() {
    let config = Config {
        extensions: false,
        dialect: Dialect::Notebook,
        priority: Priority::Critical,
        ..config()
    };
    let (client, mut peer, _network) = connected(Client::builder().config(config)).await;
    let call = start(client.request("inc", json!({})));
    let request = peer.next().await;
    let text: Value = serde_json::from_str(&request.text).unwrap();
    let members: Vec<_> = text.as_object().unwrap().keys().collect();
    assert_eq!(members, ["id", "method", "params"], "{text}");
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}
