//! The seam of transports: what makes connections.

use std::{future::Future, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
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

    /// Makes one connection within `limit`, the client's
    /// [`connect_timeout`](crate::Config::connect_timeout), or fails by then. By default
    /// [`connect`](Self::connect) is dropped when the time is up; a connector that can say what it
    /// has tried does it here.
    fn connect_within(&self, limit: Duration) -> impl Future<Output = io::Result<Self::Io>> + Send {
        async move {
            timeout(limit, self.connect()).await.unwrap_or_else(|_| {
                let text = format!("no connection within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
        }
    }

    /// What errors call the other end.
    fn peer(&self) -> String {
        "the server".to_owned()
    }

    /// What the connections are made of, as errors say it: `TLS`, in `cannot connect to db-1:4000 over TLS`.
    /// `None`, the default, where the other end's name says enough.
    fn name(&self) -> Option<String> {
        None
    }

    /// The host at the other end, for which a server's certificate has to be where TLS is spoken.
    /// `None`, the default, if there is no such name.
    fn host(&self) -> Option<String> {
        None
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
