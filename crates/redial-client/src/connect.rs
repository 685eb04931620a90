//! Ready-made connectors: TCP, Unix sockets, TLS over any of them, and a pipe that is there already.

mod dial;
mod race;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
mod unix;

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redial_protocol::Address;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

#[cfg(feature = "tls")]
pub use self::tls::Tls;
#[cfg(unix)]
pub use self::unix::Unix;
use crate::{connector::Connector, endpoints::Endpoint};

/// Connects over TCP, with `TCP_NODELAY`: the client gathers what is ready by itself.
///
/// A name that has several addresses is connected to by Happy Eyeballs (RFC 8305): IPv6 and IPv4
/// take turns, an address that has not answered for 250 ms is joined by the next one, and the first
/// connection wins. So a name is as fast as its best address, whatever the others do.
#[derive(Clone, Debug)]
pub struct Tcp {
    endpoint: Endpoint,
}

impl Tcp {
    /// Connects to `address`, as in `"127.0.0.1:7077"`. A name is looked up for every
    /// connection.
    #[must_use]
    pub fn new(address: impl Into<Address>) -> Self {
        Self::to(Endpoint::new(address))
    }

    pub(crate) fn to(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl Connector for Tcp {
    type Io = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        dial::dial(&dial::System, self.endpoint.address(), None).await
    }

    async fn connect_within(&self, limit: Duration) -> io::Result<TcpStream> {
        dial::dial(&dial::System, self.endpoint.address(), Some(limit)).await
    }

    fn peer(&self) -> String {
        self.endpoint.address().to_string()
    }

    fn name(&self) -> Option<String> {
        Some("TCP".to_owned())
    }

    fn host(&self) -> Option<String> {
        self.endpoint.host().map(str::to_owned)
    }
}

/// A connector with one connection to give, such as a pipe in memory: once that is gone, connecting
/// fails.
pub fn once<Io>(io: Io) -> impl Connector<Io = Io>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let slot = Mutex::new(Some(io));
    move || {
        let io = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the one connection is gone");
        std::future::ready(io.ok_or_else(gone))
    }
}
