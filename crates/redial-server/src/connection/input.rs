//! What a connection does with the bytes that it reads.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use redial_protocol::{ErrorObject, FrameDecoder, Id, Incoming, rpc};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Connection, HeldFrame, Phase,
    large_frames::{LARGE_BYTES, MUCH_BYTES},
};
use crate::{dispatch::Dispatcher, refusal, waiter::write_unasked_error};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// How many bytes of requests wait in the backlog before reading stops.
const BACKLOG_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Reads what the peer has sent. Ready if there may be more to do.
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let has_next = !self.backlog.is_empty() && self.may_dispatch() && self.has_room();
        if !has_next {
            self.large_frame.end();
        }
        match self.phase {
            _ if has_next => {
                if self.poll_large_frame(cx).is_pending() {
                    self.pause_reading();
                    return Ok(Poll::Pending);
                }
                self.dispatch_backlog();
                Ok(Poll::Ready(()))
            }
            Phase::Open if self.is_clogged() || self.backlog_bytes >= BACKLOG_BYTES => {
                self.pause_reading();
                Ok(Poll::Pending)
            }
            Phase::Open => {
                if self.decoder.is_mid_frame() {
                    self.frame_since.get_or_insert(self.awake);
                }
                self.poll_read()
            }
            Phase::HalfClosed | Phase::Closing => Ok(Poll::Pending),
            Phase::Lingering { .. } => self.poll_linger(cx),
        }
    }

    /// Whether what was read is still dispatched.
    fn may_dispatch(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::HalfClosed)
    }

    /// Nothing is read for now, though there may be more.
    fn pause_reading(&mut self) {
        // The rest of a frame that is not read can't be late.
        self.frame_since = None;
        self.socket.on_pause(self.awake);
    }

    /// Ready unless the next frame is a large one, and others are looked at.
    fn poll_large_frame(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.backlog.front() {
            Some(frame) if frame.bytes.len() >= LARGE_BYTES => {
                self.large_frame.poll(&self.shared.large_frames, cx)
            }
            _ => Poll::Ready(()),
        }
    }

    fn poll_read(&mut self) -> io::Result<Poll<()>> {
        let mut buffer = READ_BUFFER.take();
        buffer.resize(READ_BYTES, 0);
        let mut unfilled = ReadBuf::new(&mut buffer);
        let mut cx = Context::from_waker(&self.arrivals);
        let polled = Pin::new(&mut self.io).poll_read(&mut cx, &mut unfilled);
        let count = unfilled.filled().len();
        let polled = match polled {
            Poll::Ready(Ok(())) if count == 0 => {
                self.on_end_of_input();
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Ok(())) => {
                self.last_active = self.awake;
                self.outbox.activity.note();
                self.socket.on_read(count, self.awake);
                self.moved += count;
                self.on_read(&buffer[..count]);
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => {
                self.on_nothing_read();
                Ok(Poll::Pending)
            }
        };
        READ_BUFFER.set(buffer);
        polled
    }

    /// Dispatches every whole frame of what was read, or adds it to the backlog. What passes every
    /// queue passes this one too: a peer that hears nothing for long asks whether the server is
    /// alive.
    fn on_read(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        // Held from before the server is asked whether it is draining until an admitted call has a
        // task of its own: a shutdown waits for both.
        let _admitting = self.shared.executions.token();
        // Out of the way, so that a frame in it can be looked at while the rest is changed.
        let mut decoder = std::mem::replace(&mut self.decoder, FrameDecoder::new(0));
        let mut any_whole = false;
        self.scratch.begin_read(self.now);
        while self.phase != Phase::Closing && !self.is_cut {
            match decoder.next_frame(&mut input) {
                Ok(Some(frame)) => {
                    any_whole = true;
                    // One that is large is not even looked at out of turn.
                    let is_small = frame.len() < LARGE_BYTES;
                    let is_next = is_small && self.backlog.is_empty() && self.has_room();
                    let may_pass = is_small && !self.is_clogged();
                    if is_next || may_pass && self.passes_queues(frame) {
                        self.dispatch_frame(frame, self.arrival());
                    } else {
                        self.backlog_bytes += frame.len();
                        self.backlog.push_back(HeldFrame {
                            arrived: self.arrival(),
                            bytes: frame.into(),
                        });
                    }
                }
                Ok(None) => break,
                Err(error) => self.on_protocol_error(&refusal::broken_stream(error)),
            }
        }
        self.scratch.end_read(&self.shared);
        // A frame that was whole has had its time; the one that is not began with this read.
        let since = self
            .frame_since
            .filter(|_| !any_whole)
            .unwrap_or(self.awake);
        let is_awaited = self.phase == Phase::Open && decoder.is_mid_frame();
        self.frame_since = is_awaited.then_some(since);
        self.decoder = decoder;
    }

    /// Dispatches what is in the backlog, as far as there is room now.
    fn dispatch_backlog(&mut self) {
        let _admitting = self.shared.executions.token();
        self.scratch.begin_read(self.now);
        let has_permit = self.large_frame.is_held();
        while self.phase != Phase::Closing
            && !self.is_cut
            && self.has_room()
            && let Some(frame) = self
                .backlog
                .pop_front_if(|it| has_permit || it.bytes.len() < LARGE_BYTES)
        {
            self.backlog_bytes -= frame.bytes.len();
            self.dispatch_frame(&frame.bytes, frame.arrived);
            if has_permit {
                // The permit goes once all others that are ready have gone first.
                self.moved = MUCH_BYTES;
                break;
            }
        }
        self.scratch.end_read(&self.shared);
    }

    fn passes_queues(&self, frame: &[u8]) -> bool {
        let parsed = Incoming::parse(frame, &self.shared.config.limits);
        let is_held_back = self.is_held_back();
        // All but the one that may be answered later, like a call; and while it is not known who calls,
        // only what needs no caller.
        let passes = |method: &str| match method {
            rpc::PING | rpc::HEALTH => true,
            rpc::RESOLVE => false,
            method => !is_held_back && method.starts_with("rpc."),
        };
        matches!(parsed, Ok(Incoming::Request(request)) if passes(&request.method))
    }

    fn dispatch_frame(&mut self, frame: &[u8], arrived: Instant) {
        let mut dispatcher = self.dispatcher(arrived);
        let result = dispatcher.frame(frame);
        let is_cut = dispatcher.is_cut;
        self.is_cut |= is_cut;
        if self.scratch.lookups.is_some() {
            self.take_back(frame, arrived);
        }
        self.protocol_errors += u32::from(result.is_err());
        if self.protocol_errors >= self.shared.config.max_protocol_errors {
            self.phase = Phase::Closing;
        }
    }

    /// Keeps a frame that has to wait for the store, before all others.
    #[inline(never)]
    fn take_back(&mut self, frame: &[u8], arrived: Instant) {
        let lookups = self.scratch.lookups.as_mut();
        if lookups.is_some_and(|lookups| lookups.takes_back()) {
            self.backlog_bytes += frame.len();
            self.backlog.push_front(HeldFrame {
                arrived,
                bytes: frame.into(),
            });
        }
    }

    /// Goes on with what was dispatched before.
    pub(super) fn dispatch(&mut self, go_on: impl FnOnce(&mut Dispatcher<'_>)) {
        self.scratch.begin_read(self.now);
        go_on(&mut self.dispatcher(self.awake));
        self.scratch.end_read(&self.shared);
    }

    fn dispatcher(&mut self, arrived: Instant) -> Dispatcher<'_> {
        Dispatcher {
            shared: &self.shared,
            outbox: &self.outbox,
            out: self.out.open(),
            scratch: &mut self.scratch,
            caller: &self.caller,
            now: self.now,
            awake: self.awake,
            arrived,
            is_cut: false,
        }
    }

    fn on_end_of_input(&mut self) {
        if self.decoder.is_mid_frame() {
            self.on_incomplete_frame("the stream ended");
        } else {
            self.phase = Phase::HalfClosed;
        }
    }

    /// A frame never became whole.
    pub(super) fn on_incomplete_frame(&mut self, why: &str) {
        let (got, of) = self.decoder.progress();
        self.on_protocol_error(&refusal::incomplete_frame(why, got, of));
    }

    /// Sends an error after which the stream can't go on, and closes the connection.
    pub(super) fn on_protocol_error(&mut self, error: &ErrorObject) {
        write_unasked_error(self.out.open(), error);
        let from = (self.outbox.number(), &self.caller);
        (self.shared).emit_refusal(error.code, Id::NULL.raw(), Some(from));
        self.frame_since = None;
        self.phase = Phase::Closing;
    }
}
