//! Where a program listens, over TCP or as a Unix socket, and connections to it.

#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result};

/// Where a program listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// What connections come from.
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Endpoint {
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            #[cfg(not(unix))]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Listens in the same way: on a port that the system chooses, or as the Unix socket of this name
    /// in the same folder.
    pub(crate) fn listen_beside(&self, name: &str) -> Result<(Self, Listener)> {
        match self {
            Self::Tcp(_) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let listener = listener.context("no port is free")?;
                let address = listener.local_addr()?;
                Ok((Self::Tcp(address), Listener::Tcp(listener)))
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let path = path.with_file_name(name);
                let listener = UnixListener::bind(&path);
                let listener =
                    listener.with_context(|| format!("can't make {}", path.display()))?;
                Ok((Self::Unix(path), Listener::Unix(listener)))
            }
            #[cfg(not(unix))]
            Self::Unix(_) => anyhow::bail!("this system has no Unix sockets for {name}"),
        }
    }

    /// That of TCP.
    #[cfg(test)]
    pub(crate) fn socket_address(&self) -> SocketAddr {
        match self {
            Self::Tcp(address) => *address,
            Self::Unix(path) => panic!("{} is a Unix socket", path.display()),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// As the programs' flags have it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp),
        }
    }
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Stream {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            #[cfg(unix)]
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    pub(crate) fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_write_timeout(Some(limit)),
        }
    }

    /// Has the connection end, once it is closed, as by a kernel that doesn't know it. A Unix socket is
    /// reset if something lies unread in it.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        #[cfg(unix)]
        if let Self::Tcp(stream) = self {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
        }
        Ok(())
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match *self {
            Stream::Tcp(stream) => { stream }.read(buffer),
            #[cfg(unix)]
            Stream::Unix(stream) => { stream }.read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match *self {
            Stream::Tcp(stream) => { stream }.write(bytes),
            #[cfg(unix)]
            Stream::Unix(stream) => { stream }.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_spelled_as_the_programs_spell_it() {
        for text in ["127.0.0.1:7077", "unix:/run/counter.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert!("localhost".parse::<Endpoint>().is_err());
    }
}
