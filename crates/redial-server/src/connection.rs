//! One connection: reads what is there, dispatches every whole frame, and sends all replies that
//! have gathered in one write. One task, one timer, no lock held across a wait; bytes are read into
//! a buffer that belongs to the thread, so that an idle connection keeps none.

mod age;
mod arrival;
mod drain;
mod entrance;
mod input;
pub(crate) mod large_frames;
mod socket_age;
mod timers;
mod unread;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use redial_protocol::FrameDecoder;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use self::{
    age::Age,
    arrival::arrival_waker,
    large_frames::{LargeFramePermit, MUCH_BYTES},
    socket_age::SocketAge,
};
use crate::{
    caller::Caller, clock, dispatch::ConnectionScratch, outbox::Outbox, send_buffer::SendBuffer,
    shared::Shared,
};

/// The write buffer is freed if it is empty and larger than this when there is nothing to do.
const KEEP_BYTES: usize = 4 * 1024;

/// How long a connection that is being closed waits for the peer to take note, so that the last
/// error reaches it: closing with unread bytes would reset the connection and lose it.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are read and answered.
    Open,
    /// The peer sends no more; the replies that it is owed are still sent.
    HalfClosed,
    /// No more requests are read; what is in the buffer is sent.
    Closing,
    /// Everything is sent; what arrives is discarded until the peer closes or the time is up.
    Lingering { until: Instant },
}

/// A frame that was read and waits.
struct HeldFrame {
    /// When it may have arrived at the earliest.
    arrived: Instant,
    bytes: Box<[u8]>,
}

pub(crate) struct Connection<S> {
    io: S,
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    /// Wakes the task when something has arrived.
    arrivals: Waker,
    scratch: ConnectionScratch,
    decoder: FrameDecoder,
    caller: Caller,
    phase: Phase,
    /// Whole frames that were read and have to wait until some replies have left.
    backlog: VecDeque<HeldFrame>,
    backlog_bytes: usize,
    /// To dispatch a large frame of the backlog.
    large_frame: LargeFramePermit,
    /// How many bytes have been read and written since it was last another connection's turn.
    moved: usize,
    out: SendBuffer,
    /// A fault rule has cut the connection.
    is_cut: bool,
    protocol_errors: u32,
    now: Instant,
    /// The same in [time awake](crate::awake), as are all times below.
    awake: Instant,
    /// When a byte last came or went.
    last_active: Instant,
    /// Since when something may lie unread in the socket.
    socket: SocketAge,
    /// Since when something may lie unread, as the table knows it.
    unread_since: Option<Instant>,
    /// Since when a frame has been incomplete.
    frame_since: Option<Instant>,
    /// Since when the peer has taken none of the bytes that wait for it.
    unsent_since: Option<Instant>,
    age: Age,
    /// The peer has heard that it is to send no more.
    has_announced: bool,
    /// Since when all calls have ended and the peer may have a last word.
    closing_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(io: S, shared: Arc<Shared>, outbox: Arc<Outbox>, caller: Caller) -> Self {
        let now = clock::now();
        let awake = shared.awake.at(now);
        let timer_at = clock::after(now, shared.config.idle_timeout);
        let age = match shared.connection_age() {
            Some(age) => Age::Until(clock::after(awake, age)),
            None => Age::Unlimited,
        };
        Self {
            io,
            arrivals: arrival_waker(&shared, &outbox),
            outbox,
            scratch: ConnectionScratch::new(&shared, &caller, now, awake),
            decoder: FrameDecoder::new(shared.config.limits.max_frame_bytes),
            shared,
            caller,
            phase: Phase::Open,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            large_frame: LargeFramePermit::None,
            moved: 0,
            out: SendBuffer::default(),
            is_cut: false,
            protocol_errors: 0,
            now,
            awake,
            last_active: awake,
            socket: SocketAge::default(),
            unread_since: None,
            frame_since: None,
            unsent_since: None,
            age,
            has_announced: false,
            closing_since: None,
            timer: Box::pin(tokio::time::sleep_until(timer_at.into())),
            timer_at,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// Serves the connection until it ends, for whatever reason. A transport error is only the
    /// end of this connection; the calls it brought go on.
    pub(crate) async fn run(&mut self) {
        let _: io::Result<()> = poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.read_clock();
        self.begin_reading();
        self.moved = 0;
        if self.large_frame.is_held() {
            self.large_frame.end();
        }
        loop {
            // Asked before the outbox is emptied: an execution that owes nothing any more, and a
            // shutdown that has seen the end of all executions, have put the last reply there
            // before.
            let (settled, closing) = (self.outbox.in_flight() == 0, self.shared.is_closing());
            self.is_cut |= self.outbox.collect(&mut self.out, cx.waker());
            // Behind half a frame nothing can follow.
            if self.phase == Phase::Open && !self.is_cut {
                if self.shared.is_draining() {
                    self.drain(settled, closing);
                } else if !matches!(self.age, Age::Unlimited) {
                    self.retire(settled);
                }
            }
            let flushed = self.poll_flush(cx)?;
            if self.is_cut || self.is_finished(flushed, settled) {
                return Poll::Ready(Ok(()));
            }
            self.advance(flushed, closing);
            if self.poll_entrance(cx).is_ready() || self.poll_lookup(cx).is_ready() {
                continue;
            }
            if self.poll_input(cx)?.is_ready() {
                if self.moved < MUCH_BYTES {
                    continue;
                }
                self.end_what_is_late()?;
                large_frames::give_way(cx);
                self.end_reading();
                return Poll::Pending;
            }
            self.shrink();
            if self.poll_timer(cx)?.is_pending() {
                self.end_reading();
                return Poll::Pending;
            }
        }
    }

    /// Writes what there is to write. Ready when nothing is left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, self.out.front())? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.out.advance(count);
                    self.moved += count;
                    self.unsent_since = None;
                    self.last_active = self.awake;
                    self.outbox.activity.note();
                }
                Poll::Pending => {
                    self.unsent_since.get_or_insert(self.awake);
                    return Ok(Poll::Pending);
                }
            }
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx)?;
        if flushed.is_pending() {
            // A transport with a buffer of its own, such as TLS, holds what the peer does not take.
            self.unsent_since.get_or_insert(self.awake);
        } else {
            self.unsent_since = None;
        }
        Ok(flushed)
    }

    /// Whether there is nothing left to do for this connection.
    fn is_finished(&self, flushed: Poll<()>, settled: bool) -> bool {
        match self.phase {
            Phase::HalfClosed => {
                let is_done = self.backlog.is_empty() || self.is_retired();
                flushed.is_ready() && settled && is_done
            }
            Phase::Lingering { until } => until <= self.awake,
            Phase::Open | Phase::Closing => false,
        }
    }

    fn advance(&mut self, flushed: Poll<()>, closing: bool) {
        if closing && self.phase == Phase::HalfClosed {
            self.phase = Phase::Closing;
        }
        if self.phase == Phase::Closing && flushed.is_ready() {
            self.phase = Phase::Lingering {
                until: self.awake + LINGER,
            };
        }
    }

    /// Whether another call may be dispatched.
    fn has_room(&self) -> bool {
        self.outbox.in_flight() < self.shared.config.max_in_flight
            && !self.is_clogged()
            && !self.is_held_back()
            && !self.is_retired()
    }

    /// Whether the peer has to take replies before it may cause more of them.
    fn is_clogged(&self) -> bool {
        let unsent = self.out.len() + self.outbox.gathering();
        unsent >= self.shared.config.unsent_pause_bytes
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if Pin::new(&mut self.io).poll_shutdown(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let mut discarded = [0; 1024];
        let mut buffer = ReadBuf::new(&mut discarded);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut buffer)?;
        if polled.is_ready() && buffer.filled().is_empty() {
            self.phase = Phase::Lingering { until: self.awake };
        }
        self.moved += buffer.filled().len();
        Ok(polled)
    }

    /// Frees what a busier time has left behind.
    fn shrink(&mut self) {
        self.out.shrink(KEEP_BYTES);
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        self.scratch.shrink(KEEP_BYTES);
    }
}
