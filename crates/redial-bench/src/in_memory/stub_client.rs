//! A connection to a server without a client at the other end: requests are made when the server
//! reads, and its replies are checked and thrown away when it writes.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use anyhow::{Result, anyhow, ensure};
use redial_protocol::{Reply, SessionId, rpc::Hello, write_frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::load::{
    Mode,
    connection::next_body,
    template::{RESULT, Template, number_of},
};

/// Bits for plain ids, which need not be hard to guess here.
const SOME_BITS: u64 = 0x0bad_cafe_0ddb_a110;

/// The result of the run, once it has ended.
pub(super) type RunResult = Rc<Cell<Option<Result<()>>>>;

/// The transport.
pub(super) struct StubClient {
    mode: Mode,
    template: Option<Template>,
    calls: u32,
    at_once: u32,
    /// How many calls were made.
    made: u32,
    /// How many were answered.
    answered: u32,
    /// What was made and not read yet.
    requests: Vec<u8>,
    read: usize,
    /// The read after this one finds nothing, as it does on a socket.
    is_drained: bool,
    result: RunResult,
}

impl StubClient {
    pub(super) fn new(mode: Mode, calls: u32, at_once: u32) -> (Self, RunResult) {
        let mut requests = Vec::new();
        let template = match mode {
            Mode::Session | Mode::Query => {
                let hello = br#"{"jsonrpc":"2.0","id":0,"method":"rpc.hello"}"#;
                let written = write_frame(&mut requests, 64, |out| out.extend_from_slice(hello));
                written.expect("hello fits into 64 bytes");
                None
            }
            _ => Some(Template::new(mode, SessionId::from_bits(SOME_BITS), "k")),
        };
        let result = RunResult::default();
        let stub_client = Self {
            mode,
            template,
            calls,
            at_once,
            made: 0,
            answered: 0,
            requests,
            read: 0,
            is_drained: false,
            result: Rc::clone(&result),
        };
        (stub_client, result)
    }

    /// Makes the next calls, if those before are answered. They acknowledge those.
    fn make(&mut self) {
        let Some(template) = &self.template else {
            return;
        };
        if self.read < self.requests.len() || self.answered < self.made {
            return;
        }
        self.requests.clear();
        self.read = 0;
        let until = self.calls.min(self.made + self.at_once);
        for number in self.made..until {
            template.append(&mut self.requests, number, self.answered);
        }
        self.made = until;
    }

    fn take(&mut self, mut replies: &[u8]) -> Result<()> {
        while let Some((body, rest)) = next_body(replies)? {
            replies = rest;
            if self.template.is_none() {
                let reply = Reply::parse(body)?.outcome;
                let reply = reply.map_err(|error| anyhow!("hello: {}", error.message))?;
                let hello: Hello<'_> = serde_json::from_str(reply)?;
                self.template = Some(Template::new(self.mode, hello.session, "k"));
                continue;
            }
            let number = number_of(body, RESULT);
            ensure!(
                number == Some(self.answered),
                "call {} got the reply {}",
                self.answered,
                String::from_utf8_lossy(body)
            );
            self.answered += 1;
        }
        ensure!(
            replies.is_empty(),
            "the server wrote a reply in parts; expected whole frames"
        );
        Ok(())
    }
}

impl AsyncRead for StubClient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_drained) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.make();
        let waiting = &self.requests[self.read..];
        if waiting.is_empty() {
            if self.answered < self.calls {
                return Poll::Pending;
            }
            self.result.set(Some(Ok(())));
            return Poll::Ready(Ok(()));
        }
        let count = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..count]);
        self.read += count;
        self.is_drained = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StubClient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = self.take(bytes) {
            self.result.set(Some(Err(error)));
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
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
