//! One connection: reads what is there, hands every whole frame to [`dispatch`](crate::dispatch),
//! and sends all replies that have gathered in one write. One task, one timer, no lock held
//! across a wait; bytes are read into a buffer that belongs to the thread, so that an idle
//! connection keeps none.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use redial_protocol::{Dialect, ErrorCode, ErrorObject, FrameDecoder, Id, Incoming, reply, rpc};
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
    waiter::{Form, write_reply},
};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// How many bytes of requests are held back before reading stops.
const HELD_BYTES: usize = 64 * 1024;

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
    /// Whole frames that were read and have to wait until some replies have left.
    held: VecDeque<Box<[u8]>>,
    held_bytes: usize,
    out: Vec<u8>,
    /// How much of `out` has been written.
    written: usize,
    cut: bool,
    protocol_errors: u32,
    now: Instant,
    /// When a byte last came or went.
    last_active: Instant,
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
        let timer_at = clock::after(now, shared.config.idle_timeout);
        Self {
            io,
            outbox,
            kit: Kit::new(shared.config.limits, now),
            decoder: FrameDecoder::new(shared.config.limits.max_frame_bytes),
            shared,
            peer,
            phase: Phase::Open,
            held: VecDeque::new(),
            held_bytes: 0,
            out: Vec::new(),
            written: 0,
            cut: false,
            protocol_errors: 0,
            now,
            last_active: now,
            frame_since: None,
            unsent_since: None,
            timer: Box::pin(tokio::time::sleep_until(timer_at.into())),
            timer_at,
        }
    }

    /// Serves the connection until it ends, for whatever reason. A transport error is only the
    /// end of this connection; the calls it brought go on.
    pub(crate) async fn run(&mut self) {
        let _: io::Result<()> = poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.now = clock::now();
        loop {
            // Asked before the outbox is emptied: whoever owes nothing any more, or has seen the
            // end of all executions, has put the last reply there before.
            let (settled, closing) = (self.outbox.in_flight() == 0, self.shared.is_closing());
            self.cut |= self.outbox.collect(&mut self.out, cx.waker());
            let flushed = self.poll_flush(cx)?;
            if self.cut || self.is_over(flushed, settled) {
                return Poll::Ready(Ok(()));
            }
            self.advance(flushed, closing);
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
                    self.last_active = self.now;
                }
                Poll::Pending => {
                    self.unsent_since.get_or_insert(self.now);
                    self.out.drain(..self.written);
                    self.written = 0;
                    return Ok(Poll::Pending);
                }
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(Pin::new(&mut self.io).poll_flush(cx)?)
    }

    /// Whether there is nothing left to do for this connection.
    fn is_over(&self, flushed: Poll<()>, settled: bool) -> bool {
        match self.phase {
            Phase::Finishing => flushed.is_ready() && settled && self.held.is_empty(),
            Phase::Lingering { until } => until <= self.now,
            Phase::Open | Phase::Closing => false,
        }
    }

    fn advance(&mut self, flushed: Poll<()>, closing: bool) {
        if closing && matches!(self.phase, Phase::Open | Phase::Finishing) {
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
            Phase::Open | Phase::Finishing if !self.held.is_empty() && self.has_room() => {
                self.take_in_held();
                Ok(Poll::Ready(()))
            }
            Phase::Open if self.is_clogged() || self.held_bytes >= HELD_BYTES => {
                // The rest of a frame that is not read can't be late.
                self.frame_since = None;
                Ok(Poll::Pending)
            }
            Phase::Open => {
                if self.decoder.is_mid_frame() {
                    self.frame_since.get_or_insert(self.now);
                }
                self.poll_read(cx)
            }
            Phase::Finishing | Phase::Closing => Ok(Poll::Pending),
            Phase::Lingering { .. } => self.poll_linger(cx),
        }
    }

    /// Whether another call may be taken on.
    fn has_room(&self) -> bool {
        self.outbox.in_flight() < self.shared.config.max_in_flight && !self.is_clogged()
    }

    /// Whether the peer has to take replies before it may cause more of them.
    fn is_clogged(&self) -> bool {
        let unsent = self.out.len() - self.written + self.outbox.gathering();
        unsent >= self.shared.config.unsent_pause_bytes
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
                self.last_active = self.now;
                self.take_in(&buffer[..count]);
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        };
        READ_BUFFER.set(buffer);
        polled
    }

    /// Takes in what was read: hands over every whole frame, or holds it back. What passes every
    /// queue passes this one too: a peer that hears nothing for long asks whether anybody is there.
    fn take_in(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        // Kept from before it is asked whether the server is stopping until what was taken on has
        // a task of its own: a shutdown waits for both.
        let _taking_on = self.shared.executions.token();
        // Out of the way, so that a frame in it can be looked at while the rest is changed.
        let mut decoder = std::mem::replace(&mut self.decoder, FrameDecoder::new(0));
        let mut any_whole = false;
        self.kit.begin(self.now);
        while self.phase != Phase::Closing && !self.cut {
            match decoder.next_frame(&mut input) {
                Ok(Some(frame)) => {
                    any_whole = true;
                    let is_next = self.held.is_empty() && self.has_room();
                    if is_next || !self.is_clogged() && self.passes_queues(frame) {
                        self.hand_over(frame);
                    } else {
                        self.hold(frame);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let detail = format!("{error}; the stream can't be followed any further");
                    self.protocol_error(&detail);
                }
            }
        }
        self.kit.settle(&self.shared);
        // A frame that was whole has had its time; the one that is not began with this read.
        let since = self.frame_since.filter(|_| !any_whole).unwrap_or(self.now);
        let is_waited_for = self.phase == Phase::Open && decoder.is_mid_frame();
        self.frame_since = is_waited_for.then_some(since);
        self.decoder = decoder;
    }

    /// Hands over what was held back, as far as there is room now.
    fn take_in_held(&mut self) {
        let _taking_on = self.shared.executions.token();
        self.kit.begin(self.now);
        while self.phase != Phase::Closing
            && !self.cut
            && self.has_room()
            && let Some(frame) = self.held.pop_front()
        {
            self.held_bytes -= frame.len();
            self.hand_over(&frame);
        }
        self.kit.settle(&self.shared);
    }

    fn hold(&mut self, frame: &[u8]) {
        self.held_bytes += frame.len();
        self.held.push_back(frame.into());
    }

    fn passes_queues(&self, frame: &[u8]) -> bool {
        let parsed = Incoming::parse(frame, &self.shared.config.limits);
        // All but the one that may be answered later, like a call.
        let passes = |method: &str| method.starts_with("rpc.") && method != rpc::RESOLVE;
        matches!(parsed, Ok(Incoming::Request(request)) if passes(&request.method))
    }

    fn hand_over(&mut self, frame: &[u8]) {
        let mut turn = Turn {
            shared: &self.shared,
            outbox: &self.outbox,
            out: &mut self.out,
            kit: &mut self.kit,
            peer: self.peer,
            now: self.now,
            cut: false,
        };
        let result = turn.frame(frame);
        self.cut |= turn.cut;
        self.protocol_errors += u32::from(result.is_err());
        if self.protocol_errors >= self.shared.config.max_protocol_errors {
            self.phase = Phase::Closing;
        }
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
        let id = Id::NULL.raw();
        write_reply(&mut self.out, Dialect::JsonRpc2, id, &outcome, Form::Reply);
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
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        self.kit.give_back_memory(KEEP_BYTES);
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
        let idle = self
            .is_idle()
            .then(|| clock::after(self.last_active, config.idle_timeout));
        let frame = self
            .frame_since
            .map(|since| clock::after(since, config.frame_timeout));
        let write = self
            .unsent_since
            .map(|since| clock::after(since, config.write_timeout));
        let far = clock::after(self.now, config.idle_timeout);
        [idle, frame, write]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(far)
    }

    fn is_idle(&self) -> bool {
        self.out.is_empty() && self.outbox.in_flight() == 0 && self.held.is_empty()
    }

    fn time_is_up(&mut self) -> io::Result<()> {
        let config = &self.shared.config;
        let passed = |since: Option<Instant>, timeout: Duration| {
            since.is_some_and(|since| clock::after(since, timeout) <= self.now)
        };
        if passed(self.unsent_since, config.write_timeout) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if passed(self.frame_since, config.frame_timeout) {
            let why = format!("{:?} passed", config.frame_timeout);
            self.incomplete(&why);
            return Ok(());
        }
        let is_idle = self.phase == Phase::Open && self.is_idle();
        if is_idle && passed(Some(self.last_active), config.idle_timeout) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}
