//! Who calls: a handler knows the principal of its call's connection and what the program knows of it,
//! and never those of another connection.

use redial_server::{Context, Extensions, Principal, Server};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::common::{Peer, pipe, pipe_with};

struct Region(&'static str);

fn known(context: &Context) -> Value {
    json!({
        "principal": context.principal().map(Principal::as_str),
        "region": context.extension::<Region>().map(|region| region.0),
        "peer": context.peer().map(|peer| peer.to_string()),
    })
}

fn server() -> Server {
    Server::builder()
        .query("now", async |(): (), context: Context| Ok(known(&context)))
        .mutation("later", async |(): (), context: Context| {
            tokio::task::yield_now().await;
            Ok(known(&context))
        })
        .build()
        .unwrap()
}

async fn seen(peer: &mut Peer<DuplexStream>) -> Value {
    let now = peer.call_json(r#"{"id":"1","method":"now"}"#).await;
    let later = peer.call_json(r#"{"id":"2","method":"later"}"#).await;
    assert_eq!(now["result"], later["result"]);
    now["result"].clone()
}

fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

/// What is known of one connection, seen by the calls of another.
#[tokio::test]
async fn each_connection_has_its_own_principal_and_extensions() {
    let server = server();
    let mut extensions = Extensions::new();
    extensions.insert(principal("cert:one"));
    extensions.insert(Region("north"));
    let address: std::net::SocketAddr = "[::ffff:192.0.2.1]:7".parse().unwrap();
    extensions.insert(address);
    let mut one = pipe_with(&server, extensions);
    let mut extensions = Extensions::new();
    extensions.insert(principal("cert:two"));
    let mut two = pipe_with(&server, extensions);
    let mut without = pipe(&server);
    for _ in 0..2 {
        assert_eq!(
            seen(&mut one).await,
            json!({"principal": "cert:one", "region": "north", "peer": "192.0.2.1:7"})
        );
        assert_eq!(
            seen(&mut two).await,
            json!({"principal": "cert:two", "region": null, "peer": null})
        );
        assert_eq!(
            seen(&mut without).await,
            json!({"principal": null, "region": null, "peer": null})
        );
    }
}
