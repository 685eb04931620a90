//! A delayed duplicate is not executed, however late it arrives: after the caller has acknowledged
//! the call, after the session's lease, after a restart.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_client::{Client, Config as ClientConfig, Connector};
use redial_examples::{
    counters::Counters,
    methods::{GetParams, Inc, IncParams},
};
use redial_protocol::FrameDecoder;
use redial_server::{Config, Server};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const LEASE: Duration = Duration::from_secs(60);
const PIPE_BYTES: usize = 64 * 1024;

/// A server that can be restarted, with counters that survive it, as if kept in a database; and a
/// middlebox that keeps a copy of every request.
#[derive(Clone)]
struct RestartableServer {
    counters: Counters,
    server: Arc<Mutex<Server>>,
    copies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RestartableServer {
    fn new() -> Self {
        let counters = Counters::default();
        Self {
            server: Arc::new(Mutex::new(server(&counters))),
            counters,
            copies: Arc::default(),
        }
    }

    fn server(&self) -> Server {
        self.server.lock().unwrap().clone()
    }

    fn restart(&self) {
        *self.server.lock().unwrap() = server(&self.counters);
    }

    fn value(&self) -> i64 {
        self.counters.get(GetParams { key: "k".into() }).value
    }

    /// A connection to the server as it is now.
    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(PIPE_BYTES);
        let server = self.server();
        tokio::spawn(async move { server.serve_connection(far).await });
        near
    }

    /// A connection through the middlebox.
    fn connect_through(&self) -> DuplexStream {
        let (near, far) = duplex(PIPE_BYTES);
        let (mut from_client, mut to_client) = tokio::io::split(far);
        let (mut from_server, mut to_server) = tokio::io::split(self.connect());
        let copies = Arc::clone(&self.copies);
        tokio::spawn(async move {
            let (mut decoder, mut buffer) = (FrameDecoder::new(PIPE_BYTES), vec![0; PIPE_BYTES]);
            while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                let mut input = &buffer[..count];
                while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
                    copies.lock().unwrap().push(frame.to_vec());
                }
                if to_server.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
            let _ = to_server.shutdown().await;
        });
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        near
    }

    fn connector(&self) -> impl Connector<Io = DuplexStream> + use<> {
        let world = self.clone();
        move || std::future::ready(Ok(world.connect_through()))
    }

    /// The copy of the only `inc` that was sent.
    fn delayed_copy(&self) -> Vec<u8> {
        let copies = self.copies.lock().unwrap();
        let is_inc = |copy: &&Vec<u8>| method(copy) == "inc";
        let incs: Vec<_> = copies.iter().filter(is_inc).collect();
        assert_eq!(incs.len(), 1, "one call, sent once");
        incs[0].clone()
    }

    /// Whether a request of this method was sent.
    fn has_sent(&self, name: &str) -> bool {
        let copies = self.copies.lock().unwrap();
        copies.iter().any(|copy| method(copy) == name)
    }

    /// Sends the copy on its own connection, and returns the code of the reply.
    async fn release(&self, copy: &[u8]) -> i64 {
        let mut connection = self.connect();
        let mut frame = u32::try_from(copy.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(copy);
        connection.write_all(&frame).await.unwrap();
        let mut header = [0; 4];
        connection.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        connection.read_exact(&mut body).await.unwrap();
        let reply: Value = serde_json::from_slice(&body).unwrap();
        reply["error"]["code"]
            .as_i64()
            .unwrap_or_else(|| panic!("no error: {reply}"))
    }
}

fn server(counters: &Counters) -> Server {
    let config = Config {
        session_lease: LEASE,
        // Only the session's end may close the connection.
        idle_timeout: LEASE * 100,
        ..Config::default()
    };
    let builder = counters.register(Server::builder()).config(config);
    builder.build().unwrap()
}

fn method(copy: &[u8]) -> String {
    let request: Value = serde_json::from_slice(copy).unwrap();
    request["method"].as_str().unwrap_or_default().to_owned()
}

fn one() -> IncParams {
    IncParams {
        key: "k".into(),
        delta: 1,
    }
}

async fn client(world: &RestartableServer) -> Client {
    let builder = Client::builder();
    builder.connect_with(world.connector()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn after_the_caller_has_acknowledged_it() {
    let world = RestartableServer::new();
    let client = client(&world).await;
    assert_eq!(client.call::<Inc>(one()).await.unwrap().value, 1);
    let copy = world.delayed_copy();
    // No request follows, so the acknowledgement is a request of its own.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.has_sent("rpc.ack"));
    assert_eq!(world.release(&copy).await, -32007);
    assert_eq!(world.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_lease_of_its_session() {
    let world = RestartableServer::new();
    let client = client(&world).await;
    assert_eq!(client.call::<Inc>(one()).await.unwrap().value, 1);
    let copy = world.delayed_copy();
    drop(client);
    tokio::time::sleep(LEASE + Duration::from_secs(5)).await;
    assert_eq!(world.server().stats().sessions, 0);
    assert_eq!(world.release(&copy).await, -32004);
    assert_eq!(world.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_server() {
    let world = RestartableServer::new();
    let client = client(&world).await;
    assert_eq!(client.call::<Inc>(one()).await.unwrap().value, 1);
    let copy = world.delayed_copy();
    world.restart();
    assert_eq!(world.release(&copy).await, -32004);
    assert_eq!(world.value(), 1);
}

/// The comparison: with a plain id the same copy is executed.
#[tokio::test(start_paused = true)]
async fn with_a_plain_id_it_is_executed_after_the_ttl_and_after_a_restart() {
    let world = RestartableServer::new();
    let plain = Client::builder().config(ClientConfig {
        extensions: false,
        ..ClientConfig::default()
    });
    let client = plain.connect_with(world.connector()).await.unwrap();
    assert_eq!(client.call::<Inc>(one()).await.unwrap().value, 1);
    let copy = world.delayed_copy();
    let mut connection = world.connect();
    let mut frame = u32::try_from(copy.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&copy);
    tokio::time::sleep(Config::default().ttl + Duration::from_secs(1)).await;
    connection.write_all(&frame).await.unwrap();
    connection.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(world.value(), 2);
    world.restart();
    let mut connection = world.connect();
    connection.write_all(&frame).await.unwrap();
    connection.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(world.value(), 3);
}
