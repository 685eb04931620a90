//! A client's end of a connection to a server that may be dead.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};

/// A client's end of a connection. Once the server is dead nothing comes out of it, and what is written
/// disappears, as behind a machine that has lost its power.
pub(crate) struct Pipe {
    stream: Stretch,
    is_dead: Arc<AtomicBool>,
}

/// What lies between the two ends.
pub(crate) enum Stretch {
    Memory(DuplexStream),
    Loopback(TcpStream),
}

impl From<DuplexStream> for Stretch {
    fn from(stream: DuplexStream) -> Self {
        Self::Memory(stream)
    }
}

impl From<TcpStream> for Stretch {
    fn from(stream: TcpStream) -> Self {
        Self::Loopback(stream)
    }
}

/// Does the same with either kind.
macro_rules! either {
    ($pipe:expr, $stream:ident => $what:expr) => {
        match &mut $pipe.stream {
            Stretch::Memory($stream) => $what,
            Stretch::Loopback($stream) => $what,
        }
    };
}

impl Pipe {
    pub(crate) fn new(stream: Stretch, is_dead: Arc<AtomicBool>) -> Self {
        Self { stream, is_dead }
    }

    fn is_dead(&self) -> bool {
        self.is_dead.load(Relaxed)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_dead() {
            // For good, so nothing has to be woken.
            return Poll::Pending;
        }
        either!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_dead() {
            return Poll::Ready(Ok(bytes.len()));
        }
        either!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
