//! An address counts as what it means, however it is spelled: an IPv4 address mapped into IPv6 is
//! that IPv4 address.

use std::{net::SocketAddr, time::Duration};

use redial_server::{Config, Context, ServeError, Server};
use serde_json::Value;

use crate::common::connect;

fn server(insecure: bool) -> Server {
    let whoami = |_: Value, context: Context| async move {
        let peer = context.peer().expect("TCP has addresses");
        Ok(peer.ip().to_string())
    };
    let config = Config {
        insecure,
        ..Config::default()
    };
    let builder = Server::builder().config(config).query("whoami", whoami);
    builder.build().expect("a valid server")
}

/// Whether the system can listen on IPv6 at all.
async fn has_ipv6() -> bool {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await;
    if let Err(error) = &listener {
        println!("skipped: no IPv6 here: {error}");
    }
    listener.is_ok()
}

#[tokio::test]
async fn a_listener_is_loopback_if_what_it_maps_is() {
    if !has_ipv6().await {
        return;
    }
    let server = server(false);
    for address in [
        "127.0.0.1:0",
        "[::1]:0",
        "[::ffff:127.0.0.1]:0",
        "[::ffff:127.8.0.1]:0",
    ] {
        let listener = server.bind(address).await.expect(address);
        let serving = tokio::time::timeout(Duration::from_millis(20), server.serve(listener));
        serving.await.expect_err("it serves");
    }
    for address in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let listener = server.bind(address).await.expect(address);
        let refused = server.serve(listener).await.expect_err(address);
        assert!(
            matches!(refused, ServeError::NotLoopback { .. }),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_peer_is_known_by_the_address_it_has_in_its_own_family() {
    if !has_ipv6().await {
        return;
    }
    let server = server(true);
    let listener = server
        .bind("[::]:0")
        .await
        .expect("a listener for both families");
    let port = listener.local_addr().expect("it listens").port();
    tokio::spawn(async move { server.serve(listener).await });
    for (address, known_as) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
        let address = SocketAddr::new(address.parse().expect("an address"), port);
        let mut peer = connect(address).await;
        let reply = peer.call(r#"{"id":1,"method":"whoami"}"#).await;
        assert_eq!(reply, format!(r#"{{"id":1,"result":"{known_as}"}}"#));
    }
}
