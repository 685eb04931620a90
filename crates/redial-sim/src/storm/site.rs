//! A server of a storm: it is reached by pipes in memory, and can die.

mod pipe;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use redial_client::Connector;
use redial_server::{Abort, Context, Extensions, Principal, Server};
use serde::{Deserialize, Serialize};
use tokio::{
    io::duplex,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

pub(crate) use self::pipe::Pipe;
use super::{
    commit::GroupCommit,
    control,
    fleet::Fleet,
    ground::{Ground, Hosting},
    recorder::ServerNotes,
    workers::Workers,
};
use crate::clock;

/// The only method: it takes a worker, or a commit.
pub(crate) const WORK: &str = "work";

/// How many bytes lie in a pipe, each way, before its writer has to wait.
const PIPE_BYTES: usize = 64 * 1024;

/// A server. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Site(Arc<SiteShared>);

struct SiteShared {
    ground: Arc<Ground>,
    backend: Backend,
    number: u32,
    /// How it takes connections.
    gate: Option<Gate>,
    /// Whether all that is sent to it disappears.
    is_dead: Arc<AtomicBool>,
    state: Mutex<SiteState>,
}

#[derive(Default)]
struct SiteState {
    life: u32,
    server: Option<Server>,
    connections: Vec<AbortHandle>,
    /// When the gate has time for another connection.
    free_at: Option<Instant>,
}

/// What a server's handlers need to get on.
#[derive(Clone)]
pub(crate) enum Backend {
    Workers(Workers),
    Database(GroupCommit),
}

/// What it costs a server to take a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// How long one takes.
    pub(crate) each: Duration,
    /// How many wait for that; more are refused.
    pub(crate) backlog: u32,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Task {
    /// The number of the call, for the ledger.
    pub(crate) call: u32,
    /// How long it takes, instead of what others take.
    pub(crate) ms: Option<u64>,
}

/// Connects one client to one server.
pub(crate) struct Dial {
    site: Site,
    client: u32,
    principal: Option<Principal>,
}

impl Site {
    /// Starts a server.
    pub(crate) fn open(ground: &Arc<Ground>, number: u32, backend: Backend) -> Self {
        Self::behind(ground, number, backend, None)
    }

    /// The same, where connections take their time.
    pub(crate) fn behind(
        ground: &Arc<Ground>,
        number: u32,
        backend: Backend,
        gate: Option<Gate>,
    ) -> Self {
        let site = Self(Arc::new(SiteShared {
            ground: ground.clone(),
            backend,
            number,
            gate,
            is_dead: Arc::default(),
            state: Mutex::default(),
        }));
        if !matches!(ground.hosting, Hosting::Calling(_)) {
            site.start();
        }
        site
    }

    /// Starts its process, which remembers nothing.
    pub(crate) fn start(&self) {
        let mut state = self.lock();
        state.life += 1;
        let seed = u64::from(self.0.number) << 32 | u64::from(state.life);
        state.server = Some(self.server(self.0.ground.conditions.seed ^ seed << 8));
    }

    fn server(&self, seed: u64) -> Server {
        let SiteShared {
            ground, backend, ..
        } = &*self.0;
        let handler = {
            let (ground, backend) = (ground.clone(), backend.clone());
            move |task: Task, _: Context| {
                let (ground, backend) = (ground.clone(), backend.clone());
                async move {
                    backend.run(task, &ground).await;
                    Ok::<_, Abort>(task.call)
                }
            }
        };
        let builder = Server::builder()
            .config(ground.fleet().server(backend.workers()))
            .session_seed(seed)
            .observer(ServerNotes(ground.recorder.clone()))
            .mutation(WORK, handler);
        let builder = match (&ground.hosting, backend) {
            (Hosting::Serving, Backend::Workers(workers)) => {
                control::methods(builder, ground, workers)
            }
            _ => builder,
        };
        builder.build().expect("the limits make sense")
    }

    /// Serves connections on loopback, and says where.
    pub(crate) async fn serve(&self, announce: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
        let server = self.lock().server.clone().context("it is not running")?;
        let listener = server.bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?);
        Ok(server.serve(listener).await?)
    }

    /// No worker gets on until the time is over: what a pause of a garbage collector or of a disk does.
    pub(crate) async fn stall(&self, time: Duration) {
        match (&self.0.ground.hosting, &self.0.backend) {
            (Hosting::Calling(remote), _) => remote.stall(time).await,
            (_, Backend::Workers(workers)) => workers.stall(time).await,
            (_, Backend::Database(_)) => {}
        }
    }

    /// Its process dies: connections break, its memory is gone.
    pub(crate) fn crash(&self) {
        let mut state = self.lock();
        state.connections.drain(..).for_each(|task| task.abort());
        if let Some(server) = state.server.take() {
            // No connection is left to carry a reply: this only ends the tasks of the executions.
            tokio::spawn(async move { server.shutdown().await });
        }
    }

    /// From now on all that is sent to it disappears, and nothing comes back.
    pub(crate) fn die(&self) {
        self.0.is_dead.store(true, Relaxed);
    }

    /// What connects a client to it.
    pub(crate) fn dial(&self, client: u32, principal: Option<&Principal>) -> Dial {
        Dial {
            site: self.clone(),
            client,
            principal: principal.cloned(),
        }
    }

    /// Whether nothing runs or is queued.
    pub(crate) async fn is_idle(&self) -> bool {
        if let Hosting::Calling(remote) = &self.0.ground.hosting {
            return remote.is_idle().await;
        }
        let stats = self.lock().server.as_ref().map(Server::stats);
        stats.is_none_or(|stats| stats.running + stats.queued == 0)
    }

    /// Fetches what another process has noted.
    pub(crate) async fn collect(&self) {
        let ground = &self.0.ground;
        if let Hosting::Calling(remote) = &ground.hosting {
            remote.collect(ground).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, SiteState> {
        (self.0.state.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// When the gate has taken one connection more.
    fn passed(&self) -> io::Result<Option<Instant>> {
        let Some(Gate { each, backlog }) = self.0.gate else {
            return Ok(None);
        };
        let (mut state, now) = (self.lock(), clock::now());
        let free_at = state.free_at.unwrap_or(now).max(now);
        if free_at - now > each * backlog {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        state.free_at = Some(free_at + each);
        Ok(state.free_at)
    }

    fn accept(&self, client: u32, principal: Option<Principal>) -> io::Result<Pipe> {
        let mut state = self.lock();
        let server = state.server.clone();
        let server = server.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = duplex(PIPE_BYTES);
        let mut extensions = Extensions::new();
        // To a naive server all are one, since it knows no shares.
        if self.0.ground.fleet() == Fleet::Redial {
            extensions.insert(address(client));
            if let Some(principal) = principal {
                extensions.insert(principal);
            }
        }
        let task = tokio::spawn(async move { server.serve_connection_with(far, extensions).await });
        state.connections.push(task.abort_handle());
        Ok(Pipe::new(near.into(), self.0.is_dead.clone()))
    }
}

impl Backend {
    /// How many calls get on at once.
    fn workers(&self) -> usize {
        match self {
            Self::Workers(workers) => workers.count(),
            Self::Database(_) => GroupCommit::CONNECTIONS,
        }
    }

    async fn run(&self, task: Task, ground: &Ground) {
        let Task { call, ms } = task;
        match self {
            Self::Workers(workers) => {
                let instead = ms.map(Duration::from_millis);
                workers.work(instead, &ground.recorder).await;
                ground.ledger.effect(call);
            }
            Self::Database(database) => database.commit(call, &ground.recorder).await,
        }
    }
}

impl Connector for Dial {
    type Io = Pipe;

    async fn connect(&self) -> io::Result<Pipe> {
        let site = &self.site;
        if let Hosting::Calling(remote) = &site.0.ground.hosting {
            let from = match site.0.ground.fleet() {
                Fleet::Naive => Ipv4Addr::LOCALHOST,
                Fleet::Redial => control::address(self.client, self.principal.as_ref()),
            };
            let stream = remote.dial(from).await?;
            return Ok(Pipe::new(stream.into(), site.0.is_dead.clone()));
        }
        if let Some(moment) = site.passed()? {
            sleep_until(moment).await;
        }
        if site.0.is_dead.load(Relaxed) {
            // The client gives up after its `connect_timeout`.
            std::future::pending::<()>().await;
        }
        site.accept(self.client, self.principal.clone())
    }
}

/// Each client has a machine of its own.
fn address(client: u32) -> SocketAddr {
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + client);
    SocketAddr::from((ip, 50_000))
}
