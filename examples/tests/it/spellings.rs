//! A client has sessions in either dialect, and without extensions it sends none of Redial's own.

use std::future::IntoFuture;

use crate::world::{World, ms, patient};
use redial_client::{Config as ClientConfig, Dialect};
use redial_server::Config;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn the_notebooks_dialect_has_sessions_too() {
    let world = World::new(Config::default(), ms(10));
    let notebook = ClientConfig {
        dialect: Dialect::Notebook,
        ..patient()
    };
    let client = world.client(notebook).await;
    for n in 1..=100u64 {
        assert_eq!(client.request("inc", json!({})).await.unwrap(), json!(n));
    }
    tokio::time::sleep(ms(200)).await;
    let stats = world.server.stats();
    assert_eq!((stats.sessions, stats.session_records), (1, 0));
    assert_eq!(client.stats().sessions_opened, 1);
    let dropped = tokio::spawn(client.request("slow", json!({})).into_future());
    tokio::time::sleep(ms(5)).await;
    assert_eq!(world.server.stats().session_records, 1);
    dropped.abort();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(world.server.stats().session_records, 0);
}

#[tokio::test(start_paused = true)]
async fn without_extensions_only_requests_are_sent() {
    let world = World::new(Config::default(), ms(10));
    let plain = ClientConfig {
        extensions: false,
        ..patient()
    };
    let client = world.client(plain).await;
    client.request("inc", json!({})).await.unwrap();
    client.close().await;
    tokio::time::sleep(ms(100)).await;
    let sent = world.requests();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(!sent[0].contains("redial"), "{sent:?}");
}
