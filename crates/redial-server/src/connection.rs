//! One connection: reads what is there, hands every whole frame to [`dispatch`](crate::dispatch),
//! and sends all replies that have gathered in one write. One task, one timer, no lock held
//! across a wait; bytes are read into a buffer that belongs to the thread, so that an idle
//! connection keeps none.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use redial_protocol::{Dialect, ErrorCode, ErrorObject, FrameDecoder, Id, reply};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{
    clock,
    dispatch::{Kit, Turn},
    observe::EventKind,
    outbox::Outbox,
    shared::Shared,
    waiter::write_reply,
};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// The write buffer is given back if it is empty and larger than this when there is nothing to do.
const KEEP_BYTES: usize = 4 * 1024;

/// How long a connection that is being closed waits for the peer to take note, so that the last
/// error reaches it: closing with unread bytes would reset the connection and lose it.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are read and answered.
    Open,
    /// The peer sends no more; what it is owed is still sent.
    Finishing,
    /// No more requests are read; what is in the buffer is sent.
    Closing,
    /// Everything is sent; what arrives is thrown away until the peer closes or time is up.
    Lingering { until: Instant },
}

pub(crate) struct Connection<S> {
    io: S,
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    kit: Kit,
    decoder: FrameDecoder,
    peer: Option<SocketAddr>,
    phase: Phase,
    /// What was read and may not be looked at before some replies have left.
    backlog: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` has been written.
    written: usize,
    cut: bool,
    protocol_errors: u32,
    now: Instant,
    last_read: Instant,
    /// Since when a frame has been incomplete.
    frame_since: Option<Instant>,
    /// Since when the peer has taken nothing of what waits for it.
    unsent_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(
        io: S,
        shared: Arc<Shared>,
        outbox: Arc<Outbox>,
        peer: Option<SocketAddr>,
    ) -> Self {
        let now = clock::now();
        let timer_at = now + shared.config.idle_timeout;
        Self {
            io,
            outbox,
            kit: Kit::default(),
            decoder: FrameDecoder::new(shared.config.limits.max_frame_bytes),
            shared,
            peer,
            phase: Phase::Open,
            backlog: Vec::new(),
            out: Vec::new(),
            written: 0,
            cut: false,
            protocol_errors: 0,
            now,
            last_read: now,
            frame_since: None,
            unsent_since: None,
            timer: Box::pin(tokio::time::sleep_until(timer_at.into())),
            timer_at,
        }
    }

    /// Serves the connection until it ends, for whatever reason. A transport error is only the
    /// end of this connection; the calls it brought go on.
    pub(crate) async fn run(mut self) {
        let _: io::Result<()> = poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.now = clock::now();
        loop {
            self.cut |= self.outbox.collect(&mut self.out, cx.waker());
            let flushed = self.poll_flush(cx)?;
            if self.cut || self.is_over(flushed) {
                return Poll::Ready(Ok(()));
            }
            self.advance(flushed);
            if self.poll_input(cx)?.is_ready() {
                continue;
            }
            self.give_back_memory();
            if self.poll_timer(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Writes what there is to write. Ready when nothing is left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while self.written < self.out.len() {
            match Pin::new(&mut self.io).poll_write(cx, &self.out[self.written..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.written += count;
                    self.unsent_since = None;
                }
                Poll::Pending => {
                    self.unsent_since.get_or_insert(self.now);
                    self.out.drain(..self.written);
                    self.written = 0;
                    if self.out.len() > self.shared.config.unsent_close_bytes {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    return Ok(Poll::Pending);
                }
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(Pin::new(&mut self.io).poll_flush(cx)?)
    }

    /// Whether there is nothing left to do for this connection.
    fn is_over(&self, flushed: Poll<()>) -> bool {
        match self.phase {
            Phase::Finishing => {
                flushed.is_ready() && self.outbox.in_flight() == 0 && self.backlog.is_empty()
            }
            Phase::Lingering { until } => until <= self.now,
            Phase::Open | Phase::Closing => false,
        }
    }

    fn advance(&mut self, flushed: Poll<()>) {
        if self.shared.is_closing() && matches!(self.phase, Phase::Open | Phase::Finishing) {
            self.phase = Phase::Closing;
        }
        if self.phase == Phase::Closing && flushed.is_ready() {
            self.phase = Phase::Lingering {
                until: self.now + LINGER,
            };
        }
    }

    /// Takes in what the peer has sent. Ready if there may be more to do.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        match self.phase {
            Phase::Open if self.is_paused() => Ok(Poll::Pending),
            Phase::Open | Phase::Finishing if !self.backlog.is_empty() && !self.is_paused() => {
                let backlog = std::mem::take(&mut self.backlog);
                self.take_in(&backlog);
                Ok(Poll::Ready(()))
            }
            Phase::Open => self.poll_read(cx),
            Phase::Finishing | Phase::Closing => Ok(Poll::Pending),
            Phase::Lingering { .. } => self.poll_linger(cx),
        }
    }

    /// Whether the peer has to take replies before it may ask for more.
    fn is_paused(&self) -> bool {
        let config = &self.shared.config;
        self.outbox.in_flight() >= config.max_in_flight
            || self.out.len() - self.written >= config.unsent_pause_bytes
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let mut buffer = READ_BUFFER.take();
        buffer.resize(READ_BYTES, 0);
        let mut unfilled = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut unfilled);
        let count = unfilled.filled().len();
        let polled = match polled {
            Poll::Ready(Ok(())) if count == 0 => {
                self.end_of_input();
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Ok(())) => {
                self.last_read = self.now;
                self.take_in(&buffer[..count]);
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        };
        READ_BUFFER.set(buffer);
        polled
    }

    /// Hands over every whole frame, as far as the limits allow; the rest waits in the backlog.
    fn take_in(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while self.phase != Phase::Closing && !self.is_paused() {
            let frame = match self.decoder.next_frame(&mut input) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    let detail = format!("{error}; the stream can't be followed any further");
                    self.protocol_error(&detail);
                    return;
                }
            };
            let mut turn = Turn {
                shared: &self.shared,
                outbox: &self.outbox,
                out: &mut self.out,
                kit: &mut self.kit,
                peer: self.peer,
                now: self.now,
                cut: false,
            };
            if turn.frame(frame).is_err() {
                self.protocol_errors += 1;
            }
            if turn.cut {
                self.cut = true;
                return;
            }
            if self.protocol_errors >= self.shared.config.max_protocol_errors {
                self.phase = Phase::Closing;
            }
        }
        self.backlog.extend_from_slice(input);
        self.frame_since = self
            .decoder
            .is_mid_frame()
            .then(|| self.frame_since.unwrap_or(self.now));
    }

    fn end_of_input(&mut self) {
        if self.decoder.is_mid_frame() {
            self.incomplete("the stream ended");
        } else {
            self.phase = Phase::Finishing;
        }
    }

    /// Tells the peer that a frame never became whole, and ends the connection.
    fn incomplete(&mut self, why: &str) {
        let detail = match self.decoder.progress() {
            (got, Some(of)) => format!("{why} after {got} of {of} bytes of a frame"),
            (got, None) => format!("{why} after {got} of 4 bytes of a frame's header"),
        };
        self.protocol_error(&detail);
    }

    /// Tells the peer what can't be mended, and ends the connection.
    fn protocol_error(&mut self, detail: &str) {
        let error = ErrorObject::raised(ErrorCode::INVALID_REQUEST, detail);
        let mut outcome = Vec::new();
        reply::encode_error(&mut outcome, &error);
        write_reply(&mut self.out, Dialect::JsonRpc2, Id::NULL.raw(), &outcome);
        self.shared
            .tell(EventKind::Refused(error.code), Some("null"), 1, "");
        self.frame_since = None;
        self.phase = Phase::Closing;
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if Pin::new(&mut self.io).poll_shutdown(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let mut nowhere = [0; 1024];
        let mut buffer = ReadBuf::new(&mut nowhere);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut buffer)?;
        if polled.is_ready() && buffer.filled().is_empty() {
            self.phase = Phase::Lingering { until: self.now };
        }
        Ok(polled)
    }

    fn give_back_memory(&mut self) {
        if self.out.is_empty() && self.out.capacity() > KEEP_BYTES {
            self.out = Vec::new();
        }
    }

    /// Pending until the next moment at which something is due. Ready if something was.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        loop {
            let due = self.next_deadline();
            if due < self.timer_at {
                self.arm(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(Poll::Pending);
            }
            self.now = clock::now();
            // The timer is not moved on for every byte that arrives; it finds out when it fires.
            if due > self.now {
                self.arm(due);
                continue;
            }
            return self.time_is_up().map(Poll::Ready);
        }
    }

    fn arm(&mut self, at: Instant) {
        self.timer_at = at;
        self.timer.as_mut().reset(at.into());
    }

    fn next_deadline(&self) -> Instant {
        let config = &self.shared.config;
        if let Phase::Lingering { until } = self.phase {
            return until;
        }
        let idle = self.is_idle().then(|| self.last_read + config.idle_timeout);
        let frame = self.frame_since.map(|since| since + config.frame_timeout);
        let write = self.unsent_since.map(|since| since + config.write_timeout);
        let far = self.now + config.idle_timeout;
        [idle, frame, write]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(far)
    }

    fn is_idle(&self) -> bool {
        self.out.is_empty() && self.outbox.in_flight() == 0 && self.backlog.is_empty()
    }

    fn time_is_up(&mut self) -> io::Result<()> {
        let config = &self.shared.config;
        let passed = |since: Option<Instant>, timeout: Duration| {
            since.is_some_and(|since| since + timeout <= self.now)
        };
        if passed(self.unsent_since, config.write_timeout) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if passed(self.frame_since, config.frame_timeout) {
            let why = format!("{:?} passed", config.frame_timeout);
            self.incomplete(&why);
        } else if self.phase == Phase::Open && self.is_idle() {
            let idle_since = self.last_read + config.idle_timeout;
            if idle_since <= self.now {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}
