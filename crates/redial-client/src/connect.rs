//! Where connections come from: TCP, or anything else that can be read and written.

use std::{
    future::Future,
    io,
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Makes connections. A function without arguments that gives a future of an
/// [`io::Result`] is one.
///
/// ```no_run
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use redial_client::Client;
/// use tokio::net::UnixStream;
///
/// let client = Client::builder()
///     .connect_with(|| UnixStream::connect("/run/counter.sock"))
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// What a connection is read from and written to.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Makes one connection.
    fn connect(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// What errors call the other end.
    fn peer(&self) -> String {
        "the server".to_owned()
    }
}

impl<F, Fut, Io> Connector for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<Io>> + Send,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Io = Io;

    fn connect(&self) -> impl Future<Output = io::Result<Io>> + Send {
        self()
    }
}

/// Connects over TCP, with `TCP_NODELAY`: the client gathers what is ready by itself.
#[derive(Clone, Debug)]
pub struct Tcp {
    address: String,
}

impl Tcp {
    /// Connects to `address`, as in `"127.0.0.1:7077"`. A name is looked up for every
    /// connection.
    #[must_use]
    pub fn new(address: impl ToString) -> Self {
        Self {
            address: address.to_string(),
        }
    }
}

impl Connector for Tcp {
    type Io = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn peer(&self) -> String {
        self.address.clone()
    }
}

/// A connector with one connection to give, for a pipe in memory: once that is gone there is no
/// other.
pub fn once<Io>(io: Io) -> impl Connector<Io = Io>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let place = Mutex::new(Some(io));
    move || {
        let io = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the one connection is gone");
        std::future::ready(io.ok_or_else(gone))
    }
}
