//! A real server and real clients in one process, and a relay between them that keeps every request
//! and can break connections.

#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_client::{Backoff, Client, Config as ClientConfig, Connector, Jitter, RetryBudget};
use redial_protocol::FrameDecoder;
use redial_server::{Abort, Config, Server};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::watch,
};

const PIPE_BYTES: usize = 64 * 1024;

/// More connections than any test needs, so that none runs for ever.
const MAX_CONNECTIONS: u64 = 500;

/// A server whose `inc` counts, whose `slow` counts and takes long, and whose `fail` counts and
/// fails with the code and the data of its params, or with one of Redial's own codes.
pub(crate) struct World {
    pub(crate) server: Server,
    effects: Arc<AtomicU64>,
    requests: Arc<Mutex<Vec<String>>>,
    cuts: watch::Sender<u64>,
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A client that gives up late.
pub(crate) fn patient() -> ClientConfig {
    let mut config = ClientConfig::default();
    config.call.attempt_timeout = ms(1000);
    config.call.deadline = seconds(100);
    config.call.max_attempts = 1000;
    config.call.backoff = Backoff::new(ms(10), 1.0, ms(100), Jitter::None).unwrap();
    config.retry_budget = RetryBudget::unlimited();
    config
}

impl World {
    pub(crate) fn new(config: Config, slow_for: Duration) -> Self {
        let effects = Arc::new(AtomicU64::new(0));
        let counter = |takes: Duration| {
            let effects = Arc::clone(&effects);
            move |_: Value, _| {
                let effects = Arc::clone(&effects);
                async move {
                    let value = effects.fetch_add(1, SeqCst) + 1;
                    if !takes.is_zero() {
                        tokio::time::sleep(takes).await;
                    }
                    Ok::<_, Abort>(value)
                }
            }
        };
        let failing = Arc::clone(&effects);
        let server = Server::builder()
            .config(config)
            .mutation("inc", counter(Duration::ZERO))
            .mutation("slow", counter(slow_for))
            .mutation("fail", move |params: Value, _| {
                failing.fetch_add(1, SeqCst);
                async move {
                    let code = params["code"].as_i64().unwrap_or(-32004);
                    let abort = Abort::failed("the handler's own").code(code as i32);
                    Err::<u64, _>(match params.get("data") {
                        Some(data) => abort.data(data)?,
                        None => abort,
                    })
                }
            })
            .build()
            .unwrap();
        Self {
            server,
            effects,
            requests: Arc::default(),
            cuts: watch::Sender::new(0),
        }
    }

    /// How often a handler took effect.
    pub(crate) fn effects(&self) -> u64 {
        self.effects.load(SeqCst)
    }

    /// The requests that clients have sent.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) async fn client(&self, config: ClientConfig) -> Client {
        let builder = Client::builder().config(config);
        builder.connect_with(self.connector()).await.unwrap()
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn connector(&self) -> impl Connector<Io = DuplexStream> + use<> {
        let (server, requests) = (self.server.clone(), Arc::clone(&self.requests));
        let (cuts, made) = (self.cuts.clone(), AtomicU64::new(0));
        move || {
            if made.fetch_add(1, SeqCst) >= MAX_CONNECTIONS {
                let too_many = io::Error::other("more connections than a test needs");
                return std::future::ready(Err(too_many));
            }
            let (near, client) = duplex(PIPE_BYTES);
            let (to_server, far) = duplex(PIPE_BYTES);
            let server = server.clone();
            tokio::spawn(async move { server.serve_connection(far).await });
            let (relay, mut cut) = (relay(client, to_server, requests.clone()), cuts.subscribe());
            tokio::spawn(async move {
                tokio::select! {
                    _ = cut.changed() => {}
                    _ = relay => {}
                }
            });
            std::future::ready(Ok(near))
        }
    }
}

/// Relays bytes in both directions until one side closes, and keeps the requests.
async fn relay(
    mut client: DuplexStream,
    mut server: DuplexStream,
    requests: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    let (mut up, mut down) = (vec![0; PIPE_BYTES], vec![0; PIPE_BYTES]);
    let mut decoder = FrameDecoder::new(PIPE_BYTES);
    loop {
        tokio::select! {
            count = client.read(&mut up) => {
                let count @ 1.. = count? else { return Ok(()) };
                let mut input = &up[..count];
                while let Ok(Some(frame)) = decoder.next_frame(&mut input) {
                    let request = String::from_utf8_lossy(frame).into_owned();
                    requests.lock().unwrap().push(request);
                }
                server.write_all(&up[..count]).await?;
            }
            count = server.read(&mut down) => {
                let count @ 1.. = count? else { return Ok(()) };
                client.write_all(&down[..count]).await?;
            }
        }
    }
}
