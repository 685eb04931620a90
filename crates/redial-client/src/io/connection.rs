//! One connection: it writes everything that is ready in one write, and hands out all the replies
//! of one read at once.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use redial_protocol::FrameDecoder;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::{decode::decode, keepalive::Keepalive, oversized::Oversized};
use crate::{
    clock::{self, after},
    mux::{link::Transmit, poll::Housekeeping, replies::Replies, spare::keepalive},
    shared::Shared,
    token_source::FetchedToken,
};

/// How much is read at once, in bytes. A connection keeps a buffer of this size.
const READ_BYTES: usize = 64 * 1024;

/// How many reads in a row a connection may have before others get their turn.
const READS_PER_POLL: usize = 16;

/// How long nothing is written before acks are sent alone.
const ACK_IDLE: Duration = Duration::from_millis(20);

/// How long a client that is gone may take to write its last acks.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A token that is being fetched.
type TokenFetch = Pin<Box<dyn Future<Output = Result<FetchedToken, String>> + Send>>;

/// One connection that stands.
pub(super) struct Connection<'a, Io: AsyncRead + AsyncWrite + Unpin> {
    io: Io,
    shared: &'a Shared,
    link: usize,
    transmit: Transmit,
    /// Something was written that may still lie in the transport.
    needs_flush: bool,
    decoder: FrameDecoder,
    oversized: Oversized,
    buffer: Vec<u8>,
    replies: Replies,
    /// The calls of one read, woken all at once.
    wakers: Vec<Waker>,
    keepalive: Keepalive,
    /// A token that was asked for.
    fetch: Option<TokenFetch>,
    housekeeping: Housekeeping,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, if it runs.
    timer_at: Option<Instant>,
    /// When to look for acks to be sent.
    acks_at: Option<Instant>,
    /// When the connection is closed, whether or not everything is written.
    close_at: Option<Instant>,
    is_over: bool,
    /// The process that has made it.
    process: u32,
}

/// The driver is dropped with its runtime, as when `main` returns: what is due is written if the
/// transport takes it at once. The connections of a process that this one was forked from are not to
/// be touched.
impl<Io: AsyncRead + AsyncWrite + Unpin> Drop for Connection<'_, Io> {
    fn drop(&mut self) {
        let is_open = !self.is_over && self.process == std::process::id();
        if is_open && self.shared.end_link(self.link) {
            let _ = self.poll_write(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl<'a, Io: AsyncRead + AsyncWrite + Unpin> Connection<'a, Io> {
    pub(super) fn new(io: Io, shared: &'a Shared, link: usize, preamble: Vec<u8>) -> Self {
        Self {
            io,
            shared,
            link,
            transmit: Transmit::with_preamble(preamble),
            needs_flush: false,
            decoder: FrameDecoder::new(shared.config.max_frame_bytes),
            oversized: Oversized::new(&shared.config),
            buffer: vec![0; READ_BYTES],
            replies: Replies::default(),
            wakers: Vec::new(),
            keepalive: Keepalive::new(),
            fetch: None,
            housekeeping: Housekeeping::default(),
            timer: Box::pin(sleep_until(clock::now().into())),
            timer_at: None,
            acks_at: None,
            close_at: None,
            is_over: false,
            process: std::process::id(),
        }
    }

    /// Offset in the stream up to which everything has been written.
    pub(super) fn written(&self) -> u64 {
        self.transmit.offset()
    }

    /// Ready, with the reason, when the connection is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<String> {
        let polled = self.poll_open(context);
        self.is_over = polled.is_ready();
        polled
    }

    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<String> {
        if let Err(reason) = self.poll_timer(context) {
            return Poll::Ready(reason);
        }
        self.poll_fetch(context);
        let written = self.poll_write(context);
        // What the server sent before it closed counts, so reading comes before giving up.
        if let Err(reason) = self.poll_read(context) {
            return Poll::Ready(reason);
        }
        if let Err(error) = written {
            return Poll::Ready(error.to_string());
        }
        if self.housekeeping.is_closing && self.poll_close(context).is_ready() {
            return Poll::Ready("the client was closed".to_owned());
        }
        self.arm_timer(context);
        let configured = self.shared.config.keepalive;
        let limit = keepalive(configured, self.housekeeping.shortest_deadline_ms);
        self.keepalive.poll(self.shared, self.link, limit, context)
    }

    /// Shows a token that was asked for, when it is there.
    fn poll_fetch(&mut self, context: &mut Context<'_>) {
        let Some(fetch) = &mut self.fetch else {
            return;
        };
        let Poll::Ready(fetched) = fetch.as_mut().poll(context) else {
            return;
        };
        self.fetch = None;
        self.housekeeping = self.shared.with(|state| {
            match fetched {
                Ok(token) => state.mux.show_token(self.link, &token),
                Err(why) => state.mux.handle_no_token(self.link, &why, clock::now()),
            }
            state.mux.housekeeping(self.link)
        });
    }

    /// Ready when the client is gone and everything is written, or has had its time.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let until = *self
            .close_at
            .get_or_insert_with(|| after(clock::now(), CLOSE_TIMEOUT));
        if clock::now() >= until {
            return Poll::Ready(());
        }
        if !self.transmit.ready().is_empty() || self.needs_flush {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_shutdown(context).map(drop)
    }

    /// Does what is due besides reading and writing.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        if self.timer_at.is_none() || self.timer.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        // A reply that has arrived counts, however late this fires.
        self.poll_read(context)?;
        self.timer_at = None;
        let now = clock::now();
        let acks_due = self.acks_at.take_if(|at| *at <= now).is_some();
        let mut renewal = None;
        self.housekeeping = self.shared.with(|state| {
            let mux = &mut state.mux;
            mux.handle_hello_timeout(self.link, now)?;
            mux.handle_surplus(self.link, now)?;
            renewal = mux.take_renewal(self.link, now);
            if acks_due {
                mux.flush_idle_acks(self.link, now);
            }
            Ok::<_, String>(mux.housekeeping(self.link))
        })?;
        if let Some((stale, tokens)) = renewal.zip(self.shared.tokens.clone()) {
            let limit = self.shared.config.connect_timeout;
            self.fetch = Some(Box::pin(async move { tokens.get(stale, limit).await }));
        }
        Ok(())
    }

    /// Sets the timer for what will be due next.
    fn arm_timer(&mut self, context: &mut Context<'_>) {
        if self.housekeeping.sends_acks {
            self.acks_at
                .get_or_insert_with(|| after(clock::now(), ACK_IDLE));
        } else {
            self.acks_at = None;
        }
        let Housekeeping {
            handshake_at,
            surplus_at,
            ..
        } = self.housekeeping;
        let next = [handshake_at, surplus_at, self.acks_at, self.close_at];
        let next = next.into_iter().flatten().min();
        if next != self.timer_at
            && let Some(at) = next
        {
            self.timer.as_mut().reset(at.into());
            if self.timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        self.timer_at = next;
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.transmit.ready().is_empty() {
                let has_output = self.shared.with(|state| {
                    let mux = &mut state.mux;
                    let waker = context.waker();
                    let has_output = mux.poll_transmit(self.link, &mut self.transmit, waker);
                    self.housekeeping = mux.housekeeping(self.link);
                    has_output
                });
                if !has_output {
                    break;
                }
                continue;
            }
            if self.transmit.has_limits() {
                if !self.transmit.skip_late(clock::now()) {
                    let reason = "a retry was held up in its middle until it was too late for it";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
                if self.transmit.ready().is_empty() {
                    continue;
                }
            }
            match Pin::new(&mut self.io).poll_write(context, self.transmit.ready()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.transmit.advance(count);
                    self.needs_flush = true;
                    self.keepalive.on_write();
                }
                Poll::Ready(Err(error)) => {
                    self.suspend_write(context);
                    return Err(error);
                }
                Poll::Pending => {
                    self.suspend_write(context);
                    return Ok(());
                }
            }
        }
        if self.needs_flush && Pin::new(&mut self.io).poll_flush(context)?.is_ready() {
            self.needs_flush = false;
        }
        Ok(())
    }

    /// The transport takes no more for now.
    fn suspend_write(&mut self, context: &Context<'_>) {
        self.housekeeping = self.shared.with(|state| {
            // A reply can only be to what is known to be written.
            state.mux.handle_written(self.link, self.transmit.offset());
            // A client that closes has to be noticed although nothing can be written.
            state.mux.handle_stuck(self.link, context.waker());
            state.mux.housekeeping(self.link)
        });
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        for _ in 0..READS_PER_POLL {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Ready(Ok(())) => {}
            }
            let count = buffer.filled().len();
            if count == 0 {
                let place = if self.decoder.is_mid_frame() || self.oversized.is_mid_frame() {
                    " in the middle of a reply"
                } else {
                    ""
                };
                return Err(format!("the server closed it{place}"));
            }
            self.on_read(count)?;
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    /// Hands out the replies in the first `count` bytes of the buffer.
    fn on_read(&mut self, count: usize) -> Result<(), String> {
        let mut input = &self.buffer[..count];
        self.oversized.skip(&mut input, &mut self.replies);
        let broken = loop {
            match self.decoder.next_frame(&mut input) {
                Ok(Some(frame)) => decode(frame, &mut self.replies),
                Ok(None) => break None,
                Err(error) => {
                    let (decoder, replies) = (&mut self.decoder, &mut self.replies);
                    let begun = self.oversized.begin(error, decoder, &mut input, replies);
                    if let Err(error) = begun {
                        break Some(error.to_string());
                    }
                }
            }
        };
        let now = clock::now();
        let is_expecting = self.shared.with_many(&mut self.wakers, |state| {
            let mux = &mut state.mux;
            mux.handle_replies(self.link, &mut self.replies, now)?;
            self.housekeeping = mux.housekeeping(self.link);
            Ok::<_, String>(mux.in_flight_on(self.link) > 0)
        })?;
        self.keepalive.on_read(is_expecting, now);
        broken.map_or(Ok(()), Err)
    }
}
