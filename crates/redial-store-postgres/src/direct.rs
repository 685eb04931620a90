//! Whether a connection leads to one process of the database's for as long as it lives, so that what is prepared on
//! it is there the next time.
//!
//! A pooler such as pgbouncer hands its clients' transactions to processes by turns, and answers each client with
//! a cancel key of its own. So the process that the connection's cancel request would name is asked for its
//! number: only without a pooler in between it is the same.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Client, Error,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

/// A cancel request: its length, its code, the process and its key, of four bytes each.
const CANCEL_REQUEST_BYTES: usize = 16;

/// Whether the process that runs the connection's statements is the one that the connection was made to.
pub(crate) async fn is_direct(client: &Client) -> Result<bool, Error> {
    let row = client
        .query_typed_one("SELECT pg_backend_pid()", &[])
        .await?;
    // Other engines number theirs otherwise: then it is not known.
    let runs = row.try_get::<_, i32>(0).ok();
    Ok(runs.is_some() && named_process(client).await? == runs)
}

/// The process that a cancel request would name. It is written here, and not sent.
async fn named_process(client: &Client) -> Result<Option<i32>, Error> {
    let written = Written::default();
    let token = client.cancel_token();
    token.cancel_query_raw(written.clone(), Unencrypted).await?;
    Ok(written.process())
}

/// Keeps what is written, and agrees to TLS, should that be asked for.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn process(&self) -> Option<i32> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let request = bytes.last_chunk::<CANCEL_REQUEST_BYTES>()?;
        request[8..12].try_into().ok().map(i32::from_be_bytes)
    }
}

impl AsyncWrite for Written {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Written {
    /// The database's yes to TLS.
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Written {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// Nothing leaves the process, so there is nothing to encrypt.
struct Unencrypted;

impl TlsConnect<Written> for Unencrypted {
    type Stream = Written;
    type Error = io::Error;
    type Future = Ready<io::Result<Written>>;

    fn connect(self, stream: Written) -> Self::Future {
        ready(Ok(stream))
    }
}
