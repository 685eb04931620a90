//! A connection that is too old: its peer goes on elsewhere, and loses nothing by that.

use std::time::Duration;

use redial_server::{Config, Server};
use serde_json::json;
use tokio::time::sleep;

use crate::common::{
    Service, now, pipe,
    session::{attach, client, inc, request_with},
    uuid,
};

const AGE: Duration = Duration::from_secs(60);

fn limited(service: &Service) -> Server {
    service.server(Config {
        max_connection_age: Some(AGE),
        ..Config::default()
    })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An old connection that is cut, with what is on it; or that never ends.
#[tokio::test(start_paused = true)]
async fn a_client_hears_that_it_is_to_go_on_elsewhere_and_what_is_open_is_answered() {
    let service = Service::default();
    let server = limited(&service);
    let began = now();
    let (mut peer, session) = client(&server).await;
    sleep(AGE - AGE / 10 - ms(100)).await;
    let slow = request_with("slow_inc", session, 0, (json!({"ms": 20_000}), json!({})));
    peer.send(slow).await;
    let goaway = json!({"jsonrpc": "2.0", "method": "rpc.goaway", "params": {"last": false}});
    assert_eq!(peer.receive_json().await, goaway);
    let age = now() - began;
    assert!((AGE - AGE / 10..AGE + AGE / 10).contains(&age), "{age:?}");
    // What is on its way is answered, and the session goes on with another connection.
    assert!(peer.call_json(inc(session, 1)).await["error"].is_null());
    let mut next = pipe(&server);
    let hello = next.call_json(attach(session)).await;
    assert_eq!(hello["result"]["session"], session.to_string());
    assert!(next.call_json(inc(session, 2)).await["error"].is_null());
    assert!(peer.receive_json().await["error"].is_null(), "the slow one");
    peer.expect_end().await;
    assert!(now() - began < AGE + AGE / 10 + ms(20_300));
    assert!(next.call_json(inc(session, 3)).await["error"].is_null());
    assert_eq!(service.effects(), 4);
}

/// A peer that makes nothing of `rpc.goaway`, or was never sent it.
#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_is_read_until_the_grace_is_over() {
    let service = Service::default();
    let server = limited(&service);
    let mut peer = pipe(&server);
    let grace = Config::default().drain_timeout;
    let (began, mut number) = (now(), 0);
    while now() - began < AGE + AGE / 10 + grace {
        number += 1;
        let request = format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number));
        peer.send(request).await;
        if peer.receive().await.is_none() {
            break;
        }
        sleep(ms(50)).await;
    }
    let age = now() - began;
    assert!(age >= AGE - AGE / 10 + grace, "{age:?}");
    assert!(age < AGE + AGE / 10 + grace, "{age:?}");
    // The last request was not read, or was answered.
    let effects = service.effects();
    assert_eq!(effects, u64::from(number) - 1);
}

/// A connection on which nothing happens.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_at_its_age_and_without_a_limit_it_does_not() {
    let service = Service::default();
    let (limited, unlimited) = (limited(&service), service.server(Config::default()));
    let [mut short, mut long] = [pipe(&limited), pipe(&unlimited)];
    short.call(r#"{"id":1,"method":"rpc.ping"}"#).await;
    long.call(r#"{"id":1,"method":"rpc.ping"}"#).await;
    sleep(AGE - AGE / 10 - ms(10)).await;
    assert_eq!(limited.stats().connections, 1);
    sleep(AGE / 5 + ms(1_500)).await;
    assert_eq!(limited.stats().connections, 0);
    short.expect_end().await;
    sleep(2 * AGE).await;
    assert_eq!(unlimited.stats().connections, 1);
    long.call(r#"{"id":2,"method":"rpc.ping"}"#).await;
}
