//! Start reading here: a server accepts connections, serves them, and shuts down.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use redial_protocol::{Address, ErrorCode, ErrorObject, Id, unmapped};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    caller::Caller,
    connection::Connection,
    connections::Registration,
    error::ServeError,
    extensions::Extensions,
    fault::Faults,
    observe::EventKind,
    outbox::Outbox,
    recovery,
    refusal::{self, ConnectionLimit},
    reserve::{Accepted, Reserve},
    shared::Shared,
    stats::Stats,
    waiter::write_unasked_error,
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
    /// it, [`ServeError::NotLoopback`] if other machines could connect and
    /// [`Config::insecure`](crate::Config::insecure) is not set.
    pub async fn bind(&self, address: impl Into<Address>) -> Result<TcpListener, ServeError> {
        let address = address.into();
        address.check()?;
        let bound = TcpListener::bind(address.as_str()).await;
        let listener = bound.map_err(|reason| ServeError::Bind { address, reason })?;
        self.check(&listener)?;
        Ok(listener)
    }

    /// Accepts connections and serves them until [`shutdown`](Self::shutdown) has finished. Must be
    /// called in a tokio runtime; may be called for several listeners.
    ///
    /// # Errors
    ///
    /// [`ServeError::NotLoopback`] if other machines could connect and
    /// [`Config::insecure`](crate::Config::insecure) is not set. Once it serves it never fails: a
    /// connection that can't be accepted is one connection less.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), ServeError> {
        self.check(&listener)?;
        let listening = self.shared.listeners.token();
        let mut reserve = Reserve::default();
        loop {
            tokio::select! {
                biased;
                () = self.shared.draining.cancelled() => break,
                accepted = reserve.accept(&listener) => {
                    let Accepted { stream, peer, is_last } = accepted;
                    if is_last {
                        self.accept_last(stream, peer);
                    } else {
                        self.accept(stream, peer);
                    }
                }
            }
        }
        drop(reserve);
        self.accept_rest(listener);
        drop(listening);
        self.shared.closed.cancelled().await;
        Ok(())
    }

    /// Serves one connection over any transport until it ends. As far as shares of the limits go,
    /// all such connections are those of one peer.
    pub async fn serve_connection<S>(&self, transport: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connection(transport, Caller::default(), None).await;
    }

    /// The same for a transport whose peer has an address, such as one that a proxy has handed on:
    /// its shares of the limits are those of that address.
    pub async fn serve_connection_from<S>(&self, transport: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connection(transport, Caller::at(peer), None).await;
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
        self.connection(transport, extensions.into(), None).await;
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

    fn check(&self, listener: &TcpListener) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        if unmapped(address).ip().is_loopback() || self.shared.config.insecure {
            Ok(())
        } else {
            Err(ServeError::NotLoopback(address))
        }
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr) {
        // Replies leave in one write as it is; waiting for more would only delay them. If the
        // option can't be set, the connection is slower and no worse.
        let _: io::Result<()> = stream.set_nodelay(true);
        let (server, opening) = (self.clone(), self.shared.listeners.token());
        tokio::spawn(async move {
            let caller = Caller::at(peer);
            server.connection(stream, caller, Some(opening)).await;
        });
    }

    /// Accepts a connection that has the last descriptor: either another one makes room for it, as in a
    /// server with so many connections as are open, or it is closed at once.
    fn accept_last(&self, stream: TcpStream, peer: SocketAddr) {
        let _: io::Result<()> = stream.set_nodelay(true);
        let caller = Caller::at(peer);
        self.shared.start_sweeping();
        recovery::resume(&self.shared);
        let outbox = Arc::new(Outbox::default());
        let limit = ConnectionLimit::Descriptors(self.shared.connections.len());
        let Some(registration) = self.register(&outbox, &caller, limit) else {
            let frame = frame(&refusal::connections_full(limit));
            // Not awaited: what is written to a socket that is new finds room.
            let _ = stream
                .into_std()
                .and_then(|mut stream| stream.write(&frame));
            return;
        };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _registration = registration;
            Connection::new(stream, shared, outbox, caller).run().await;
        });
    }

    /// Accepts what the system has accepted already. Peers whose requests lie there hear that the
    /// server shuts down, where the end of the listener would reset their connections.
    fn accept_rest(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        for _ in 0..self.shared.config.max_connections {
            let Ok((stream, peer)) = listener.accept() else {
                return;
            };
            let stream = stream.set_nonblocking(true).map(|()| stream);
            if let Ok(stream) = stream.and_then(TcpStream::from_std) {
                self.accept(stream, peer);
            }
        }
    }

    /// `opening` is there until the connection is entered, so that a shutdown waits for it.
    async fn connection<S>(&self, transport: S, caller: Caller, opening: Option<TaskTrackerToken>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.shared.start_sweeping();
        recovery::resume(&self.shared);
        let outbox = Arc::new(Outbox::default());
        let limit = ConnectionLimit::Configured(self.shared.config.max_connections);
        let Some(_registration) = self.register(&outbox, &caller, limit) else {
            let error = refusal::connections_full(limit);
            self.shared.goodbyes.say(transport, &frame(&error)).await;
            return;
        };
        drop(opening);
        // Not moved into `run`, whose future would then have room for it twice.
        let mut connection = Connection::new(transport, Arc::clone(&self.shared), outbox, caller);
        connection.run().await;
    }

    /// Enters a connection, if need be in place of another.
    fn register(
        &self,
        outbox: &Arc<Outbox>,
        caller: &Caller,
        limit: ConnectionLimit,
    ) -> Option<Registration> {
        let (ConnectionLimit::Configured(max) | ConnectionLimit::Descriptors(max)) = limit;
        let shared = &self.shared;
        let (registration, displaced) =
            shared
                .connections
                .open(outbox, caller.peer(), max, &shared.awake);
        let refused = match &displaced {
            Some(displaced) => {
                let error = refusal::connection_displaced(limit);
                displaced.displace(&frame(&error));
                true
            }
            None => registration.is_none(),
        };
        if refused {
            let refused = EventKind::Refused(ErrorCode::OVERLOADED);
            shared.emit(refused, Some(Id::NULL.raw()), 1, "");
        }
        registration
    }
}

/// An error that answers no request, in its frame.
fn frame(error: &ErrorObject) -> Vec<u8> {
    let mut frame = Vec::new();
    write_unasked_error(&mut frame, error);
    frame
}
