//! The other end of a client, scripted by the test: it sees each request and replies as it likes.

#![allow(dead_code, reason = "each test file uses its own part of it")]

pub(crate) mod fleet;
pub(crate) mod session;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redial_client::{
    Backoff, CallError, CallLimits, Client, ClientBuilder, Config, Connector, Jitter, Reply,
};
use redial_protocol::{
    Dialect, FrameDecoder, Incoming, Limits, RequestMeta, encode_result, write_frame, write_reply,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

const MAX: usize = 1 << 20;

/// More requests than any test has on one connection: a client that asks for ever, and each time is
/// answered, would keep its test going.
const MAX_REQUESTS: u32 = 20_000;

/// Where the client's connections arrive.
pub(crate) struct Network {
    connections: mpsc::UnboundedReceiver<DuplexStream>,
    refuses: Arc<AtomicBool>,
    stalls: Arc<AtomicBool>,
}

/// One connection, from the server's side.
pub(crate) struct Peer {
    io: DuplexStream,
    decoder: FrameDecoder,
    input: Vec<u8>,
    position: usize,
    requests: u32,
    /// Pings are left to the test. Otherwise they are answered, and not shown to it.
    pub(crate) shows_pings: bool,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct SentRequest {
    /// As JSON.
    pub(crate) id: String,
    pub(crate) dialect: Dialect,
    pub(crate) is_notification: bool,
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) meta: RequestMeta<'static>,
    /// The whole message.
    pub(crate) text: String,
    pub(crate) at: Instant,
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A network, and a connector into it, with pipes that hold `capacity` bytes.
pub(crate) fn network(capacity: usize) -> (Network, impl Connector<Io = DuplexStream> + Clone) {
    let (sender, connections) = mpsc::unbounded_channel();
    let refuses = Arc::new(AtomicBool::new(false));
    let stalls = Arc::new(AtomicBool::new(false));
    let (refusing, stalling) = (refuses.clone(), stalls.clone());
    let connector = move || {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let refused = refusing.load(Ordering::SeqCst) || sender.send(theirs).is_err();
        let error = || io::Error::new(io::ErrorKind::ConnectionRefused, "refused by the test");
        let made = if refused { Err(error()) } else { Ok(ours) };
        let is_stalled = stalling.load(Ordering::SeqCst);
        async move {
            if is_stalled {
                std::future::pending::<()>().await;
            }
            made
        }
    };
    let network = Network {
        connections,
        refuses,
        stalls,
    };
    (network, connector)
}

/// Limits without jitter: 100 ms per attempt, 5 attempts, 30 ms between them, doubled, 3 s in all.
pub(crate) fn limits() -> CallLimits {
    CallLimits {
        attempt_timeout: ms(100),
        max_attempts: 5,
        deadline: ms(3000),
        backoff: Backoff::new(ms(30), 2.0, ms(1000), Jitter::None).unwrap(),
        ..CallLimits::default()
    }
}

pub(crate) fn builder() -> ClientBuilder {
    Client::builder().config(config())
}

/// Reconnects without jitter, and without a session: one hello fewer to answer.
pub(crate) fn config() -> Config {
    Config {
        call: limits(),
        sessions: false,
        reconnect: Backoff::new(ms(50), 2.0, ms(2000), Jitter::None).unwrap(),
        ..Config::default()
    }
}

/// A builder of clients that ask for a session.
pub(crate) fn with_sessions() -> ClientBuilder {
    Client::builder().config(session_config())
}

/// The same, to be changed further.
pub(crate) fn session_config() -> Config {
    Config {
        sessions: true,
        ..config()
    }
}

/// A builder of clients without sessions, with one change to their configuration.
pub(crate) fn builder_with(change: impl FnOnce(&mut Config)) -> ClientBuilder {
    let mut config = config();
    change(&mut config);
    Client::builder().config(config)
}

/// The same, of clients that ask for a session.
pub(crate) fn with_sessions_and(change: impl FnOnce(&mut Config)) -> ClientBuilder {
    builder_with(|config| {
        config.sessions = true;
        change(config);
    })
}

/// A client, not connected yet, and the network it will connect to.
pub(crate) fn lazy(builder: ClientBuilder) -> (Client, Network) {
    let (network, connector) = network(1 << 16);
    (builder.connect_lazy_with(connector).unwrap(), network)
}

/// A connected client and its server.
pub(crate) async fn connected(builder: ClientBuilder) -> (Client, Peer, Network) {
    let (mut network, connector) = network(1 << 16);
    let client = builder.connect_with(connector).await.unwrap();
    let peer = network.accept().await;
    (client, peer, network)
}

/// The same, where no other connection can be had than the one that there is.
pub(crate) async fn connected_once(builder: ClientBuilder) -> (Client, Peer, Network) {
    let (client, peer, network) = connected(builder).await;
    network.refuse(true);
    (client, peer, network)
}

/// A test that waits for what never comes fails: the client's pings would keep virtual time going.
async fn patiently<T>(waiting: impl Future<Output = T>) -> T {
    const PATIENCE: Duration = Duration::from_secs(600);
    let outcome = tokio::time::timeout(PATIENCE, waiting).await;
    outcome.expect("nothing has come for ten minutes")
}

pub(crate) type Running = JoinHandle<Result<Reply<Value>, CallError>>;

/// Starts `inc` with the client's limits.
pub(crate) fn inc(client: &Client) -> Running {
    start(client.request("inc", json!({"key": "k"})))
}

pub(crate) fn start(call: redial_client::Call<Value>) -> Running {
    tokio::spawn(patiently(call.with_report()))
}

pub(crate) fn ends(report: &redial_client::Report) -> Vec<&'static str> {
    report.history().map(|attempt| attempt.end.name()).collect()
}

impl Network {
    pub(crate) async fn accept(&mut self) -> Peer {
        let peer = patiently(self.accept_unhurried()).await;
        peer.expect("the client is there")
    }

    /// The next connection, however long it takes; none if the client is gone.
    pub(crate) async fn accept_unhurried(&mut self) -> Option<Peer> {
        let io = self.connections.recv().await?;
        Some(Peer {
            io,
            decoder: FrameDecoder::new(MAX),
            input: Vec::new(),
            position: 0,
            requests: 0,
            shows_pings: false,
        })
    }

    pub(crate) fn refuse(&self, refuse: bool) {
        self.refuses.store(refuse, Ordering::SeqCst);
    }

    /// New connections are neither made nor refused.
    pub(crate) fn stall(&self) {
        self.stalls.store(true, Ordering::SeqCst);
    }

    /// Whether every connection that arrived was accepted.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.connections.try_recv().is_err()
    }
}

impl Peer {
    /// The next request, or `None` if the client closed the connection.
    pub(crate) async fn request(&mut self) -> Option<SentRequest> {
        patiently(self.unhurried_request()).await
    }

    pub(crate) async fn unhurried_request(&mut self) -> Option<SentRequest> {
        loop {
            let found = self.read_frame(seen).await;
            self.requests += 1;
            assert!(self.requests < MAX_REQUESTS, "without end: {found:?}");
            match found {
                Some(ping) if ping.method == "rpc.ping" && !self.shows_pings => {
                    self.result(&ping, json!("pong")).await;
                }
                found => return found,
            }
        }
    }

    /// The next frame, whatever it holds.
    pub(crate) async fn text(&mut self) -> String {
        let text = |frame: &[u8]| String::from_utf8(frame.to_vec()).unwrap();
        self.read_frame(text).await.expect("a frame")
    }

    async fn read_frame<T>(&mut self, read: impl Fn(&[u8]) -> T) -> Option<T> {
        loop {
            let mut rest = &self.input[self.position..];
            let before = rest.len();
            let found = self.decoder.next_frame(&mut rest).unwrap().map(&read);
            self.position += before - rest.len();
            if found.is_some() {
                return found;
            }
            self.input.clear();
            self.position = 0;
            if self.io.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> SentRequest {
        self.request().await.expect("a request")
    }

    pub(crate) async fn result(&mut self, request: &SentRequest, value: Value) {
        let mut outcome = Vec::new();
        encode_result(&mut outcome, &value).unwrap();
        self.outcome(request, &outcome).await;
    }

    pub(crate) async fn error(&mut self, request: &SentRequest, code: i32, data: Value) {
        let error = json!({"code": code, "message": "from the test", "data": data});
        let outcome = format!(r#""error":{error}"#);
        self.outcome(request, outcome.as_bytes()).await;
    }

    async fn outcome(&mut self, request: &SentRequest, outcome: &[u8]) {
        let mut body = Vec::new();
        let meta = redial_protocol::ReplyMeta::default();
        write_reply(&mut body, request.dialect, &request.id, outcome, meta);
        self.frame(&body).await;
    }

    /// Sends one frame with any body.
    pub(crate) async fn frame(&mut self, body: &[u8]) {
        let mut out = Vec::new();
        write_frame(&mut out, MAX, |out| out.extend_from_slice(body)).unwrap();
        self.raw(&out).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// Whether no request arrives for that long.
    pub(crate) async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.request()).await.is_err()
    }
}

fn seen(frame: &[u8]) -> SentRequest {
    let text = String::from_utf8(frame.to_vec()).unwrap();
    let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
        panic!("not a request: {text}");
    };
    let traceparent = request
        .meta
        .traceparent
        .map(|text| text.into_owned().into());
    #[expect(clippy::disallowed_methods, reason = "the test's own clock is tokio's")]
    let at = Instant::now();
    SentRequest {
        id: request.id.map_or(String::new(), |id| id.raw().to_owned()),
        dialect: request.dialect,
        is_notification: request.id.is_none(),
        method: request.method.into_owned(),
        params: request
            .params
            .map_or(Value::Null, |raw| serde_json::from_str(raw).unwrap()),
        meta: RequestMeta {
            traceparent,
            meta: None,
            ..request.meta
        },
        text,
        at,
    }
}
