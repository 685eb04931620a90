//! The kind of fault: a store that takes nothing for a while costs more than the calls that need it, or its
//! refusals don't say that it is the store, and that it may have room again soon.

use redial_server::Server;
use serde_json::{Value, json};

use crate::common::{
    Peer, executed,
    held_store::HeldStore,
    pipe,
    session::{HELLO, attempt, client},
};

const FULL: &str = "calls.db: database or disk is full; make room on its disk";

fn server(store: &HeldStore) -> Server {
    Server::builder()
        .store(store.clone())
        .mutation("inc", async |_: Value| Ok("done"))
        .query("get", async |_: Value| Ok("there"))
        .build()
        .unwrap()
}

/// That a reply is the store's refusal: it names the store, what to do, and when to ask again.
fn assert_store_refusal(reply: &Value) {
    let error = &reply["error"];
    assert_eq!(error["code"], -32006, "{reply}");
    assert_eq!(error["message"], "Store unavailable");
    assert_eq!(executed(reply), "no");
    assert!(
        error["data"]["retry_after_ms"].as_u64() > Some(0),
        "{reply}"
    );
    let detail = error["data"]["detail"].as_str().unwrap();
    for words in [FULL, "the store takes no calls", "was not executed"] {
        assert!(detail.contains(words), "{detail}");
    }
}

/// Of hellos that were refused nothing is left: not of one that met the full disk on its way to it either.
#[tokio::test(start_paused = true)]
async fn a_connection_gets_its_session_after_any_number_of_refused_hellos() {
    let store = HeldStore::default();
    let server = server(&store);
    let mut peer = pipe(&server);
    store.hold();
    for is_known_before in [false, true] {
        for _ in 0..40 {
            store.set_problem(is_known_before.then_some(FULL));
            peer.send(HELLO).await;
            let query = peer.call_json(r#"{"id":"q","method":"get"}"#).await;
            if is_known_before {
                assert_store_refusal(&query);
                assert_eq!(peer.receive_json().await["result"], "there");
                continue;
            }
            assert_eq!(query["result"], "there");
            store.set_problem(Some(FULL));
            store.commit();
            assert_store_refusal(&peer.receive_json().await);
        }
    }
    assert!(server.stats().sessions <= 1, "{:?}", server.stats());
    store.set_problem(None);
    peer.send(HELLO).await;
    let pong = peer.call_json(r#"{"id":"p","method":"rpc.ping"}"#).await;
    assert_eq!(pong["result"], "pong");
    store.commit();
    let hello = peer.receive_json().await;
    assert!(hello["result"]["session"].is_string(), "{hello}");
}

/// A session that is there can be attached to, and its queries go on.
#[tokio::test(start_paused = true)]
async fn a_known_session_needs_no_room() {
    let store = HeldStore::default();
    let server = server(&store);
    let (mut peer, session) = client(&server).await;
    drop(peer);
    store.set_problem(Some(FULL));
    peer = pipe(&server);
    let attach =
        json!({"id": "h", "method": "rpc.hello", "params": {"session": session.to_string()}});
    let hello = peer.call_json(attach.to_string()).await;
    assert_eq!(hello["result"]["session"], session.to_string());
    assert_store_refusal(&peer.call_json(attempt("inc", session, 0, 1)).await);
    assert_eq!(
        peer.call_json(attempt("get", session, 1, 1)).await["result"],
        "there"
    );
    store.set_problem(None);
    assert_eq!(
        peer.call_json(attempt("inc", session, 0, 2)).await["result"],
        "done"
    );
}

/// A plain id, and a fence that can't be made durable.
#[tokio::test(start_paused = true)]
async fn every_refusal_for_want_of_room_says_so() {
    let store = HeldStore::default();
    let server = server(&store);
    let (mut peer, session) = client(&server).await;
    store.set_problem(Some(FULL));
    let plain = r#"{"id":"6c84fb90-12c4-41e1-a6f5-8c0e1bd4a6a8","method":"inc"}"#;
    assert_store_refusal(&peer.call_json(plain).await);
    assert_eq!(
        peer.call_json(plain.replace("inc", "get")).await["result"],
        "there"
    );
    let resolve = crate::common::session::ask("rpc.resolve", session, 7);
    assert_store_refusal(&peer.call_json(resolve).await);
}

/// The words of a store are not cut short of what to do, however long the name of its file.
#[tokio::test(start_paused = true)]
async fn a_long_name_leaves_room_for_what_to_do() {
    let store = HeldStore::default();
    let server = server(&store);
    let mut peer: Peer<_> = pipe(&server);
    store.set_problem(Some(&format!("/{}/{FULL}", "long/".repeat(100))));
    assert_store_refusal(&peer.call_json(r#"{"id":"one","method":"inc"}"#).await);
}
