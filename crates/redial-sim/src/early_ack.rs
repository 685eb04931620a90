//! The bug of a client that acknowledges each call in its own request: a wrapper around the
//! connections of a real client that adds the acknowledgement.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use redial_client::{Connector, Uuid};
use redial_protocol::{FrameDecoder, SessionCall, write_frame};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// A connector whose connections acknowledge too early.
pub(crate) struct EarlyAck<C>(pub(crate) C);

impl<C: Connector> Connector for EarlyAck<C> {
    type Io = EarlyAckIo<C::Io>;

    async fn connect(&self) -> io::Result<Self::Io> {
        Ok(EarlyAckIo {
            io: self.0.connect().await?,
            decoder: FrameDecoder::new(MAX_FRAME_BYTES),
            out: Vec::new(),
        })
    }
}

/// A connection that changes what is written to it.
pub(crate) struct EarlyAckIo<Io> {
    io: Io,
    decoder: FrameDecoder,
    out: Vec<u8>,
}

impl<Io: AsyncWrite + Unpin> EarlyAckIo<Io> {
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let io = Pin::new(&mut self.io);
            match io.poll_write(context, &self.out) {
                Poll::Ready(Ok(count)) => drop(self.out.drain(..count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The same request, but from the second attempt on it acknowledges itself and all before it.
fn acknowledging(frame: &[u8]) -> Option<Vec<u8>> {
    let mut request: Value = serde_json::from_slice(frame).ok()?;
    let id = Uuid::parse_str(request["id"].as_str()?).ok()?;
    let number = SessionCall::from_uuid(id)?.number;
    let attempt = request["redial"]["attempt"].as_u64().unwrap_or(1);
    if attempt > 1 {
        request["redial"]["ack"] = (number + 1).into();
    }
    Some(request.to_string().into_bytes())
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for EarlyAckIo<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(Err(error)) = this.poll_out(context) {
            return Poll::Ready(Err(error));
        }
        let mut input = bytes;
        while let Ok(Some(frame)) = this.decoder.next_frame(&mut input) {
            let changed = acknowledging(frame).unwrap_or_else(|| frame.to_vec());
            let written = write_frame(&mut this.out, MAX_FRAME_BYTES, |out| out.extend(changed));
            written.expect("requests here are small");
        }
        match this.poll_out(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for EarlyAckIo<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}
