//! One end of a connection. What is written here arrives at the other end in the same order, after
//! a while and in other pieces, until the connection breaks.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Net,
    tap::{self, Splitter},
};
use crate::{
    clock,
    frost::Frost,
    journal::{Event, Frame},
    rng::Rng,
};

/// How many bytes may be in flight in one direction before the writer has to wait.
const WINDOW_BYTES: usize = 64 * 1024;

/// One end of a connection.
pub(crate) struct Wire {
    link: Arc<Link>,
    side: usize,
    timer: Pin<Box<Sleep>>,
    /// Holds the process at this end.
    pub(super) frost: Frost,
}

/// A connection: what both ends share.
pub(crate) struct Link {
    pub(super) number: u32,
    /// The client that opened it; none if the middlebox did.
    pub(super) client: Option<u32>,
    /// Where it was made to, if there are several addresses.
    address: Option<u32>,
    /// The server that has accepted it.
    server: AtomicU32,
    net: Net,
    state: Mutex<LinkState>,
}

/// Whose connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    All,
    Client(u32),
    Server(u32),
    Address(u32),
}

struct LinkState {
    rng: Rng,
    /// For what is odd about it.
    odd: Rng,
    /// The id of the latest call.
    asked: Option<String>,
    /// From the client, and to it.
    lanes: [Lane; 2],
    /// Nothing gets through any more, and both ends see an error.
    is_broken: bool,
    /// The journal has its `Event::Closed`.
    is_closed: bool,
    cut: Option<Cut>,
}

/// A break to come, once one direction has carried so many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) lane: usize,
    pub(super) after_bytes: usize,
    pub(super) kind: CutKind,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutKind {
    /// Both ends notice.
    Break,
    /// Nothing gets through any more, and neither end notices.
    Silent,
    /// The same in this one direction; the other goes on.
    Swallow,
}

#[derive(Default)]
struct Lane {
    in_flight: VecDeque<Piece>,
    bytes_in_flight: usize,
    carried: usize,
    /// Nothing gets through any more.
    is_swallowed: bool,
    /// When the last piece arrives: bytes stay in order.
    last: Option<Instant>,
    /// When the reader sees the end of the stream.
    end: Option<Instant>,
    /// The reading end has been dropped.
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    splitter: Splitter,
}

struct Piece {
    at: Instant,
    bytes: Vec<u8>,
    taken: usize,
}

impl Link {
    pub(super) fn pair(
        net: &Net,
        number: u32,
        client: Option<u32>,
        address: Option<u32>,
        [rng, odd]: [Rng; 2],
        cut: Option<Cut>,
    ) -> (Wire, Wire, Arc<Self>) {
        let link = Arc::new(Self {
            number,
            client,
            address,
            server: AtomicU32::new(u32::MAX),
            net: net.clone(),
            state: Mutex::new(LinkState {
                rng,
                odd,
                asked: None,
                lanes: [Lane::default(), Lane::default()],
                is_broken: false,
                is_closed: false,
                cut,
            }),
        });
        let wire = |side| Wire {
            link: link.clone(),
            side,
            timer: Box::pin(sleep_until(clock::now())),
            frost: Frost::default(),
        };
        (wire(0), wire(1), link.clone())
    }

    pub(super) fn is_of(&self, whose: Whose) -> bool {
        match whose {
            Whose::All => true,
            Whose::Client(number) => self.client == Some(number),
            Whose::Server(number) => self.server.load(Relaxed) == number,
            Whose::Address(number) => self.address == Some(number),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks the connection: what is in flight is lost, and both ends see an error.
    pub(crate) fn break_now(&self) {
        let mut state = self.lock();
        state.is_broken = true;
        self.note_closed(&mut state);
        let wakers: Vec<Waker> = state.lanes.iter_mut().flat_map(Lane::wakers).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Swallows what is written from now on, in both directions. Neither end notices.
    pub(super) fn swallow(&self) {
        let mut state = self.lock();
        state.cut = None;
        for lane in &mut state.lanes {
            lane.is_swallowed = true;
        }
        self.note_closed(&mut state);
        drop(state);
        self.net.note_cut(self.number, CutKind::Silent);
    }

    /// When something that is written now arrives.
    fn arrival(&self, state: &mut LinkState, lane: usize) -> Instant {
        let delay = self.net.delay(&mut state.rng);
        let at = (clock::now() + delay).max(state.lanes[lane].last.unwrap_or_else(clock::now));
        let at = self.net.after_partitions(self.client, at);
        state.lanes[lane].last = Some(at);
        at
    }

    /// Puts bytes in flight, up to where the connection breaks.
    fn carry(self: &Arc<Self>, state: &mut LinkState, lane: usize, bytes: &[u8]) {
        let cut = state.cut.filter(|cut| cut.lane == lane);
        let room = cut.map_or(usize::MAX, |cut| {
            cut.after_bytes.saturating_sub(state.lanes[lane].carried)
        });
        let carried = &bytes[..bytes.len().min(room)];
        state.lanes[lane].carried += carried.len();
        self.put_in_flight(state, lane, carried);
        self.tap(state, lane, carried);
        if lane == 1 && self.client.is_some() && state.lanes[lane].splitter.is_between_frames() {
            let unasked = self
                .net
                .unasked(self.number, &mut state.odd, state.asked.as_deref());
            if let Some(body) = unasked {
                self.put_in_flight(state, lane, &tap::framed(body.as_bytes()));
            }
        }
        if let Some(cut) = cut.filter(|_| carried.len() < bytes.len()) {
            self.cut_off(state, lane, cut.kind);
            self.swallows(state, lane, &bytes[carried.len()..]);
        }
    }

    fn put_in_flight(&self, state: &mut LinkState, lane: usize, bytes: &[u8]) {
        let pieces = self.net.split(&mut state.rng, bytes);
        for piece in pieces {
            let at = self.arrival(state, lane);
            let lane = &mut state.lanes[lane];
            lane.bytes_in_flight += piece.len();
            lane.in_flight.push_back(Piece {
                at,
                bytes: piece.to_vec(),
                taken: 0,
            });
        }
    }

    /// Cuts the connection: new bytes are lost at once, and the two ends notice when what is in
    /// flight has arrived.
    fn cut_off(self: &Arc<Self>, state: &mut LinkState, lane: usize, kind: CutKind) {
        for (index, other) in state.lanes.iter_mut().enumerate() {
            other.is_swallowed |= index == lane || kind != CutKind::Swallow;
        }
        state.cut = None;
        self.note_closed(state);
        let (number, net) = (self.number, &self.net);
        net.note_cut(number, kind);
        if kind != CutKind::Break {
            return;
        }
        let (link, at) = (self.clone(), state.lanes[lane].last);
        tokio::spawn(async move {
            if let Some(at) = at {
                // The last byte can be read first.
                tokio::time::sleep_until(at + Duration::from_millis(1)).await;
            }
            link.break_now();
        });
    }

    /// Notes once that the connection has closed.
    fn note_closed(&self, state: &mut LinkState) {
        if !std::mem::replace(&mut state.is_closed, true) {
            self.net.journal().note(Event::Closed { wire: self.number });
        }
    }

    /// A client answers what the peer has asked.
    fn refused(&self, frame: &Frame) {
        let text = format!("wire {} -> an answer: {}", self.number, frame.text);
        self.net.journal().remark(text);
    }

    /// What the client takes for written, and does not arrive.
    fn swallows(&self, state: &mut LinkState, lane: usize, bytes: &[u8]) {
        if lane == 0 && self.client.is_some() {
            for body in state.lanes[lane].splitter.feed(bytes) {
                let frame = tap::read(self.number, false, &body);
                self.net.journal().note(Event::Swallowed(frame.into()));
            }
        }
    }

    fn tap(&self, state: &mut LinkState, lane: usize, bytes: &[u8]) {
        for body in state.lanes[lane].splitter.feed(bytes) {
            let mut frame = tap::read(self.number, self.client.is_none(), &body);
            frame.arrives = self.net.age_at(state.lanes[lane].last);
            if lane == 0 && frame.method.is_none() {
                self.refused(&frame);
                continue;
            }
            let frame = Arc::new(frame);
            match lane {
                0 => {
                    if frame.tag.is_some() {
                        state.asked.clone_from(&frame.id);
                    }
                    self.net.journal().note(Event::Sent(frame.clone()));
                    if self.client.is_some() {
                        self.net.overhear(&frame, &body, self.address);
                    }
                }
                _ if frame.method.is_some() && frame.id.is_none() => {
                    self.net.journal().note(Event::Notified(frame));
                }
                _ => {
                    if frame.text.contains(r#""state":"never""#) {
                        self.net.overhear(&frame, &body, self.address);
                    }
                    self.net.journal().note(Event::Answered(frame));
                }
            }
        }
    }
}

impl Lane {
    fn wakers(&mut self) -> Vec<Waker> {
        self.reader
            .take()
            .into_iter()
            .chain(self.writer.take())
            .collect()
    }

    /// When there is something to be read next.
    fn next(&self) -> Option<Instant> {
        self.in_flight.front().map(|piece| piece.at).or(self.end)
    }

    fn read(&mut self, buffer: &mut ReadBuf<'_>) {
        let Some(piece) = self.in_flight.front_mut() else {
            return;
        };
        let rest = &piece.bytes[piece.taken..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        piece.taken += count;
        self.bytes_in_flight -= count;
        if piece.taken == piece.bytes.len() {
            self.in_flight.pop_front();
        }
    }
}

impl Wire {
    pub(crate) fn number(&self) -> u32 {
        self.link.number
    }

    /// Where it was made to, if there are several addresses.
    pub(crate) fn address(&self) -> Option<u32> {
        self.link.address
    }

    /// This server has accepted the connection.
    pub(crate) fn is_served_by(&self, server: u32) {
        self.link.server.store(server, Relaxed);
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection broke")
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let lane = 1 - this.side;
        if this.frost.holds(context) {
            return Poll::Pending;
        }
        loop {
            let mut state = this.link.lock();
            if state.is_broken {
                return Poll::Ready(Err(broken()));
            }
            let lane = &mut state.lanes[lane];
            lane.reader = Some(context.waker().clone());
            let Some(at) = lane.next() else {
                return Poll::Pending;
            };
            if at <= clock::now() {
                lane.read(buffer);
                let writer = lane.writer.take();
                drop(state);
                writer.into_iter().for_each(Waker::wake);
                return Poll::Ready(Ok(()));
            }
            drop(state);
            this.timer.as_mut().reset(at);
            if this.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.frost.holds(context) {
            return Poll::Pending;
        }
        let mut state = self.link.lock();
        let lane = self.side;
        if state.is_broken || state.lanes[lane].is_unread {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.lanes[lane].is_swallowed {
            // As on a dead link, writes succeed until the send buffer is full.
            state.lanes[lane].bytes_in_flight += bytes.len();
        }
        if state.lanes[lane].bytes_in_flight >= WINDOW_BYTES {
            state.lanes[lane].writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = self.link.net.accepts(&mut state.rng, bytes.len());
        if state.lanes[lane].is_swallowed {
            self.link.swallows(&mut state, lane, &bytes[..count]);
        } else {
            self.link.carry(&mut state, lane, &bytes[..count]);
        }
        let reader = state.lanes[lane].reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &self.link;
        let mut state = link.lock();
        link.note_closed(&mut state);
        if state.lanes[self.side].end.is_none() && !state.lanes[self.side].is_swallowed {
            state.lanes[self.side].end = Some(link.arrival(&mut state, self.side));
        }
        let reader = state.lanes[self.side].reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    /// The other end reads what is in flight, and then the end of the stream.
    fn drop(&mut self) {
        let link = &self.link;
        let mut state = link.lock();
        link.note_closed(&mut state);
        if state.lanes[self.side].end.is_none() && !state.lanes[self.side].is_swallowed {
            state.lanes[self.side].end = Some(link.arrival(&mut state, self.side));
        }
        let other = &mut state.lanes[1 - self.side];
        other.is_unread = true;
        let writer = other.writer.take();
        let reader = state.lanes[self.side].reader.take();
        drop(state);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }
}
