//! Start reading here: a server accepts connections, serves them, and shuts down.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use redial_protocol::Address;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use crate::{
    accept::Plainly,
    caller::Caller,
    error::ServeError,
    exposure::Exposure,
    extensions::Extensions,
    fault::Faults,
    health::Readiness,
    listener::{Listener, ListenerKind, bind_tcp},
    shared::Shared,
    stats::Stats,
};

/// How long a shutdown waits for connections to take their last replies: somewhat longer than each
/// takes at most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a shutdown waits for listeners to hand over the connections that the system has
/// accepted. They do so at once where [`Server::serve`] is polled.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// A server: methods, the table of calls, and the limits. Made by
/// [`builder`](Self::builder). Cheap to clone; all clones are the same server.
///
/// ```
/// use redial_server::Server;
/// use serde_json::Value;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .query("echo", async |params: Value| Ok(params))
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
    pub(crate) shared: Arc<Shared>,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Calls whose handler had started and had not finished when the drain timeout passed. Their
    /// callers got -32008; those whose handler had not started got -32006.
    pub interrupted: usize,
}

impl Server {
    /// Listens on a TCP address, `host:port`; port 0 lets the system choose one.
    /// [`listen`](Self::listen) takes Unix sockets as well.
    ///
    /// ```
    /// use std::net::{Ipv4Addr, SocketAddr};
    /// use redial_server::Server;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::builder().build()?;
    /// let listener = server.bind("127.0.0.1:0").await?;
    /// println!("listening on {}", listener.local_addr()?);
    /// server.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    ///
    /// let error = server.bind("localhost").await.unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     r#"can't listen: "localhost" is not an address: expected host:port, such as 127.0.0.1:7077, or unix:/path"#,
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ServeError::Address`] if it is not `host:port`, [`ServeError::Bind`] if the system refuses
    /// it, or it is a Unix socket's, for which there is [`listen`](Self::listen).
    pub async fn bind(&self, address: impl Into<Address>) -> Result<TcpListener, ServeError> {
        let address = address.into();
        address.check()?;
        let bound = if address.unix_path().is_some() {
            let expected =
                "`bind` takes TCP alone; expected host:port, or `Server::listen`, which takes both";
            Err(io::Error::new(io::ErrorKind::InvalidInput, expected))
        } else {
            bind_tcp(address.as_str()).await
        };
        bound.map_err(|reason| ServeError::Bind { address, reason })
    }

    /// Listens on an address of either kind: TCP, or a Unix socket (`unix:/path`, `unix:@name`), to
    /// whose file its owner alone may connect; see [`bind_unix`](Self::bind_unix).
    ///
    /// # Errors
    ///
    /// As those of [`bind`](Self::bind) and [`bind_unix`](Self::bind_unix).
    pub async fn listen(&self, address: impl Into<Address>) -> Result<Listener, ServeError> {
        let address = address.into();
        address.check()?;
        #[cfg(unix)]
        if let Some(path) = address.unix_path() {
            return self.bind_unix(path).await;
        }
        Ok(self.bind(address).await?.into())
    }

    /// Listens on a Unix socket with a file, to which its owner alone may connect (mode 0600). A file
    /// that a server has left behind on which nothing listens any more is replaced; the file goes when
    /// the server stops listening. A path that begins with NUL is a name in the abstract namespace of
    /// Linux, to which every process of the machine may connect.
    ///
    /// # Errors
    ///
    /// [`ServeError::Bind`] if another server listens there, a file that is no socket has that name, or
    /// the system refuses it.
    #[cfg(unix)]
    pub async fn bind_unix(
        &self,
        path: impl AsRef<std::path::Path>,
    ) -> Result<Listener, ServeError> {
        self.bind_unix_with_mode(path, 0o600).await
    }

    /// The same with another mode for the file: 0660 lets its group connect, 0666 all users.
    ///
    /// # Errors
    ///
    /// As those of [`bind_unix`](Self::bind_unix).
    #[cfg(unix)]
    pub async fn bind_unix_with_mode(
        &self,
        path: impl AsRef<std::path::Path>,
        mode: u32,
    ) -> Result<Listener, ServeError> {
        let path = path.as_ref();
        let bound = crate::unix::UnixSource::bind(path, mode).await;
        let bound = bound.map_err(|reason| ServeError::Bind {
            address: Address::from_unix_path(path),
            reason,
        })?;
        Ok(Listener(ListenerKind::Unix(bound)))
    }

    /// Accepts connections and serves them until [`shutdown`](Self::shutdown) has finished. Must be
    /// called in a tokio runtime; may be called for several listeners.
    ///
    /// # Errors
    ///
    /// [`ServeError::NotLoopback`] if other machines could connect and
    /// [`Config::insecure`](crate::Config::insecure) is not set: they need TLS (`serve_tls`). Once it
    /// serves it never fails: a connection that can't be accepted is one connection less.
    pub async fn serve(&self, listener: impl Into<Listener>) -> Result<(), ServeError> {
        let listener = listener.into();
        let exposure = Exposure {
            has_tls: false,
            authenticates: self.shared.authentication.is_some(),
        };
        self.check(&listener, exposure)?;
        match listener.0 {
            ListenerKind::Tcp(listener) => self.accept_all(listener, Plainly).await,
            #[cfg(unix)]
            ListenerKind::Unix(mut listener) => {
                listener.has_principals = self.shared.unix_principals;
                self.accept_all(listener, Plainly).await;
            }
        }
        Ok(())
    }

    /// Serves one connection over any transport until it ends. As far as shares of the limits go,
    /// all such connections are those of one peer, which is on this machine: it may ask for
    /// `rpc.stats`.
    pub async fn serve_connection<S>(&self, transport: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.serve_one(transport, Caller::default()).await;
    }

    /// The same for a transport whose peer has an address, such as one that a proxy has handed on:
    /// its shares of the limits are those of that address.
    pub async fn serve_connection_from<S>(&self, transport: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.serve_one(transport, Caller::at(peer)).await;
    }

    /// The same for a transport of which the program knows more. A [`Principal`](crate::Principal)
    /// among the extensions is who calls, for as long as the connection lives, and a [`SocketAddr`] is
    /// where its peer is; handlers find the others with
    /// [`Context::extension`](crate::Context::extension).
    ///
    /// ```
    /// use redial_server::{Context, Extensions, Principal, Server};
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::builder()
    ///     .query("who", async |(): (), context: Context| {
    ///         Ok(context.principal().map(|principal| principal.to_string()))
    ///     })
    ///     .build()?;
    /// let (mut client, transport) = tokio::io::duplex(1024);
    /// let mut extensions = Extensions::new();
    /// extensions.insert(Principal::new("cert:billing.example")?);
    /// tokio::spawn(async move { server.serve_connection_with(transport, extensions).await });
    ///
    /// client.write_all(b"\0\0\0\x19{\"id\":\"a\",\"method\":\"who\"}").await?;
    /// let mut reply = [0; 4 + 42];
    /// client.read_exact(&mut reply).await?;
    /// assert_eq!(&reply[4..], br#"{"id":"a","result":"cert:billing.example"}"#);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve_connection_with<S>(&self, transport: S, extensions: Extensions)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.serve_one(transport, extensions.into()).await;
    }

    /// Shuts down: admits no new calls (-32006), lets the running ones finish for up to
    /// [`Config::drain_timeout`](crate::Config::drain_timeout), cuts off what still runs (-32008),
    /// sends all replies, and closes the connections. Recorded replies are still replayed while it
    /// drains. Clients that said `rpc.hello` hear of it, and which of their requests were not read
    /// (`rpc.goaway`); others are answered until they fall silent, for a second at most.
    ///
    /// ```no_run
    /// # async fn f(server: redial_server::Server) -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = server.bind("127.0.0.1:7077").await?;
    /// let serving = tokio::spawn({
    ///     let server = server.clone();
    ///     async move { server.serve(listener).await }
    /// });
    /// // What stops a program: Ctrl-C at a terminal, SIGTERM from systemd, Docker or Kubernetes.
    /// # #[cfg(unix)] {
    /// use tokio::signal::unix::{SignalKind, signal};
    /// let mut terminate = signal(SignalKind::terminate())?;
    /// tokio::select! {
    ///     pressed = tokio::signal::ctrl_c() => pressed?,
    ///     _ = terminate.recv() => {}
    /// }
    /// # }
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
        tokio::select! {
            biased;
            () = shared.listeners.wait() => {}
            () = shared.awake.sleep(HAND_OVER_TIMEOUT) => {}
        }
        shared.connections.wake_all();
        shared.executions.close();
        // Whether in time or not: what is left is cut off, and awaited.
        tokio::select! {
            biased;
            () = shared.executions.wait() => {}
            () = shared.awake.sleep(shared.config.drain_timeout) => {}
        }
        shared.cut_off.cancel();
        shared.executions.wait().await;
        shared.closing.store(true, SeqCst);
        shared.connections.wake_all();
        tokio::select! {
            biased;
            () = shared.connections.all_closed() => {}
            () = shared.awake.sleep(CLOSE_TIMEOUT) => {}
        }
        if let Some(store) = shared.store.clone() {
            // It waits for what it was given to become durable.
            let _: Result<(), _> = tokio::task::spawn_blocking(move || store.close()).await;
        }
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

    /// What the server has done since it was built, and what it holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Whether it takes new calls, as `rpc.health` says it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.shared.readiness()
    }

    /// Whether it may serve a listener that other machines reach.
    pub(crate) fn check(&self, listener: &Listener, by: Exposure) -> Result<(), ServeError> {
        let exposed = listener.exposed().map_err(ServeError::Listener)?;
        match exposed {
            Some(address) if !self.shared.config.insecure => by.check(address),
            _ => Ok(()),
        }
    }
}
