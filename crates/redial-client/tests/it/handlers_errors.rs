//! A handler's words are never read as the server's: its error reaches the caller unchanged, and the call
//! was executed. What a server says that is not Redial's means no more than its code.

use crate::peer::{
    connected, inc, ms,
    session::{Sessions, foreign_token},
    with_sessions, with_sessions_and,
};
use redial_client::{CallError, Executed};
use serde_json::{Value, json};

/// What a gateway may pass on as an error of its own.
fn passed_on() -> [(i32, Value); 5] {
    [
        (-32000, json!({"executed": "no"})),
        (7, json!({"executed": "no", "retry_after_ms": 5})),
        (-32001, json!({"executed": "no", "retry_after_ms": 5})),
        (
            -32004,
            json!({"executed": "unknown", "unknown_session": "123456789abcdef"}),
        ),
        (
            -32007,
            json!({"executed": "yes", "data": {"executed": "no"}}),
        ),
    ]
}

fn expect_failed(error: &CallError, code: i32, data: &Value) {
    assert!(matches!(error, CallError::Failed { .. }), "{code}: {error}");
    let said = error.server_error().unwrap();
    assert_eq!(said.code, code.into());
    assert_eq!(said.executed(), Executed::Yes, "{code}");
    let unchanged: Value = serde_json::from_str(said.data.as_ref().unwrap().get()).unwrap();
    assert_eq!(unchanged, *data);
}

#[tokio::test(start_paused = true)]
async fn a_handlers_error_arrives_unchanged_and_was_executed() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    for (code, data) in passed_on() {
        let call = inc(&client);
        let request = peer.next_call(&mut sessions).await;
        let marked = json!({"executed": "yes", "data": data});
        peer.error(&request, code, marked).await;
        let error = call.await.unwrap().unwrap_err();
        expect_failed(&error, code, &data);
        assert_eq!(error.report().attempts(), 1, "{code}");
    }
    assert_eq!(client.stats().sessions_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_recorded_error_is_resolved_unchanged() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let session = sessions.foreign();
    for (code, data) in passed_on() {
        let resolve = client.resolve(foreign_token(&session, 7));
        let resolve = tokio::spawn(async move { resolve.await });
        let request = peer.next_resolve(&mut sessions).await;
        let marked = json!({"executed": "yes", "data": data});
        let error = json!({"code": code, "message": "m", "data": marked});
        let done = json!({"state": "done", "error": error});
        peer.result(&request, done).await;
        expect_failed(&resolve.await.unwrap().unwrap_err(), code, &data);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_servers_data_says_nothing() {
    let assumed = with_sessions_and(|config| config.assume_plain = true);
    for (builder, is_asked) in [(with_sessions(), true), (assumed, false)] {
        let (client, mut peer, _network) = connected(builder).await;
        for (index, (code, data, expected)) in [
            (-32000, json!({"executed": "no"}), Executed::Yes),
            (-32603, json!({"executed": "no"}), Executed::Yes),
            (7, json!({"executed": "yes", "data": 1}), Executed::Yes),
            (-32601, json!({"executed": "yes"}), Executed::No),
            (-32001, json!({"executed": "no"}), Executed::Unknown),
            (-32007, json!({"executed": "no"}), Executed::Unknown),
        ]
        .into_iter()
        .enumerate()
        {
            let call = inc(&client);
            if is_asked && index == 0 {
                let hello = peer.next().await;
                peer.error(&hello, -32601, Value::Null).await;
            }
            let request = peer.next().await;
            peer.error(&request, code, data.clone()).await;
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.executed(), expected, "{code} {data}");
            let said = error.server_error().unwrap();
            assert_eq!(said.data.as_ref().unwrap().get(), data.to_string());
            assert!(peer.is_quiet_for(ms(500)).await, "{code} is not retried");
        }
    }
}
