//! Start reading here: a server is built, serves connections, and is shut down.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use rand::{SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::{Method, MethodKind};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use crate::{
    admission::Admission,
    clock,
    config::Config,
    connection::Connection,
    discover::{self, ServiceInfo},
    error::{BuildError, ServeError},
    fault::Faults,
    handler::{AsyncHandler, Function},
    observe::Observer,
    outbox::Outbox,
    router::Router,
    shared::{Connections, Shared},
    stats::Stats,
    table::{Table, plain::PlainTable, sessions::Sessions},
};

/// How long accepting pauses when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a shutdown waits for connections to take their last replies.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A server: methods, the table of calls, and the limits. Cheap to clone; all clones are the same
/// server.
///
/// ```
/// use redial_server::{Context, Server};
/// use serde_json::{Value, json};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .query("echo", async |params: Value, _: Context| Ok(params))
///     .build()?;
///
/// // Any transport will do; this one is a pipe in memory.
/// let (mut client, transport) = tokio::io::duplex(1024);
/// tokio::spawn(async move { server.serve_connection(transport).await });
///
/// client.write_all(b"\0\0\0\x2a{\"id\":\"a\",\"method\":\"echo\",\"params\":[1,2]} ").await?;
/// let mut reply = [0; 4 + 25];
/// client.read_exact(&mut reply).await?;
/// assert_eq!(&reply[4..], br#"{"id":"a","result":[1,2]}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// A server in the making. Mistakes are reported by [`build`](Self::build).
#[derive(Default)]
pub struct ServerBuilder {
    config: Config,
    router: Router,
    faults: Option<Faults>,
    observer: Option<Box<dyn Observer>>,
    info: ServiceInfo,
    session_seed: Option<u64>,
    mistake: Option<BuildError>,
}

impl ServerBuilder {
    /// Sets all limits.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Adds a typed method: its name, its kind and its types are those of `M`.
    ///
    /// A handler is polled where its connection stands as long as it doesn't wait for anything;
    /// one that computes for long should move to a thread of its own (`spawn_blocking`). It runs
    /// at most once per call, on behalf of the call and not of the connection: when the caller
    /// goes away, it goes on.
    #[must_use]
    pub fn method<M: Method>(self, handler: impl AsyncHandler<M::Params, M::Output>) -> Self {
        self.add(M::NAME, M::KIND, handler)
    }

    /// Adds a method without effect under a name, for example with [`serde_json::Value`] in and
    /// out. It is never recorded, and runs again for every attempt.
    #[must_use]
    pub fn query<P, T>(self, name: &str, handler: impl AsyncHandler<P, T>) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
    {
        self.add(name, MethodKind::Query, handler)
    }

    /// Adds a method with effect under a name. It runs at most once per call.
    #[must_use]
    pub fn mutation<P, T>(self, name: &str, handler: impl AsyncHandler<P, T>) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
    {
        self.add(name, MethodKind::Mutation, handler)
    }

    /// Lets requests and replies go wrong by these rules, which can be changed at any time
    /// through a clone of `faults`. Without this the server has rules of its own, none of them
    /// set: see [`Server::faults`].
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        Self {
            faults: Some(faults),
            ..self
        }
    }

    /// Tells the observer what happens to each attempt.
    #[must_use]
    pub fn observer(self, observer: impl Observer) -> Self {
        Self {
            observer: Some(Box::new(observer)),
            ..self
        }
    }

    /// The name and the version of the service in the answer of `rpc.discover`. Default: Redial's.
    #[must_use]
    pub fn info(self, title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            info: ServiceInfo {
                title: title.into(),
                version: version.into(),
            },
            ..self
        }
    }

    /// Makes the ids of sessions repeat. **Only for simulations**: a session must not be known
    /// again by another server, and nobody may guess its id.
    #[must_use]
    pub fn session_seed(self, seed: u64) -> Self {
        Self {
            session_seed: Some(seed),
            ..self
        }
    }

    /// Makes the server.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if a method has two handlers or a name that is not free, if a limit lets
    /// nothing through, or if the system has no random numbers.
    pub fn build(self) -> Result<Server, BuildError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        self.config.check()?;
        let rng = match self.session_seed {
            Some(seed) => ChaCha8Rng::seed_from_u64(seed),
            None => ChaCha8Rng::try_from_rng(&mut SysRng)
                .map_err(|error| BuildError::NoRandomness(error.to_string()))?,
        };
        let mut shared = Shared {
            discover: Vec::new(),
            router: self.router,
            table: Table {
                plain: PlainTable::new(self.config.plain_limits(), clock::now()),
                sessions: Sessions::new(self.config.session_limits(), rng),
            },
            admission: Admission::new(self.config.max_running, self.config.max_queued),
            config: self.config,
            faults: self.faults.unwrap_or_else(|| Faults::new(0)),
            observer: self.observer,
            counters: Default::default(),
            executions: Default::default(),
            is_draining: Default::default(),
            draining: Default::default(),
            cut_off: Default::default(),
            closing: Default::default(),
            closed: Default::default(),
            interrupted: Default::default(),
            connections: Connections::default(),
            sweeping: Default::default(),
        };
        let mut discover = discover::outcome(&self.info, &shared.router);
        shared.fit(&mut discover);
        shared.discover = discover;
        Ok(Server {
            shared: Arc::new(shared),
        })
    }

    fn add<P, T>(mut self, name: &str, kind: MethodKind, handler: impl AsyncHandler<P, T>) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
    {
        let added = self
            .router
            .add(name, kind, Box::new(Function::new(handler)));
        self.mistake = self.mistake.or(added.err());
        self
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Calls whose handler had begun and had not ended when the time was up. Their callers were
    /// told -32008; those whose handler had not begun were told -32006.
    pub interrupted: usize,
}

impl Server {
    /// Begins to build a server.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Listens on a TCP address; port 0 lets the system choose one.
    ///
    /// # Errors
    ///
    /// [`ServeError::Bind`] if the system says no, [`ServeError::NotLoopback`] if other machines
    /// could connect and [`Config::insecure`] is not set.
    pub async fn bind(&self, address: &str) -> Result<TcpListener, ServeError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|reason| ServeError::Bind {
                address: address.to_owned(),
                reason,
            })?;
        self.check(&listener)?;
        Ok(listener)
    }

    /// Accepts connections and serves them until [`shutdown`](Self::shutdown) is over. Must be
    /// called in a tokio runtime; may be called for several listeners.
    ///
    /// # Errors
    ///
    /// [`ServeError::NotLoopback`] if other machines could connect and [`Config::insecure`] is
    /// not set. Once it serves it never fails: a connection that can't be accepted is one
    /// connection less.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), ServeError> {
        self.check(&listener)?;
        loop {
            tokio::select! {
                biased;
                () = self.shared.draining.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.accept(stream, peer),
                    // Out of descriptors, mostly. Those that are open go on, and free some.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        drop(listener);
        self.shared.closed.cancelled().await;
        Ok(())
    }

    /// Serves one connection over any transport until it ends.
    pub async fn serve_connection<S>(&self, transport: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connection(transport, None).await;
    }

    /// Stops: takes no new calls (-32006), lets the running ones finish for up to
    /// [`Config::drain_timeout`], cuts off what still runs (-32008), sends all replies, and closes
    /// the connections. Replies on record are still replayed while it drains.
    ///
    /// ```no_run
    /// # async fn f(server: redial_server::Server) -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = server.bind("127.0.0.1:7077").await?;
    /// let serving = tokio::spawn({
    ///     let server = server.clone();
    ///     async move { server.serve(listener).await }
    /// });
    /// tokio::signal::ctrl_c().await?;
    /// let shutdown = server.shutdown().await;
    /// serving.await??;
    /// println!("{} calls were interrupted", shutdown.interrupted);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self) -> Shutdown {
        let shared = &self.shared;
        shared.drain();
        shared.refuse_queued();
        shared.executions.close();
        let drained = tokio::time::timeout(shared.config.drain_timeout, shared.executions.wait());
        // Whether in time or not: what is left is told to stop, and is waited for.
        let _ = drained.await;
        shared.cut_off.cancel();
        shared.executions.wait().await;
        shared.closing.store(true, SeqCst);
        shared.connections.nudge_all();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, shared.connections.all_closed()).await;
        shared.closed.cancel();
        Shutdown {
            interrupted: shared.interrupted.load(SeqCst),
        }
    }

    /// The fault rules of this server.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What the server has done, and what it holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn check(&self, listener: &TcpListener) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        if address.ip().is_loopback() || self.shared.config.insecure {
            Ok(())
        } else {
            Err(ServeError::NotLoopback(address))
        }
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr) {
        // Replies leave in one write as it is; waiting for more would only delay them. If the
        // option can't be set, the connection is slower and no worse.
        let _: io::Result<()> = stream.set_nodelay(true);
        let server = self.clone();
        tokio::spawn(async move { server.connection(stream, Some(peer)).await });
    }

    async fn connection<S>(&self, transport: S, peer: Option<SocketAddr>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.shared.start_sweeping();
        let outbox = Arc::new(Outbox::default());
        let Some(_registration) = Connections::open(&self.shared, &outbox) else {
            return;
        };
        // Not handed over to `run`, whose future would then have room for it twice.
        let mut connection = Connection::new(transport, Arc::clone(&self.shared), outbox, peer);
        connection.run().await;
    }
}
