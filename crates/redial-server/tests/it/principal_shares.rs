//! One principal takes everything that it may, from as many addresses as it likes: others get what they
//! need all the same, from the same address, too.

use std::{net::SocketAddr, time::Duration};

use redial_server::{Config, Extensions, Principal, Server, Stats};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::common::{
    Names, Peer, Service, code, executed, pipe_from, pipe_with,
    session::{HELLO, open, request_with},
};

fn config() -> Config {
    Config {
        max_connections: 24,
        max_sessions: 64,
        max_running: 16,
        max_queued: 32,
        max_records: 2_000,
        max_record_bytes: 24 << 20,
        max_all_session_bytes: 24 << 20,
        ..Config::default()
    }
}

/// A connection of a principal, from an address of its own or not, by its transport or by a token.
async fn connect(server: &Server, name: &str, address: u8, by_token: bool) -> Peer<DuplexStream> {
    let address = format!("192.0.2.{address}");
    if by_token {
        let mut peer = pipe_from(server, &address);
        let params = json!({ "token": name });
        let auth = json!({"id": "a", "method": "rpc.auth", "params": params});
        peer.send(auth.to_string()).await;
        let reply = peer.receive().await.unwrap_or_default();
        assert!(reply.contains(name) || reply.contains("-32001"), "{reply}");
        return peer;
    }
    let mut extensions = Extensions::new();
    extensions.insert(Principal::new(name).unwrap());
    let address: SocketAddr = format!("{address}:1").parse().unwrap();
    extensions.insert(address);
    pipe_with(server, extensions)
}

async fn reply(peer: &mut Peer<DuplexStream>) -> Option<Value> {
    let frame = peer.receive().await?;
    Some(serde_json::from_str(&frame).unwrap())
}

/// What the hog holds on to.
struct Hog {
    connections: Vec<Peer<DuplexStream>>,
}

impl Hog {
    /// Takes connections and sessions, records and bytes, permits and queue slots.
    async fn take_all(server: &Server, by_token: bool) -> Self {
        let mut connections = Vec::new();
        for address in 1..=30 {
            let mut peer = connect(server, "hog", address, by_token).await;
            for _ in 0..16 {
                peer.send(HELLO).await;
                let Some(hello) = reply(&mut peer).await else {
                    break;
                };
                if hello["result"].is_null() {
                    break;
                }
                let session = hello["result"]["session"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                let params = (json!([200_000 + address as usize]), json!({"attempt": 1}));
                peer.send(request_with("keep", session, 0, params)).await;
                reply(&mut peer).await;
            }
            connections.push(peer);
        }
        let mut hog = Self { connections };
        hog.fill_the_table().await;
        hog.fill_the_queue().await;
        hog
    }

    async fn fill_the_table(&mut self) {
        for number in 0..3_000 {
            let at = number % self.connections.len();
            let params = json!([if number < 30 { 1_000_000 } else { 10 }]);
            let keep = json!({"id": format!("r{number}"), "method": "keep", "params": params});
            let _ = self.connections[at].io.send_or_end(&keep.to_string()).await;
            reply(&mut self.connections[at]).await;
        }
    }

    async fn fill_the_queue(&mut self) {
        for number in 0..200 {
            let at = number % self.connections.len();
            let hang = json!({"jsonrpc": "2.0", "id": number, "method": "hang"});
            let _ = self.connections[at].io.send_or_end(&hang.to_string()).await;
        }
        tokio::task::yield_now().await;
    }
}

trait SendOrEnd {
    /// A connection may have been closed to make room.
    async fn send_or_end(&mut self, body: &str) -> std::io::Result<()>;
}

impl SendOrEnd for DuplexStream {
    async fn send_or_end(&mut self, body: &str) -> std::io::Result<()> {
        use tokio::io::AsyncWriteExt;
        self.write_u32(u32::try_from(body.len()).unwrap()).await?;
        self.write_all(body.as_bytes()).await
    }
}

fn server(by_token: bool) -> Server {
    let builder = Service::default()
        .builder()
        .config(config())
        .mutation("keep", async |(bytes,): (usize,)| Ok("x".repeat(bytes)))
        .query("hang", async |(): ()| {
            std::future::pending::<()>().await;
            Ok(())
        });
    let builder = if by_token {
        builder.authenticate(Names)
    } else {
        builder
    };
    builder.build().unwrap()
}

/// How much is taken, in per cent of the limits.
fn taken(stats: &Stats) -> [usize; 6] {
    let config = config();
    [
        100 * stats.connections / config.max_connections,
        100 * stats.sessions / config.max_sessions,
        100 * stats.running / config.max_running,
        100 * stats.queued / config.max_queued,
        100 * stats.records / config.max_records,
        100 * stats.record_bytes / config.max_record_bytes,
    ]
}

#[tokio::test(start_paused = true)]
async fn a_principal_that_takes_all_it_may_leaves_another_what_it_needs() {
    for by_token in [false, true] {
        let server = server(by_token);
        let hog = Hog::take_all(&server, by_token).await;
        let full = taken(&server.stats());
        assert!(full[0] > 90 && full[1] > 80 && full[2] > 70, "{full:?}");
        assert!(full[3] > 90 && full[5] > 60, "{full:?}");
        // Three more, from the hog's own addresses.
        for name in ["one", "two", "three"] {
            let mut peer = connect(&server, name, 1, by_token).await;
            let session = open(&mut peer).await;
            for number in 0..20 {
                let params = (json!([10_000]), json!({"attempt": 1, "ack": number}));
                let call = request_with("keep", session, number, params);
                let kept = peer.call_json(call).await;
                assert!(kept["result"].is_string(), "{name} {number}: {kept}");
                let plain = json!({"id": number, "method": "keep", "params": [1_000]});
                let kept = peer.call_json(plain.to_string()).await;
                assert!(kept["result"].is_string(), "{name} {number}: {kept}");
                assert_eq!(
                    peer.call_json(r#"{"id":"g","method":"get"}"#).await["result"],
                    0
                );
            }
        }
        drop(hog);
    }
}

/// A principal that has its share hears that, and of the records of others it has none.
#[tokio::test(start_paused = true)]
async fn the_records_of_a_principal_have_a_share_that_comes_back() {
    let server = server(false);
    let keep = |number: usize| {
        let id = format!("r{number}");
        json!({"id": id, "method": "keep", "params": [10]}).to_string()
    };
    let mut hog = connect(&server, "hog", 1, false).await;
    let mut count = 0;
    let refused = loop {
        let reply = hog.call_json(keep(count)).await;
        if !reply["error"].is_null() {
            break reply;
        }
        count += 1;
    };
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    let detail = refused["error"]["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("has its share of the table"), "{detail}");
    assert!((1_800..2_000).contains(&count), "{count}");
    let mut other = connect(&server, "other", 1, false).await;
    assert!(other.call(keep(0)).await.contains("result"));
    // Released ids and refused calls leave nothing behind.
    for number in 0..300 {
        let call = json!({"id": format!("n{number}"), "method": "no_effect", "params": {}});
        let reply = other.call_json(call.to_string()).await;
        assert_eq!(code(&reply), -32000, "{reply}");
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    for number in 0..count {
        let reply = hog.call(keep(number + 10_000)).await;
        assert!(reply.contains("result"), "{number}: {reply}");
    }
}
