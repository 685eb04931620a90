//! What a connection's bytes go through: a socket, or TLS over it.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use anyhow::{Context, Result};
use redial_tls::rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

/// How much is read from a socket at once, and decrypted record by record: rustls itself reads 4 KiB
/// at a time.
const READ_BYTES: usize = 256 * 1024;

/// A socket, with TLS over it or without.
pub struct Wire<S> {
    socket: S,
    tls: Option<Box<Tls>>,
}

struct Tls {
    connection: ClientConnection,
    /// What was read from the socket; from `start` to `end` it is still encrypted.
    read: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read from the socket left no room, so that there may be more.
    is_full: bool,
}

impl Wire<TcpStream> {
    /// Takes a socket that blocks. With a configuration, TLS begins with the first byte: the
    /// certificate has to be for the address of the peer.
    ///
    /// # Errors
    ///
    /// If the configuration can't be used.
    pub fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let name = ServerName::from(socket.peer_addr()?.ip());
        let begin = |config: &Arc<ClientConfig>| -> Result<Box<Tls>> {
            let connection = ClientConnection::new(Arc::clone(config), name);
            Ok(Box::new(Tls {
                connection: connection.context("no TLS")?,
                read: vec![0; READ_BYTES],
                start: 0,
                end: 0,
                is_full: false,
            }))
        };
        let tls = tls.map(begin).transpose()?;
        Ok(Self { socket, tls })
    }

    /// The same connection for an event queue: it does not block any more.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn nonblocking(self) -> io::Result<Wire<mio::net::TcpStream>> {
        self.socket.set_nonblocking(true)?;
        Ok(Wire {
            socket: mio::net::TcpStream::from_std(self.socket),
            tls: self.tls,
        })
    }
}

impl<S> Wire<S> {
    /// What the event queue watches.
    pub fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether there may be more after a read that did not fill its buffer. From a socket there isn't
    /// (epoll(7), question 9); but TLS gives record by record.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.start < tls.end || tls.is_full)
    }
}

impl<S: Read + Write> Read for Wire<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => tls.read(&mut self.socket, buffer),
        }
    }
}

impl<S: Write> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            // It takes no more than its buffer holds.
            Some(tls) => {
                tls.send(&mut self.socket)?;
                tls.connection.writer().write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.socket.flush(),
            Some(tls) => tls.send(&mut self.socket),
        }
    }
}

impl Tls {
    fn read(&mut self, socket: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.send(socket)?;
            if self.start == self.end {
                let count = socket.read(&mut self.read)?;
                (self.start, self.end) = (0, count);
                self.is_full = count == self.read.len();
            }
            let mut encrypted = &self.read[self.start..self.end];
            self.start += self.connection.read_tls(&mut encrypted)?;
            let taken = self.connection.process_new_packets();
            taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Sends what has been encrypted, or is part of a handshake.
    fn send(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}
