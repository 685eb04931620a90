//! Servers that can be killed, and fall silent, each on a thread of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use redial_examples::{counters::Counters, methods::GetParams};
use redial_server::{CutPoint, Fault, FaultRule, Faults, Server};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

/// Of how many calls the connection is cut: in a third each before the execution, before the reply, and in it.
const CUT: f64 = 0.02;

/// Whether a server cuts connections.
#[derive(Clone, Copy)]
pub(crate) enum Cuts {
    None,
    Seed(u64),
}

/// A server, and what stands before it.
pub(crate) struct CutOffServer {
    pub(crate) address: SocketAddr,
    server: Server,
    counters: Counters,
    is_silent: Arc<AtomicBool>,
    runtime: Option<Runtime>,
}

impl CutOffServer {
    pub(crate) async fn start(cuts: Cuts) -> anyhow::Result<Self> {
        let counters = Counters::default();
        let mut builder = counters.register(Server::builder());
        if let Cuts::Seed(seed) = cuts {
            let faults = Faults::new(seed);
            let points = [
                CutPoint::BeforeExecution,
                CutPoint::BeforeReply,
                CutPoint::MidReply,
            ];
            let rules = points.map(|point| FaultRule::new(Fault::Cut(point), CUT / 3.0));
            faults.set(rules.into_iter().collect::<Result<Vec<_>, _>>()?);
            builder = builder.faults(faults);
        }
        let server = builder.build()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let is_silent = Arc::new(AtomicBool::new(false));
        let (serving, silent) = (server.clone(), is_silent.clone());
        let started = runtime.spawn(async move {
            let own = serving.bind("127.0.0.1:0").await?;
            let behind = own.local_addr()?;
            tokio::spawn(async move { serving.serve(own).await });
            let front = TcpListener::bind("127.0.0.1:0").await?;
            let address = front.local_addr()?;
            tokio::spawn(forward(front, behind, silent));
            anyhow::Ok(address)
        });
        Ok(Self {
            address: started.await??,
            server,
            counters,
            is_silent,
            runtime: Some(runtime),
        })
    }

    /// Its connections end, and others are refused.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// What is sent to it is swallowed from now on, on new connections too.
    pub(crate) fn fall_silent(&self) {
        self.is_silent.store(true, Relaxed);
    }

    /// How many calls it has executed.
    pub(crate) fn calls(&self) -> u64 {
        self.server.stats().started
    }

    pub(crate) fn value(&self, key: &str) -> i64 {
        self.counters.get(GetParams { key: key.into() }).value
    }
}

impl Drop for CutOffServer {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn forward(front: TcpListener, behind: SocketAddr, is_silent: Arc<AtomicBool>) {
    while let Ok((client, _)) = front.accept().await {
        let is_silent = is_silent.clone();
        tokio::spawn(async move {
            let server = TcpStream::connect(behind).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::try_join!(
                pass_on(from_client, to_server, &is_silent),
                pass_on(from_server, to_client, &is_silent),
            )
        });
    }
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_silent: &AtomicBool,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        if !is_silent.load(Relaxed) {
            to.write_all(&bytes[..count]).await?;
        }
    }
}

/// One address that leads to each server in turn.
pub(crate) async fn balancer(servers: &[CutOffServer]) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let behind: Vec<_> = servers.iter().map(|server| server.address).collect();
    tokio::spawn(async move {
        for behind in behind.into_iter().cycle() {
            let (mut client, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut server = TcpStream::connect(behind).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
        std::io::Result::Ok(())
    });
    Ok(address)
}
