//! An encrypted connection, as an end of Redial wants it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{peer_name::peer_name, receive::Receiver};

/// An encrypted connection. It differs from `tokio_rustls`'s in three points:
///
/// * Bytes that TLS has taken count as written though the transport fails in the same step: parts of
///   them may have been sent by then. The error comes with the next step.
/// * A peer that closes the transport without a last word (`close_notify`) has ended the stream. A
///   frame says itself whether it is whole.
/// * A read takes all that the transport has, up to 64 KiB at once, and hands out all that was in it.
pub struct TlsStream<IO> {
    inner: tokio_rustls::TlsStream<IO>,
    receiver: Receiver,
    /// What the transport said when bytes had been taken.
    failure: Option<io::Error>,
}

impl<IO> TlsStream<IO> {
    pub(crate) fn new(inner: tokio_rustls::TlsStream<IO>) -> Self {
        Self {
            inner,
            receiver: Receiver::default(),
            failure: None,
        }
    }

    /// The transport.
    pub fn get_ref(&self) -> &IO {
        self.inner.get_ref().0
    }

    /// What the peer's certificate calls it: its first DNS name, else its first URI with a scheme. `None` if it has
    /// none of them, or showed no certificate.
    #[must_use]
    pub fn peer_name(&self) -> Option<String> {
        peer_name(self.peer_certificates()?)
    }

    /// The certificates that the peer has shown and that were verified, its own first.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.inner.get_ref().1.peer_certificates()
    }

    /// Whether the peer named the protocol [`ALPN`](crate::ALPN), too.
    #[must_use]
    pub fn is_alpn_agreed(&self) -> bool {
        self.inner.get_ref().1.alpn_protocol() == Some(crate::ALPN)
    }

    /// Whether the handshake took up an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let kind = self.inner.get_ref().1.handshake_kind();
        kind == Some(rustls::HandshakeKind::Resumed)
    }
}

impl<IO> fmt::Debug for TlsStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            inner, receiver, ..
        } = &mut *self;
        match inner {
            tokio_rustls::TlsStream::Client(stream) => {
                let (io, session) = stream.get_mut();
                receiver.poll_read((io, session), cx, buffer)
            }
            tokio_rustls::TlsStream::Server(stream) => {
                let (io, session) = stream.get_mut();
                receiver.poll_read((io, session), cx, buffer)
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(error));
        }
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            // TLS has taken some of them before it asked the transport, and does not say how many.
            Poll::Ready(Err(error)) if !bytes.is_empty() => {
                self.failure = Some(error);
                Poll::Ready(Ok(bytes.len()))
            }
            polled => polled,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.failure.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.failure.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.inner).poll_shutdown(cx),
        }
    }
}
