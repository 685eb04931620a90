//! The bugs of clients that confuse the tables of servers: a wrapper around the connections of a real client. It
//! has an attempt executed in a session of its own at another address, or passes every server off as one of the
//! same table, in sessions of its own, too.

mod elsewhere;
mod routes;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use redial_client::Connector;
use redial_protocol::FrameDecoder;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::routes::Routes;
use crate::{
    bug::Bug,
    caller::Dialer,
    net::{Wire, tap::framed},
};

const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Makes connections to one address.
pub(crate) struct Misrouter {
    dialer: Arc<Dialer>,
    routes: Routes,
}

/// A connection whose frames are changed, or go elsewhere.
pub(crate) struct MisroutedIo {
    io: Wire,
    dialer: Arc<Dialer>,
    routes: Routes,
    /// Its number among those of its client.
    number: u32,
    written: FrameDecoder,
    heard: FrameDecoder,
    out: Vec<u8>,
    inbox: Inbox,
}

/// What the client is to read.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<(Vec<u8>, Option<Waker>)>>);

impl Inbox {
    /// Adds a whole frame.
    fn push(&self, frame: &[u8]) {
        let mut state = self.lock();
        state.0.extend(framed(frame));
        if let Some(waker) = state.1.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Moves what is there into the buffer. False if nothing is: then the task is woken when something is.
    fn read(&self, context: &Context<'_>, buffer: &mut ReadBuf<'_>) -> bool {
        let (bytes, waker) = &mut *self.lock();
        let count = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..count]);
        bytes.drain(..count);
        *waker = Some(context.waker().clone());
        count > 0
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Misrouter {
    /// Whether this is a bug of this room.
    pub(crate) fn has(bug: Bug) -> bool {
        matches!(
            bug,
            Bug::TableIgnored | Bug::RetryElsewhere | Bug::HedgeElsewhere | Bug::LostElsewhere
        )
    }

    pub(crate) fn new(dialer: Dialer, routes: Routes) -> Self {
        Self {
            dialer: Arc::new(dialer),
            routes,
        }
    }
}

impl Connector for Misrouter {
    type Io = MisroutedIo;

    async fn connect(&self) -> io::Result<Self::Io> {
        Ok(MisroutedIo {
            io: self.dialer.connect().await?,
            dialer: self.dialer.clone(),
            number: self.routes.open(),
            routes: self.routes.clone(),
            written: FrameDecoder::new(MAX_FRAME_BYTES),
            heard: FrameDecoder::new(MAX_FRAME_BYTES),
            out: Vec::new(),
            inbox: Inbox::default(),
        })
    }
}

impl MisroutedIo {
    fn address(&self) -> u32 {
        self.dialer.address.expect("there are several")
    }

    /// The client has written this.
    fn send(&mut self, frame: &[u8]) {
        let message: Value = serde_json::from_slice(frame).unwrap_or_default();
        let address = self.address();
        if let Some(other) = self.routes.elsewhere(&message, address, self.number) {
            let dialer = self.dialer.to(other);
            tokio::spawn(elsewhere::ask(dialer, message, self.inbox.clone()));
            return;
        }
        let text = String::from_utf8_lossy(frame);
        let text = self.routes.disguised(&message, &text, address);
        self.out.extend(framed(text.as_bytes()));
    }

    /// The server has written this.
    fn hear(&mut self, mut input: &[u8]) {
        let address = self.address();
        while let Ok(Some(frame)) = self.heard.next_frame(&mut input) {
            let text = String::from_utf8_lossy(frame);
            let text = self.routes.undisguised(&text, address);
            self.inbox.push(text.as_bytes());
        }
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = Pin::new(&mut self.io).poll_write(context, &self.out);
            let count = std::task::ready!(written)?;
            self.out.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for MisroutedIo {
    fn drop(&mut self) {
        self.routes.close(self.number);
    }
}

impl AsyncRead for MisroutedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.inbox.read(context, buffer) {
            let mut chunk = [0; 4096];
            let mut chunk = ReadBuf::new(&mut chunk);
            std::task::ready!(Pin::new(&mut this.io).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.hear(chunk.filled());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MisroutedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_out(context))?;
        let mut input = bytes;
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = this.written.next_frame(&mut input) {
            frames.push(frame.to_vec());
        }
        frames.iter().for_each(|frame| this.send(frame));
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
