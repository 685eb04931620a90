//! What a caller says beside the params: seen by the handler, and no part of the call.

use redial_server::{Config, Context, Server};
use serde_json::{Value, json};

use crate::common::{
    Service, code, executed,
    session::{client, config, request},
    uuid,
};

fn saying(config: Config) -> Server {
    let builder = Service::default().builder().config(config);
    let said = async |_: Value, context: Context| {
        let said: Vec<_> = context
            .meta()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        Ok(said.join(","))
    };
    let at_once =
        async |_: Value, context: Context| Ok(context.meta().get("tenant").map(str::to_owned));
    builder
        .mutation("said", said)
        .query("tenant", at_once)
        .build()
        .unwrap()
}

/// Attempts of one call that say different things: one execution, one outcome.
#[tokio::test(start_paused = true)]
async fn what_is_said_beside_the_params_is_no_part_of_the_call() {
    let server = saying(config());
    let (mut peer, session) = client(&server).await;
    let said = |attempt: u32, meta: Value| {
        request(
            "said",
            session,
            0,
            json!({"attempt": attempt, "meta": meta}),
        )
    };
    peer.send(said(1, json!({"tenant": "acme", "locale": "fr"})))
        .await;
    peer.send(said(2, json!({"tenant": "other"}))).await;
    for reply in peer.receive_all::<2>().await {
        assert_eq!(reply["result"], "locale=fr,tenant=acme");
    }
    let replay = peer
        .call_json(request("said", session, 0, json!({"attempt": 3})))
        .await;
    assert_eq!(replay["result"], "locale=fr,tenant=acme");
    assert_eq!(server.stats().started, 1);
    // With a plain id, of a query, in a batch, and without any.
    let plain = format!(
        r#"{{"id":"{}","method":"said","redial":{{"meta":{{"a":"b"}}}}}}"#,
        uuid(1)
    );
    assert_eq!(peer.call_json(plain).await["result"], "a=b");
    let query = r#"{"id":1,"method":"tenant","redial":{"meta":{"tenant":"acme"}}}"#;
    assert_eq!(peer.call_json(query).await["result"], "acme");
    let batch = format!(
        "[{}]",
        query.replace("{\"id\"", "{\"jsonrpc\":\"2.0\",\"id\"")
    );
    assert_eq!(peer.call_json(batch).await[0]["result"], "acme");
    assert_eq!(
        peer.call_json(r#"{"id":2,"method":"tenant"}"#).await["result"],
        Value::Null
    );
}

/// Too many, too long, of the wrong type: nothing runs, and the connection goes on.
#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_refused_without_effect() {
    let server = saying(config());
    let (mut peer, session) = client(&server).await;
    let many: serde_json::Map<_, _> = (0..33).map(|n| (n.to_string(), json!("v"))).collect();
    for (meta, expected) in [
        (json!(many), "32 entries"),
        (json!({"k": "x".repeat(8_192)}), "8192 bytes"),
        (json!({"k": 1234}), "expected a string"),
        (json!(["k", "v"]), "an object whose values are strings"),
        (json!(null), "null"),
    ] {
        let reply = peer
            .call_json(request("said", session, 0, json!({"meta": meta})))
            .await;
        assert_eq!((code(&reply), executed(&reply)), (-32600, "no"), "{reply}");
        assert!(reply.to_string().contains(expected), "{reply}");
        assert!(!reply.to_string().contains("1234"), "{reply}");
    }
    assert_eq!(server.stats().started, 0);
    let most: serde_json::Map<_, _> = (10..42)
        .map(|n| (n.to_string(), json!("v".repeat(254))))
        .collect();
    let reply = peer
        .call_json(request("said", session, 0, json!({"meta": most})))
        .await;
    assert!(reply["result"].is_string(), "{reply}");
}
