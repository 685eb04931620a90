//! A connection without a server at the other end: each request is answered in the step that writes
//! it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use redial_protocol::{Incoming, Limits, rpc};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::load::{
    connection::next_body,
    template::{ID_AT, ID_BYTES, REQUEST, number_of},
};

/// What follows the id in every reply.
const REST: &[u8] = br#"","result":1}"#;

/// The result of hello.
const HELLO: &str = r#"{"session":"123456789abcdef","table":"t","lease_ms":60000,"max_frame":1048576,"max_in_flight":512}"#;

/// The transport.
#[derive(Default)]
pub(super) struct StubServer {
    /// A request that has not been written to its end.
    partial: Vec<u8>,
    replies: Vec<u8>,
    read: usize,
    reader: Option<Waker>,
}

impl StubServer {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.partial.is_empty() {
            let rest = self.answer(bytes)?;
            self.partial.extend_from_slice(rest);
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let rest = self.answer(&partial)?.len();
        partial.drain(..partial.len() - rest);
        self.partial = partial;
        Ok(())
    }

    /// Answers every whole request, and returns the rest.
    fn answer<'b>(&mut self, mut bytes: &'b [u8]) -> io::Result<&'b [u8]> {
        while let Some((body, rest)) = next_body(bytes).map_err(io::Error::other)? {
            bytes = rest;
            match number_of(body, REQUEST) {
                Some(_) => {
                    // All up to the id's end is as in the request.
                    let length = ID_AT + ID_BYTES + REST.len();
                    self.replies.extend((length as u32).to_be_bytes());
                    self.replies.extend_from_slice(&body[..ID_AT + ID_BYTES]);
                    self.replies.extend_from_slice(REST);
                }
                None => self.answer_other(body)?,
            }
        }
        Ok(bytes)
    }

    /// Hello, and what needs no answer.
    fn answer_other(&mut self, body: &[u8]) -> io::Result<()> {
        let limits = Limits::default();
        let Ok(Incoming::Request(request)) = Incoming::parse(body, &limits) else {
            return Err(io::Error::other(
                "the client wrote something that isn't a request",
            ));
        };
        if let Some(id) = request.id
            && request.method == rpc::HELLO
        {
            let id = id.raw();
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{HELLO}}}"#);
            self.replies.extend((body.len() as u32).to_be_bytes());
            self.replies.extend_from_slice(body.as_bytes());
        }
        Ok(())
    }
}

impl AsyncRead for StubServer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read == self.replies.len() {
            self.replies.clear();
            self.read = 0;
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let waiting = &self.replies[self.read..];
        let count = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StubServer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes)?;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
