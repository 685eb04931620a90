//! Every member of a message with a value of every type that it may not have gets a clear error
//! that says nothing was executed, and the next request on the same connection is served.

use crate::common::{Peer, Service, code, connect, executed, listen};
use redial_server::Config;
use serde_json::Value;
use tokio::net::TcpStream;

const PING: &str = r#"{"id":"1","method":"rpc.ping"}"#;

/// A value of every type, and some that only look like one.
const VALUES: [&str; 11] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "1e400",
    r#""text""#,
    "[]",
    "{}",
    r#"[{"method":"inc"}]"#,
];

/// A service, and a connection to it that is replaced before it has had too many errors.
struct CountedService {
    service: Service,
    peer: Peer<TcpStream>,
}

impl CountedService {
    async fn new() -> Self {
        let service = Service::default();
        let config = Config {
            max_protocol_errors: 1_000,
            ..Config::default()
        };
        let address = listen(&service.server(config)).await;
        let peer = connect(address).await;
        Self { service, peer }
    }

    /// Expects the message to be refused as invalid, with this id and without effect.
    async fn expect_invalid(&mut self, message: &str, id: &str) {
        let reply: Value = self.peer.call_json(message).await;
        assert_eq!(
            (code(&reply), executed(&reply)),
            (-32600, "no"),
            "{message}"
        );
        assert_eq!(reply["id"].to_string(), id, "{message}");
        assert!(self.peer.call(PING).await.contains("pong"), "{message}");
        assert_eq!(self.service.effects(), 0, "{message}");
    }
}

#[tokio::test]
async fn an_id_is_a_string_an_integer_or_null_and_nothing_else() {
    let mut world = CountedService::new().await;
    for id in [
        "true", "false", "1.5", "1.0", "1e2", "1e400", "[]", "[1]", "{}",
    ] {
        for version in ["", r#""jsonrpc":"2.0","#] {
            let message = format!(r#"{{{version}"id":{id},"method":"inc"}}"#);
            world.expect_invalid(&message, "null").await;
        }
    }
    let long = "x".repeat(129);
    let message = format!(r#"{{"id":"{long}","method":"inc"}}"#);
    world.expect_invalid(&message, "null").await;
    let message = format!(r#"{{"id":{},"method":"inc"}}"#, "1".repeat(129));
    world.expect_invalid(&message, "null").await;
    world
        .expect_invalid(r#"{"id":"","method":"inc"}"#, "null")
        .await;
}

#[tokio::test]
async fn a_method_is_a_string_and_nothing_else() {
    let mut world = CountedService::new().await;
    for method in VALUES.iter().filter(|value| !value.starts_with('"')) {
        let message = format!(r#"{{"id":7,"method":{method}}}"#);
        world.expect_invalid(&message, "7").await;
    }
    world.expect_invalid(r#"{"id":7}"#, "7").await;
}

#[tokio::test]
async fn params_are_an_object_or_an_array_and_nothing_else() {
    let mut world = CountedService::new().await;
    let is_structured = |value: &&&str| value.starts_with(['[', '{', 'n']);
    for params in VALUES.iter().filter(|value| !is_structured(value)) {
        let message = format!(r#"{{"id":7,"method":"inc","params":{params}}}"#);
        world.expect_invalid(&message, "7").await;
    }
}

#[tokio::test]
async fn a_version_is_2_0_and_nothing_else() {
    let mut world = CountedService::new().await;
    for version in VALUES.iter().chain(&["2", "2.0", r#""2""#, r#""2.00""#]) {
        let message = format!(r#"{{"jsonrpc":{version},"id":7,"method":"inc"}}"#);
        world.expect_invalid(&message, "7").await;
    }
}

#[tokio::test]
async fn the_redial_member_is_an_object_with_typed_members() {
    let mut world = CountedService::new().await;
    let by_position = ["[2]", "[2,null,7,null]"];
    let values = VALUES.iter().filter(|value| **value != "{}");
    for redial in values.chain(&by_position) {
        let message = format!(r#"{{"id":7,"method":"inc","redial":{redial}}}"#);
        world.expect_invalid(&message, "7").await;
    }
    for (name, value) in [
        ("attempt", "0"),
        ("attempt", "-1"),
        ("attempt", "1000001"),
        ("attempt", "null"),
        ("timeout_ms", "null"),
        ("ack", "null"),
        ("traceparent", "null"),
        ("attempt", "4294967296"),
        ("attempt", r#""2""#),
        ("timeout_ms", "1.5"),
        ("timeout_ms", "18446744073709551616"),
        ("ack", "[]"),
        ("traceparent", "7"),
    ] {
        let message = format!(r#"{{"id":7,"method":"inc","redial":{{"{name}":{value}}}}}"#);
        world.expect_invalid(&message, "7").await;
    }
}

/// Foreign objects read by position.
#[tokio::test]
async fn the_params_of_the_protocols_own_methods_are_objects() {
    let mut world = CountedService::new().await;
    let call = r#"["12345678-9abc-8def-8000-000000000007"]"#;
    for (method, params) in [
        ("rpc.hello", "[]"),
        ("rpc.hello", r#"["123456789abcdef"]"#),
        ("rpc.ack", r#"["123456789abcdef",7,[]]"#),
        ("rpc.goodbye", r#"["123456789abcdef"]"#),
        ("rpc.resolve", call),
        ("rpc.cancel", call),
    ] {
        let message = format!(r#"{{"id":7,"method":"{method}","params":{params}}}"#);
        let reply: Value = world.peer.call_json(&message).await;
        let said = (code(&reply), executed(&reply));
        assert_eq!(said, (-32602, "no"), "{message}: {reply}");
        assert!(reply.to_string().contains("expected an object"), "{reply}");
    }
}

/// Kind: what a page says of all methods, and one of them is left out. Instance: a ping takes any params.
#[tokio::test]
async fn a_method_of_the_protocol_that_takes_nothing_takes_nothing() {
    let mut world = CountedService::new().await;
    for method in ["rpc.ping", "rpc.discover"] {
        for params in ["[]", "[1]", r#"{"x":1}"#] {
            let message = format!(r#"{{"id":7,"method":"{method}","params":{params}}}"#);
            let reply: Value = world.peer.call_json(&message).await;
            let said = (code(&reply), executed(&reply));
            assert_eq!(said, (-32602, "no"), "{message}: {reply}");
        }
        for params in ["", r#","params":{}"#, r#","params":null"#] {
            let message = format!(r#"{{"id":7,"method":"{method}"{params}}}"#);
            let reply: Value = world.peer.call_json(&message).await;
            assert!(reply.get("result").is_some(), "{message}: {reply}");
        }
    }
}

/// Kind: a number that is out of its range and taken. Instance: an acknowledgement beyond all calls.
#[tokio::test]
async fn an_acknowledgement_is_of_numbers_that_calls_may_have() {
    let mut world = CountedService::new().await;
    let hello: Value = world
        .peer
        .call_json(r#"{"id":1,"method":"rpc.hello"}"#)
        .await;
    let session = &hello["result"]["session"];
    let most = 1_u64 << 62;
    for members in [
        format!(r#""ack":{}"#, most + 1),
        format!(r#""ack":{}"#, u64::MAX),
        format!(r#""above":[[1,{}]]"#, most + 1),
        r#""ack":null"#.to_owned(),
    ] {
        let message =
            format!(r#"{{"id":7,"method":"rpc.ack","params":{{"session":{session},{members}}}}}"#);
        let reply: Value = world.peer.call_json(&message).await;
        let said = (code(&reply), executed(&reply));
        assert_eq!(said, (-32602, "no"), "{message}: {reply}");
    }
    let all =
        format!(r#"{{"id":7,"method":"rpc.ack","params":{{"session":{session},"ack":{most}}}}}"#);
    assert_eq!(world.peer.call_json(&all).await["result"], true);
}

#[tokio::test]
async fn a_message_is_an_object_or_an_array_of_them() {
    let mut world = CountedService::new().await;
    let is_one = |value: &&&str| value.starts_with("[{") || **value == "{}";
    for message in VALUES.iter().filter(|value| !is_one(value)) {
        world.expect_invalid(message, "null").await;
    }
    world.expect_invalid("{}", "null").await;
    for entry in VALUES.iter().filter(|value| !value.starts_with('{')) {
        let reply = world.peer.call_json(format!("[{entry}]")).await;
        assert_eq!(code(&reply[0]), -32600, "[{entry}]: {reply}");
    }
    assert_eq!(world.service.effects(), 0);
}

#[tokio::test]
async fn a_duplicate_member_is_refused_whichever_it_is() {
    let mut world = CountedService::new().await;
    for twice in [
        r#"{"id":7,"id":8,"method":"inc"}"#,
        r#"{"id":7,"method":"inc","id":8}"#,
        r#"{"id":7,"method":"inc","x":1,"x":2,"i\u0064":1,"id":8}"#,
        r#"{"id":7,"method":"get","method":"inc"}"#,
        r#"{"id":7,"method":"inc","m\u0065thod":"inc"}"#,
        r#"{"id":7,"method":"inc","params":{},"params":{}}"#,
        r#"{"id":7,"method":"inc","redial":{},"redial":{}}"#,
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":7,"method":"inc"}"#,
        r#"{"id":7,"method":"inc","x":1,"x":2}"#,
    ] {
        let reply = world.peer.call_json(twice).await;
        assert_eq!((code(&reply), executed(&reply)), (-32600, "no"), "{twice}");
        let has_two_ids = twice.contains(r#""id":8"#);
        assert_eq!(reply["id"].is_null(), has_two_ids, "{twice}: {reply}");
    }
    assert_eq!(world.service.effects(), 0);
}
