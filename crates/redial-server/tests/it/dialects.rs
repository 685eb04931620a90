//! Both dialects work on one connection: each request is answered in its own, and ids come back as
//! they were written.

use crate::common::{Service, code, pipe, uuid};
use redial_server::Config;
use serde_json::Value;

#[tokio::test]
async fn a_notebook_message_gets_no_jsonrpc_member() {
    let mut peer = pipe(&Service::default().server(Config::default()));
    let id = uuid(1);
    let reply = peer
        .call(format!(
            r#"{{"id": "{id}", "method": "inc", "params": {{}}}}"#
        ))
        .await;
    assert_eq!(reply, format!(r#"{{"id":"{id}","result":{{"value":1}}}}"#));
    let reply = peer.call(r#"{"id": "x", "method": "nope"}"#).await;
    assert!(
        reply.starts_with(r#"{"id":"x","error":{"code":-32601,"#),
        "{reply}"
    );
    let reply = peer.call(r#"{"id": "x", "method": 7}"#).await;
    assert!(
        reply.starts_with(r#"{"id":"x","error":{"code":-32600,"#),
        "{reply}"
    );
}

/// What is no request: a client's answer to what it was asked. It has the id of that question, and the
/// client may have a call of its own in flight under the same one, which an answer would end.
#[tokio::test]
async fn a_reply_is_not_answered() {
    let mut peer = pipe(&Service::default().server(Config::default()));
    let refused = r#""error":{"code":-32601,"message":"Method not found"}"#;
    let id = uuid(1);
    for reply in [
        format!(r#"{{"id":"{id}",{refused}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":1}}"#),
        format!(r#"[{{"jsonrpc":"2.0","id":"{id}",{refused}}}]"#),
    ] {
        peer.send(reply).await;
        let next = peer.call(r#"{"id":"next","method":"get"}"#).await;
        assert_eq!(next, r#"{"id":"next","result":0}"#);
    }
}

#[tokio::test]
async fn ids_are_echoed_exactly_as_they_were_written() {
    let mut peer = pipe(&Service::default().server(Config::default()));
    let ids = [
        "1",
        "-1",
        "0",
        "-0",
        "18446744073709551616",
        "18446744073709551617",
        "null",
        r#""\u0061b""#,
        r#""ä""#,
        r#""1""#,
    ];
    for id in ids {
        let reply = peer
            .call(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"get"}}"#))
            .await;
        assert_eq!(
            reply,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":0}}"#)
        );
    }
}

#[tokio::test]
async fn in_the_notebook_dialect_every_id_but_null_is_a_key() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    for (effects, id) in [
        (1, "1"),
        (2, "\"1\""),
        (3, "\"any\""),
        (4, "18446744073709551616"),
    ] {
        let request = format!(r#"{{"id":{id},"method":"inc"}}"#);
        assert_eq!(peer.call(&request).await, peer.call(&request).await);
        assert_eq!(service.effects(), effects, "{id}");
    }
    for _ in 0..2 {
        peer.call(r#"{"id":null,"method":"inc"}"#).await;
    }
    assert_eq!(service.effects(), 6, "null is never a key");
}

#[tokio::test]
async fn in_json_rpc_2_only_uuids_are_keys() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    for id in ["1", "\"any\""] {
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"inc"}}"#);
        assert_ne!(peer.call(&request).await, peer.call(&request).await);
    }
    let request = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"inc"}}"#, uuid(1));
    assert_eq!(peer.call(&request).await, peer.call(&request).await);
    assert_eq!(service.effects(), 5);
}

#[tokio::test]
async fn the_same_call_in_the_other_dialect_differs_only_in_its_wrapper() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    let id = uuid(1);
    let one = peer
        .call(format!(r#"{{"id":"{id}","method":"inc"}}"#))
        .await;
    let other = peer
        .call(format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"inc"}}"#))
        .await;
    assert_eq!(one.replacen('{', r#"{"jsonrpc":"2.0","#, 1), other);
    assert_eq!(service.effects(), 1);
}

#[tokio::test]
async fn a_notification_runs_every_time_and_is_never_answered() {
    let service = Service::default();
    let mut peer = pipe(&service.server(Config::default()));
    for _ in 0..3 {
        peer.send(r#"{"method":"inc"}"#).await;
        peer.send(r#"{"jsonrpc":"2.0","method":"unknown"}"#).await;
        peer.send(r#"{"jsonrpc":"2.0","method":"big","params":["these are wrong"]}"#)
            .await;
    }
    let reply: Value = peer.call_json(r#"{"id":"1","method":"get"}"#).await;
    assert_eq!(reply["result"], 3, "{reply}");
}

#[tokio::test]
async fn a_wrong_version_is_refused() {
    let mut peer = pipe(&Service::default().server(Config::default()));
    for version in ["\"1.0\"", "2", "null", "2.0"] {
        let request = format!(r#"{{"jsonrpc":{version},"id":1,"method":"get"}}"#);
        assert_eq!(code(&peer.call_json(request).await), -32600, "{version}");
    }
}

#[tokio::test]
async fn a_handler_gets_attempt_deadline_and_traceparent() {
    let mut peer = pipe(&Service::default().server(Config::default()));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = format!(
        r#"{{"id":"1","method":"context","redial":{{"attempt":2,"timeout_ms":5000,"traceparent":"{trace}"}}}}"#
    );
    let reply = peer.call_json(request).await;
    assert_eq!(reply["result"]["attempt"], 2);
    assert_eq!(reply["result"]["has_deadline"], true);
    assert_eq!(reply["result"]["traceparent"], trace);
}

#[tokio::test]
async fn discover_names_the_methods_and_their_kinds() {
    let mut peer = pipe(&Service::default().server(Config::default()));
    let reply = peer
        .call_json(r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#)
        .await;
    let document = &reply["result"];
    assert!(document["openrpc"].as_str().unwrap().starts_with("1."));
    let methods = document["methods"].as_array().unwrap();
    let inc = methods
        .iter()
        .find(|method| method["name"] == "inc")
        .unwrap();
    assert_eq!(inc["x-redial-kind"], "mutation");
    assert_eq!(inc["params"], serde_json::json!([]));
}
