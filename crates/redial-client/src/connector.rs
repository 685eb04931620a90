//! The seam of transports: what makes connections.

use std::{future::Future, io};

use tokio::io::{AsyncRead, AsyncWrite};

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
