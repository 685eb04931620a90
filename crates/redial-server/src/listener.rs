//! What connections come from: TCP and Unix sockets.

use std::{
    future::Future,
    io::{self, Write},
    net::SocketAddr,
};

use redial_protocol::{Address, unmapped};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
};

use crate::caller::Caller;

/// How many connections the system keeps that are not accepted yet, if it may keep so many. With the 128
/// of tokio's own, a crowd that comes at once costs others a second: the system drops what they begin with.
pub(crate) const BACKLOG: u32 = 1024;

/// Where a server accepts connections: a TCP listener or one of a Unix socket. Both of tokio's become
/// one by [`Into`]; [`Server::listen`](crate::Server::listen) makes it from an address.
#[derive(Debug)]
pub struct Listener(pub(crate) ListenerKind);

#[derive(Debug)]
pub(crate) enum ListenerKind {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(crate::unix::UnixSource),
}

impl Listener {
    /// Where it listens; with the port that the system chose.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.0 {
            ListenerKind::Tcp(listener) => Ok(listener.local_addr()?.into()),
            #[cfg(unix)]
            ListenerKind::Unix(listener) => listener.local_addr(),
        }
    }

    /// Whether other machines can connect to it, and by which address.
    pub(crate) fn exposed(&self) -> io::Result<Option<SocketAddr>> {
        match &self.0 {
            ListenerKind::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok((!unmapped(address).ip().is_loopback()).then_some(address))
            }
            #[cfg(unix)]
            ListenerKind::Unix(_) => Ok(None),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self(ListenerKind::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixListener> for Listener {
    fn from(listener: tokio::net::UnixListener) -> Self {
        Self(ListenerKind::Unix(listener.into()))
    }
}

/// What the server needs of a listener.
pub(crate) trait Accept: Send + Sync + Sized {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Caller)>> + Send;

    /// Accepts what the system has accepted already, `max` connections at most, and listens no more.
    fn accept_rest(self, max: usize, each: impl FnMut(Self::Io, Caller));

    /// Writes to a connection that is new, without waiting, and closes it.
    fn dismiss(io: Self::Io, words: &[u8]);
}

/// Listens at the first of an address's meanings that can be had.
pub(crate) async fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    let mut refused = None;
    for meaning in lookup_host(address).await? {
        match bind_at(meaning) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::other("the name has no address")))
}

fn bind_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // As tokio has it. On Windows it would let others take the address.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Caller)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        without_delay(&stream);
        Ok((stream, Caller::at(peer)))
    }

    fn accept_rest(self, max: usize, mut each: impl FnMut(TcpStream, Caller)) {
        let Ok(listener) = self.into_std() else {
            return;
        };
        for _ in 0..max {
            let Ok((stream, peer)) = listener.accept() else {
                return;
            };
            let stream = stream.set_nonblocking(true).map(|()| stream);
            if let Ok(stream) = stream.and_then(TcpStream::from_std) {
                without_delay(&stream);
                each(stream, Caller::at(peer));
            }
        }
    }

    fn dismiss(io: TcpStream, words: &[u8]) {
        // What is written to a socket that is new finds room.
        let _: io::Result<usize> = io.into_std().and_then(|mut io| io.write(words));
    }
}

/// Replies leave in one write as it is; waiting for more would only delay them. If the option can't be
/// set, the connection is slower and no worse.
fn without_delay(stream: &TcpStream) {
    let _: io::Result<()> = stream.set_nodelay(true);
}
