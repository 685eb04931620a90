//! Every example of the JSON-RPC 2.0 specification (section 7), over a real socket.

use crate::common::{Peer, connect, listen};
use redial_server::{Config, Context, Server};
use serde_json::{Value, json};
use tokio::net::TcpStream;

async fn peer() -> Peer<TcpStream> {
    #[derive(serde::Deserialize)]
    struct Subtract {
        minuend: i64,
        subtrahend: i64,
    }
    let server = Server::builder()
        .config(Config::default())
        .query("subtract", async |params: Subtract, _: Context| {
            Ok(params.minuend - params.subtrahend)
        })
        .query("sum", async |terms: Vec<i64>, _: Context| {
            Ok(terms.iter().sum::<i64>())
        })
        .query("get_data", async |_: (), _: Context| {
            Ok(json!(["hello", 5]))
        })
        .mutation("update", async |_: Vec<i64>, _: Context| Ok(()))
        .mutation("notify_hello", async |_: Vec<i64>, _: Context| Ok(()))
        .mutation("notify_sum", async |_: Vec<i64>, _: Context| Ok(()))
        .build()
        .unwrap();
    connect(listen(&server).await).await
}

/// What the specification shows: it leaves `data` to the server.
fn without_data(mut reply: Value) -> Value {
    match &mut reply {
        Value::Array(replies) => {
            *replies = replies.drain(..).map(without_data).collect();
        }
        reply => {
            if let Some(error) = reply["error"].as_object_mut() {
                error.remove("data");
            }
            if reply["error"].is_null() {
                reply.as_object_mut().unwrap().remove("error");
            }
        }
    }
    reply
}

async fn example(peer: &mut Peer<TcpStream>, request: &str, expected: Value) {
    assert_eq!(
        without_data(peer.call_json(request).await),
        expected,
        "{request}"
    );
}

fn error(code: i64, message: &str, id: Value) -> Value {
    json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": id})
}

#[tokio::test]
async fn calls_with_positional_and_named_parameters() {
    let mut peer = peer().await;
    for (params, id, result) in [
        ("[42, 23]", 1, 19),
        ("[23, 42]", 2, -19),
        (r#"{"subtrahend": 23, "minuend": 42}"#, 3, 19),
        (r#"{"minuend": 42, "subtrahend": 23}"#, 4, 19),
    ] {
        let request = format!(
            r#"{{"jsonrpc": "2.0", "method": "subtract", "params": {params}, "id": {id}}}"#
        );
        let expected = json!({"jsonrpc": "2.0", "result": result, "id": id});
        example(&mut peer, &request, expected).await;
    }
}

#[tokio::test]
async fn notifications_are_not_answered() {
    let mut peer = peer().await;
    peer.send(r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#)
        .await;
    peer.send(r#"{"jsonrpc": "2.0", "method": "foobar"}"#).await;
    let ping = r#"{"jsonrpc": "2.0", "method": "rpc.ping", "id": 9}"#;
    example(
        &mut peer,
        ping,
        json!({"jsonrpc": "2.0", "result": "pong", "id": 9}),
    )
    .await;
}

#[tokio::test]
async fn a_method_that_does_not_exist() {
    let mut peer = peer().await;
    let request = r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#;
    example(
        &mut peer,
        request,
        error(-32601, "Method not found", json!("1")),
    )
    .await;
}

#[tokio::test]
async fn invalid_json_and_an_invalid_request() {
    let mut peer = peer().await;
    let request = r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#;
    example(
        &mut peer,
        request,
        error(-32700, "Parse error", Value::Null),
    )
    .await;
    let request = r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#;
    example(
        &mut peer,
        request,
        error(-32600, "Invalid Request", Value::Null),
    )
    .await;
}

#[tokio::test]
async fn invalid_batches() {
    let mut peer = peer().await;
    let request = r#"[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method"
    ]"#;
    example(
        &mut peer,
        request,
        error(-32700, "Parse error", Value::Null),
    )
    .await;
    let invalid = || error(-32600, "Invalid Request", Value::Null);
    example(&mut peer, "[]", invalid()).await;
    example(&mut peer, "[1]", json!([invalid()])).await;
    example(
        &mut peer,
        "[1,2,3]",
        json!([invalid(), invalid(), invalid()]),
    )
    .await;
}

#[tokio::test]
async fn a_batch_of_all_sorts() {
    let mut peer = peer().await;
    let request = r#"[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]"#;
    let expected = json!([
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        error(-32600, "Invalid Request", Value::Null),
        error(-32601, "Method not found", json!("5")),
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}
    ]);
    example(&mut peer, request, expected).await;
}

#[tokio::test]
async fn a_batch_of_notifications_is_not_answered() {
    let mut peer = peer().await;
    let request = r#"[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]"#;
    peer.send(request).await;
    let ping = r#"{"jsonrpc": "2.0", "method": "rpc.ping", "id": 9}"#;
    example(
        &mut peer,
        ping,
        json!({"jsonrpc": "2.0", "result": "pong", "id": 9}),
    )
    .await;
}
