//! A peer that writes and reads raw frames, and the service that the tests call.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

pub mod held_store;
pub mod runs;
pub mod session;
pub mod shared_table;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_server::{
    Abort, Config, Context, Extensions, Principal, Server, ServerBuilder, Verified, Verifier,
    VerifyError,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};

/// Long enough for anything on loopback, short enough to fail a run that hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a connection, frame by frame.
pub struct Peer<S> {
    pub io: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub async fn send(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        self.io.write_all(&frame).await.unwrap();
    }

    /// The next frame, or `None` if the server closed the connection.
    pub async fn receive(&mut self) -> Option<String> {
        let read = async {
            let mut header = [0; 4];
            self.io.read_exact(&mut header).await.ok()?;
            let mut body = vec![0; u32::from_be_bytes(header) as usize];
            self.io.read_exact(&mut body).await.ok()?;
            Some(String::from_utf8(body).unwrap())
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("neither a reply nor an end")
    }

    pub async fn call(&mut self, body: impl AsRef<[u8]>) -> String {
        self.send(body).await;
        self.receive()
            .await
            .expect("the connection was closed instead of an answer")
    }

    pub async fn call_json(&mut self, body: impl AsRef<[u8]>) -> Value {
        serde_json::from_str(&self.call(body).await).unwrap()
    }

    pub async fn receive_json(&mut self) -> Value {
        let frame = self.receive().await;
        serde_json::from_str(&frame.expect("the connection was closed")).unwrap()
    }

    /// The next frames, which may come in any order.
    pub async fn receive_all<const N: usize>(&mut self) -> [Value; N] {
        let mut replies = [const { Value::Null }; N];
        for reply in &mut replies {
            *reply = self.receive_json().await;
        }
        replies
    }

    /// Expects the server to close the connection without another frame.
    pub async fn expect_end(&mut self) {
        assert_eq!(self.receive().await, None);
    }
}

/// The service: counters, and handlers that do everything that a handler can do.
#[derive(Clone, Default)]
pub struct Service {
    pub counters: Arc<Mutex<BTreeMap<String, i64>>>,
    /// How often a handler with an effect has run.
    pub effects: Arc<AtomicU64>,
}

impl Service {
    pub fn effects(&self) -> u64 {
        self.effects.load(SeqCst)
    }

    fn add(&self, key: &str, delta: i64) -> i64 {
        self.effects.fetch_add(1, SeqCst);
        let mut counters = self.counters.lock().unwrap();
        let value = counters.entry(key.to_owned()).or_default();
        *value += delta;
        *value
    }

    pub fn builder(&self) -> ServerBuilder {
        let (inc, slow, get) = (self.clone(), self.clone(), self.clone());
        let (panicking, failing, without_effect) = (self.clone(), self.clone(), self.clone());
        Server::builder()
            .mutation("inc", move |params: Value, _: Context| {
                let value = inc.add(params["key"].as_str().unwrap_or("k"), 1);
                async move { Ok(json!({ "value": value })) }
            })
            .mutation("slow_inc", move |params: Value, _: Context| {
                let service = slow.clone();
                async move {
                    let ms = params["ms"].as_u64().unwrap_or(100);
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok(json!({ "value": service.add("k", 1) }))
                }
            })
            .mutation("panic", move |params: Value, _: Context| {
                let service = panicking.clone();
                async move {
                    service.add("panic", 1);
                    if let Some(ms) = params["ms"].as_u64() {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                    }
                    if service.effects() > 0 {
                        panic!("as it was asked to")
                    } else {
                        Ok(())
                    }
                }
            })
            .mutation("fail", move |_: Value, _: Context| {
                let service = failing.clone();
                async move { Err::<(), _>(Abort::failed(format!("no {}", service.add("f", 1)))) }
            })
            .mutation("no_effect", move |_: Value, _: Context| {
                let tried = without_effect.add("n", 1);
                async move { Err::<(), _>(Abort::no_effect(format!("try {tried}"))) }
            })
            .query("get", move |_: Value, _: Context| {
                let value = get.counters.lock().unwrap().get("k").copied().unwrap_or(0);
                async move { Ok(value) }
            })
            .query("context", async |_: Value, context: Context| {
                Ok(json!({
                    "attempt": context.attempt(),
                    "has_deadline": context.deadline().is_some(),
                    "traceparent": context.traceparent(),
                }))
            })
            .query("big", async |(bytes,): (usize,), _: Context| {
                Ok("x".repeat(bytes))
            })
    }

    pub fn server(&self, config: Config) -> Server {
        self.builder().config(config).build().unwrap()
    }
}

/// Every token is the name of a principal.
pub struct Names;

impl Verifier for Names {
    async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        let principal = Principal::new(token).map_err(|_| VerifyError::Rejected)?;
        Ok(Verified {
            principal,
            expires: None,
        })
    }
}

/// A connection to the server through a pipe in memory.
pub fn pipe(server: &Server) -> Peer<DuplexStream> {
    pipe_of(server, 1024 * 1024)
}

pub fn pipe_of(server: &Server, bytes: usize) -> Peer<DuplexStream> {
    let (io, transport) = tokio::io::duplex(bytes);
    let server = server.clone();
    tokio::spawn(async move { server.serve_connection(transport).await });
    Peer { io }
}

/// A connection of a peer with an address, through a pipe in memory.
pub fn pipe_from(server: &Server, peer: &str) -> Peer<DuplexStream> {
    let (io, transport) = tokio::io::duplex(1024 * 1024);
    let (server, peer) = (server.clone(), format!("{peer}:1").parse().unwrap());
    tokio::spawn(async move { server.serve_connection_from(transport, peer).await });
    Peer { io }
}

/// A connection of which more is known, through a pipe in memory.
pub fn pipe_with(server: &Server, extensions: Extensions) -> Peer<DuplexStream> {
    let (io, transport) = tokio::io::duplex(1024 * 1024);
    let server = server.clone();
    tokio::spawn(async move { server.serve_connection_with(transport, extensions).await });
    Peer { io }
}

/// Serves on loopback; the address is for [`connect`].
pub async fn listen(server: &Server) -> SocketAddr {
    let listener = server.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.clone();
    tokio::spawn(async move { server.serve(listener).await.unwrap() });
    address
}

pub async fn connect(address: SocketAddr) -> Peer<TcpStream> {
    Peer {
        io: TcpStream::connect(address).await.unwrap(),
    }
}

/// Yields until `condition` holds. Counts turns, not time, which may be paused.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("not reached: {what}");
}

/// Looks until `condition` holds, by the clock: for what real time brings about.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let look = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, look).await;
    reached.unwrap_or_else(|_| panic!("not reached: {what}"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures what the clock it set says"
)]
pub fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

pub fn uuid(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

pub fn code(reply: &Value) -> i64 {
    reply["error"]["code"]
        .as_i64()
        .unwrap_or_else(|| panic!("no error: {reply}"))
}

pub fn executed(reply: &Value) -> &str {
    reply["error"]["data"]["executed"]
        .as_str()
        .unwrap_or_else(|| panic!("no word: {reply}"))
}

/// Resident memory of this process, in KiB.
pub fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
