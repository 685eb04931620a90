//! What a client reports about whether a call was executed is what happened on the server, whatever
//! else was asked or answered before.

use crate::world::{World, ms, patient};
use redial_client::{CallToken, Cause, Client, Executed, Resolution};
use redial_server::Config;
use serde_json::json;

/// A server, a client, and a call of it whose token was serialised.
async fn serialised(
    method: &'static str,
) -> (
    World,
    Client,
    redial_client::Call<serde_json::Value>,
    CallToken,
) {
    let world = World::new(Config::default(), ms(10));
    let client = world.client(patient()).await;
    let mut call = client.request(method, json!({}));
    let text = serde_json::to_string(&call.token().await.unwrap()).unwrap();
    (world, client, call, serde_json::from_str(&text).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_call_that_was_refused_never_says_that_it_was_executed() {
    let (world, client, call, token) = serialised("nope").await;
    assert_eq!(call.await.unwrap_err().executed(), Executed::No);
    // The program ends before it has removed the token, and starts again.
    tokio::time::sleep(ms(100)).await;
    client.close().await;
    let client = world.client(patient()).await;
    let resolved = client.resolve(token).await;
    assert_eq!(resolved.unwrap(), Resolution::Never);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_another_program_has_fenced_was_not_executed() {
    let (world, _client, call, token) = serialised("inc").await;
    let other = world.client(patient()).await;
    assert_eq!(other.resolve(token).await.unwrap(), Resolution::Never);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(call.await.unwrap_err().executed(), Executed::No);
    assert_eq!(world.effects(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_own_program_has_fenced_was_not_executed() {
    let (world, client, call, token) = serialised("inc").await;
    assert_eq!(client.resolve(token).await.unwrap(), Resolution::Never);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(call.await.unwrap_err().executed(), Executed::No);
    assert_eq!(world.effects(), 0);
}

/// A session is reported lost by its name, not by the error code alone.
#[tokio::test(start_paused = true)]
async fn a_handlers_own_error_is_its_outcome_and_takes_no_session_down() {
    let world = World::new(Config::default(), ms(500));
    let client = world.client(patient()).await;
    let slow = client.request("slow", json!({}));
    let slow = tokio::spawn(std::future::IntoFuture::into_future(slow));
    tokio::time::sleep(ms(100)).await;
    let error = client.request("fail", json!({})).await.unwrap_err();
    let Cause::Server(said) = error.cause() else {
        panic!("{error}");
    };
    assert_eq!(i32::from(said.code), -32004);
    assert_eq!(error.executed(), Executed::Yes);
    assert_eq!(slow.await.unwrap().unwrap(), json!(1));
    assert_eq!(client.request("inc", json!({})).await.unwrap(), json!(3));
    let stats = client.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (1, 0));
}

/// A handler's words read as the server's: a gateway passes on what another server refused.
#[tokio::test(start_paused = true)]
async fn an_error_that_a_handler_passes_on_arrives_unchanged_and_was_executed() {
    let refused = json!({"executed": "no", "retry_after_ms": 5});
    let lost = json!({"executed": "unknown", "unknown_session": "123456789abcdef"});
    let marked = json!({"executed": "yes", "data": {"executed": "no"}});
    let world = World::new(Config::default(), ms(10));
    let with_session = world.client(patient()).await;
    let mut effects = 0;
    for (code, data) in [-32000, -32603, 7, -32001, -32004, -32007, -32008]
        .into_iter()
        .flat_map(|code| [(code, &refused), (code, &lost), (code, &marked)])
    {
        let expect = |error: redial_client::CallError| {
            let said = error.server_error().expect("the handler's");
            let unchanged = said.data.as_ref().map(|data| data.get().to_owned());
            assert_eq!(
                (i32::from(said.code), unchanged),
                (code, Some(data.to_string()))
            );
            assert_eq!(
                (error.executed(), said.executed()),
                (Executed::Yes, Executed::Yes)
            );
        };
        let params = json!({"code": code, "data": data});
        let mut call = with_session.request("fail", params);
        let token = call.token().await.unwrap();
        // So that its record is kept.
        serde_json::to_string(&token).unwrap();
        expect(call.await.unwrap_err());
        expect(with_session.resume(token.clone()).await.unwrap_err());
        expect(with_session.resolve(token).await.unwrap_err());
        effects += 1;
        assert_eq!(world.effects(), effects);
    }
    assert_eq!(with_session.stats().sessions_lost, 0);
}
