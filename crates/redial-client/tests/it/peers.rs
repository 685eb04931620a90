//! Every kind of server works: plain JSON-RPC 2.0, the notebook's, and ones that send nonsense.

use crate::peer::{builder, builder_with, connected, connected_once, inc, ms, start};
use redial_client::{CallError, CallToken, Cause, Dialect, Executed, Uuid};
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn without_extensions_the_member_is_never_sent() {
    let (client, mut peer, _network) =
        connected(builder_with(|config| config.extensions = false)).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = start(client.request("inc", json!({})).traceparent(trace));
    for _ in 0..2 {
        assert!(!peer.next().await.text.contains("redial"));
    }
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn the_traceparent_is_sent() {
    let (client, mut peer, _network) = connected(builder()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = start(client.request("inc", json!({})).traceparent(trace));
    assert_eq!(peer.next().await.meta.traceparent.as_deref(), Some(trace));
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn the_notebook_dialect_has_no_jsonrpc_member() {
    let builder = builder_with(|config| {
        config.dialect = Dialect::Notebook;
        config.extensions = false;
    });
    let (client, mut peer, _network) = connected(builder).await;
    let id = Uuid::from_u128(7);
    let call = start(client.request("inc", json!({"key": "k"})).id(id));
    let request = peer.next().await;
    assert_eq!(
        request.text,
        r#"{"id":"00000000-0000-0000-0000-000000000007","method":"inc","params":{"key":"k"}}"#
    );
    let reply = br#"{"id":"00000000-0000-0000-0000-000000000007","result":{"key":"k","value":1}}"#;
    peer.frame(reply).await;
    assert_eq!(
        call.await.unwrap().unwrap().value,
        json!({"key": "k", "value": 1})
    );
}

#[tokio::test(start_paused = true)]
async fn ids_are_random_uuids_of_version_4() {
    let (client, mut peer, _network) = connected(builder()).await;
    let calls = [inc(&client), inc(&client)];
    let mut ids = Vec::new();
    for _ in &calls {
        let request = peer.next().await;
        let id: Uuid = serde_json::from_str(&request.id).unwrap();
        assert_eq!(id.get_version_num(), 4);
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(start_paused = true)]
async fn each_error_says_whether_the_call_was_executed() {
    let (client, mut peer, _network) = connected(builder()).await;
    for (code, data, expected) in [
        (-32601, Value::Null, Executed::No),
        (-32602, Value::Null, Executed::No),
        (-32002, json!({"executed": "no"}), Executed::No),
        (-32003, json!({"executed": "unknown"}), Executed::Unknown),
        (-32000, json!({"executed": "yes"}), Executed::Yes),
        (-32603, Value::Null, Executed::Yes),
        (-32007, json!({"executed": "yes"}), Executed::Yes),
        (42, json!("anything"), Executed::Yes),
        (-32004, json!({"executed": "unknown"}), Executed::Unknown),
        (-32008, Value::Null, Executed::Unknown),
    ] {
        let call = inc(&client);
        let request = peer.next().await;
        peer.error(&request, code, data).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), expected, "{code}");
        assert_eq!(error.server_error().unwrap().code, code.into());
        assert_eq!(error.report().attempts(), 1, "{code} is never retried");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_of_the_wrong_type_was_executed() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = tokio::spawn(
        client
            .request("inc", json!({}))
            .returning::<u64>()
            .with_report(),
    );
    let request = peer.next().await;
    peer.result(&request, json!("seven")).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Failed { .. }));
    assert!(matches!(error.cause(), Cause::Decode(_)), "{error}");
    assert_eq!(error.report().attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn whether_it_was_a_replay_is_reported_if_the_server_says_so() {
    let (client, mut peer, _network) = connected(builder()).await;
    for (member, expected) in [
        ("", None),
        (r#","redial":{"replayed":true}"#, Some(true)),
        (r#","redial":{"replayed":false}"#, Some(false)),
    ] {
        let call = inc(&client);
        let id = peer.next().await.id;
        peer.frame(format!(r#"{{"id":{id},"result":1{member}}}"#).as_bytes())
            .await;
        assert_eq!(call.await.unwrap().unwrap().report.replayed(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_reply_ends_its_own_call_as_unknown() {
    let (client, mut peer, _network) = connected(builder()).await;
    let (bad, good) = (inc(&client), inc(&client));
    let (first, second) = (peer.next().await, peer.next().await);
    peer.frame(format!(r#"{{"id":{}}}"#, first.id).as_bytes())
        .await;
    peer.result(&second, json!(1)).await;
    let error = bad.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert!(
        error.to_string().contains("neither a result nor an error"),
        "{error}"
    );
    good.await.unwrap().unwrap();
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_stream_closes_the_connection() {
    let cases: [(&[u8], &str); 2] = [
        (b"\0\0\0\0", "frame of 0 bytes"),
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
    ];
    for (bytes, expected) in cases {
        let (client, mut peer, mut network) = connected(builder()).await;
        let call = start(client.request("inc", json!({})).max_attempts(1));
        let next = inc(&client);
        let (first, second) = (peer.next().await, peer.next().await);
        peer.raw(bytes).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(peer.request().await.is_none(), "the connection is closed");
        let mut peer = network.accept().await;
        let again = peer.next().await;
        assert_eq!(again.id, second.id);
        assert_ne!(again.id, first.id);
        peer.result(&again, json!(1)).await;
        next.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_before_nonsense_in_the_same_read_counts() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = inc(&client);
    let id = peer.next().await.id;
    let body = format!(r#"{{"id":{id},"result":1}}"#);
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body.as_bytes());
    bytes.extend_from_slice(&[0; 4]);
    peer.raw(&bytes).await;
    assert_eq!(call.await.unwrap().unwrap().value, 1);
}

#[tokio::test(start_paused = true)]
async fn unmatched_replies_are_ignored_and_counted() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = inc(&client);
    let request = peer.next().await;
    for id in [
        "7",
        "\"text\"",
        "null",
        "\"00000000-0000-4000-8000-000000000000\"",
    ] {
        peer.frame(format!(r#"{{"id":{id},"result":1}}"#).as_bytes())
            .await;
    }
    peer.result(&request, json!(2)).await;
    assert_eq!(call.await.unwrap().unwrap().value, 2);
    assert_eq!(client.stats().unmatched_replies, 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_unknown_outcome_is_resumed_under_its_id() {
    let (client, mut peer, _network) = connected_once(builder()).await;
    let call = client.request("inc", json!({"key": "k"}));
    let mut call = call.max_attempts(1).deadline(ms(500));
    let before = serde_json::to_string(&call.token().await.unwrap()).unwrap();
    let call = start(call);
    let first = peer.next().await;
    let Err(CallError::Unknown { token, .. }) = call.await.unwrap() else {
        panic!("no reply came");
    };
    assert_eq!(serde_json::to_string(&token).unwrap(), before);
    let kept: CallToken = serde_json::from_str(&before).unwrap();
    let resumed = start(client.resume(kept));
    let again = peer.next().await;
    assert_eq!((&again.id, &again.params), (&first.id, &first.params));
    peer.error(&again, -32601, Value::Null).await;
    let error = resumed.await.unwrap().unwrap_err();
    assert_eq!(
        error.executed(),
        Executed::Unknown,
        "the first may have been"
    );
}

#[tokio::test(start_paused = true)]
async fn two_calls_of_one_id_are_kept_apart() {
    let (client, mut peer, _network) = connected(builder()).await;
    let id = Uuid::from_u128(1);
    let first = start(client.request("inc", json!({})).id(id));
    let request = peer.next().await;
    let second = start(client.request("inc", json!({})).id(id));
    let error = second.await.unwrap().unwrap_err();
    assert!(matches!(error.cause(), Cause::IdInUse), "{error}");
    assert_eq!(
        error.executed(),
        Executed::Unknown,
        "the other is the same call"
    );
    peer.result(&request, json!(1)).await;
    first.await.unwrap().unwrap();
    assert!(peer.is_quiet_for(ms(1000)).await);
}

/// Params that JSON has no number for: serde_json would send null, and the server could not know.
#[tokio::test(start_paused = true)]
async fn params_that_json_has_no_number_for_are_not_sent() {
    let (client, mut peer, _network) = connected(builder()).await;
    for number in [f64::NAN, f64::INFINITY] {
        let error = client.request("inc", [number]).await.unwrap_err();
        assert_eq!(error.executed(), Executed::No);
        assert!(error.to_string().contains("JSON has no number"), "{error}");
    }
    let call = start(client.request("inc", [1.5]));
    let request = peer.next().await;
    assert_eq!(request.params, json!([1.5]));
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}
