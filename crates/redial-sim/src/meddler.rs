//! The bugs of clients that misread what they hear, or that they hear nothing: a wrapper around the
//! connections of a real client that changes what it reads.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use redial_client::Connector;
use redial_protocol::{FrameDecoder, rpc};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::net::tap::framed;

const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// How long a hello may take under [`Misreading::Silence`].
const PATIENCE: Duration = Duration::from_millis(30);

/// What is misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misreading {
    /// A message of the peer's own, which has an id, is taken for the reply to it.
    Messages,
    /// Silence after a hello is taken for the answer of a server that has no sessions.
    Silence,
    /// A server that shuts down is taken to have said its last word.
    Goaway,
}

/// A connector whose connections misread.
pub(crate) struct Meddler<C>(pub(crate) C, pub(crate) Misreading);

impl<C: Connector> Connector for Meddler<C> {
    type Io = MeddlerIo<C::Io>;

    async fn connect(&self) -> io::Result<Self::Io> {
        Ok(MeddlerIo {
            io: self.0.connect().await?,
            misreading: self.1,
            written: FrameDecoder::new(MAX_FRAME_BYTES),
            heard: FrameDecoder::new(MAX_FRAME_BYTES),
            inbox: Vec::new(),
            hello: None,
            session: Value::Null,
        })
    }
}

/// A connection that changes what is read from it.
pub(crate) struct MeddlerIo<Io> {
    io: Io,
    misreading: Misreading,
    written: FrameDecoder,
    heard: FrameDecoder,
    /// What the client is to read.
    inbox: Vec<u8>,
    /// The id of a hello without an answer, and when that is given up.
    hello: Option<(Value, Pin<Box<Sleep>>)>,
    /// The session of the connection.
    session: Value,
}

impl<Io> MeddlerIo<Io> {
    fn hear(&mut self, mut input: &[u8]) {
        while let Ok(Some(frame)) = self.heard.next_frame(&mut input) {
            let mut message: Value = serde_json::from_slice(frame).unwrap_or_default();
            let waits_for = self.hello.as_ref().map(|(id, _)| id);
            if waits_for == Some(&message["id"]) {
                self.hello = None;
            }
            if message["result"]["session"].is_string() {
                self.session = message["result"]["session"].clone();
            }
            if self.misreading == Misreading::Goaway && message["method"] == rpc::GOAWAY {
                let known = json!([{"session": self.session, "calls": []}]);
                message["params"] = json!({"last": true, "known": known});
                self.inbox.extend(framed(message.to_string().as_bytes()));
                continue;
            }
            let is_misread = self.misreading == Misreading::Messages
                && !message["id"].is_null()
                && !message["method"].is_null();
            if !is_misread {
                self.inbox.extend(framed(frame));
                continue;
            }
            let reply = json!({"id": message["id"].take(), "result": message["params"].take()});
            self.inbox.extend(framed(reply.to_string().as_bytes()));
        }
    }

    /// Looks for a hello in what was written.
    fn watch(&mut self, mut input: &[u8]) {
        if self.misreading != Misreading::Silence {
            return;
        }
        while let Ok(Some(frame)) = self.written.next_frame(&mut input) {
            let mut message: Value = serde_json::from_slice(frame).unwrap_or_default();
            if message["method"] == rpc::HELLO {
                self.hello = Some((message["id"].take(), Box::pin(sleep(PATIENCE))));
            }
        }
    }

    /// Answers a hello that nothing else has answered in time.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((id, patience)) = &mut self.hello else {
            return Poll::Pending;
        };
        std::task::ready!(patience.as_mut().poll(context));
        let error = json!({"code": -32601, "message": "no such method"});
        let reply = json!({"jsonrpc": "2.0", "id": id.take(), "error": error});
        self.inbox.extend(framed(reply.to_string().as_bytes()));
        self.hello = None;
        Poll::Ready(())
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for MeddlerIo<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.inbox.is_empty() {
            let mut chunk = [0; 4096];
            let mut chunk = ReadBuf::new(&mut chunk);
            match Pin::new(&mut this.io).poll_read(context, &mut chunk) {
                Poll::Ready(Ok(())) if !chunk.filled().is_empty() => this.hear(chunk.filled()),
                Poll::Pending => std::task::ready!(this.poll_silence(context)),
                ended => return ended,
            }
        }
        let count = this.inbox.len().min(buffer.remaining());
        buffer.put_slice(&this.inbox[..count]);
        this.inbox.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for MeddlerIo<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            this.watch(&bytes[..*count]);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
