//! The drivers: one task per connection, which writes everything that is ready in one write and
//! hands out all the replies of one read at once.

mod decode;

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use redial_protocol::{FrameDecoder, IdPrefixCache};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::AbortHandle,
    time::{Sleep, sleep_until},
};

use self::decode::decode;
use crate::{
    client::{Shared, State},
    clock,
    connector::Connector,
    error::ConnectError,
    mux::{Chores, IDLE, Outgoing, Replies},
    retry::after,
};

/// How much is read at once, in bytes. A connection keeps a buffer of this size.
const READ_BYTES: usize = 64 * 1024;

/// How many reads in a row a connection may have before others get their turn.
const READS_PER_POLL: usize = 16;

/// How long a client that is gone takes to say what it is done with.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts drivers, whatever the type of their connections.
pub(crate) trait Drivers: Send + Sync {
    fn start(&self, shared: Arc<Shared>, link: usize) -> AbortHandle;
}

impl<C: Connector> Drivers for Arc<C> {
    fn start(&self, shared: Arc<Shared>, link: usize) -> AbortHandle {
        start(self.clone(), shared, link, None)
    }
}

/// Starts the driver of a link, with a connection if there is one already.
pub(crate) fn start<C: Connector>(
    connector: Arc<C>,
    shared: Arc<Shared>,
    link: usize,
    io: Option<C::Io>,
) -> AbortHandle {
    let guard = Guard {
        shared,
        link,
        is_done: false,
    };
    tokio::spawn(drive(connector, guard, io)).abort_handle()
}

/// Tells the calls that wait on a link when its driver is gone, even if it panicked or its
/// runtime ended: nobody may wait for ever.
struct Guard {
    shared: Arc<Shared>,
    link: usize,
    /// The link has been given back: another driver may have it by now.
    is_done: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let now = clock::now();
        let (shared, link) = (&self.shared, self.link);
        shared.with(|state| {
            // Nobody can say how much was written: all that was taken may have been.
            let reason = "its task ended";
            state.mux.lost(link, None, &shared.peer, reason, now);
            hold_off(state, shared, link, now);
            state.mux.abandon(link);
        });
    }
}

/// Serves one link for as long as there is something to send.
async fn drive<C: Connector>(connector: Arc<C>, mut guard: Guard, mut first: Option<C::Io>) {
    while !guard.is_done {
        let (shared, link) = (&guard.shared, guard.link);
        match first.take() {
            Some(io) => serve(io, shared, link).await,
            None => {
                if let Some(until) = shared.with(|state| state.mux.not_before(link)) {
                    sleep_until(until.into()).await;
                }
                match connector
                    .connect_within(shared.config.connect_timeout)
                    .await
                {
                    Ok(io) => serve(io, shared, link).await,
                    Err(error) => fail(error, shared, link),
                }
            }
        }
        guard.is_done = !shared.with(|state| state.mux.wants_connection(link));
    }
}

fn fail(error: io::Error, shared: &Shared, link: usize) {
    let error = ConnectError {
        peer: shared.peer.clone(),
        reason: Arc::new(error),
    };
    let now = clock::now();
    shared.with(|state| {
        state.mux.connect_failed(link, &error, now);
        hold_off(state, shared, link, now);
    });
}

/// Serves one connection to its end.
async fn serve<Io>(io: Io, shared: &Arc<Shared>, link: usize)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let now = clock::now();
    let preamble = shared.with(|state| state.mux.connected(link, now));
    let mut connection = Connection::new(io, shared, link, Outgoing::after(preamble));
    let reason = poll_fn(|context| connection.poll(context)).await;
    let (now, written) = (clock::now(), connection.outgoing.offset());
    shared.with(|state| {
        let peer = &shared.peer;
        state.mux.lost(link, Some(written), peer, &reason, now);
        hold_off(state, shared, link, now);
    });
}

/// Connections that were of no use are not made without pause.
fn hold_off(state: &mut State, shared: &Shared, link: usize, now: Instant) {
    let failures = state.mux.failures(link);
    if failures > 0 {
        let backoff = shared.config.reconnect;
        let wait = backoff.delay(failures, Duration::ZERO, &mut state.policy.jitter);
        state.mux.hold_off(link, after(now, wait));
    }
}

/// One connection that stands.
struct Connection<'a, Io> {
    io: Io,
    shared: &'a Shared,
    link: usize,
    outgoing: Outgoing,
    /// Something was written that may still lie in the transport.
    needs_flush: bool,
    decoder: FrameDecoder,
    /// How the id of the latest reply began.
    id_start: IdPrefixCache,
    buffer: Vec<u8>,
    replies: Replies,
    /// The calls of one read, woken all at once.
    woken: Vec<Waker>,
    silence: Silence,
    chores: Chores,
    chore_timer: Pin<Box<Sleep>>,
    /// When the next chore is due, if the timer runs.
    chore_at: Option<Instant>,
    /// When to look for acknowledgements.
    look_at: Option<Instant>,
    /// When the connection ends, whether or not everything is written.
    gone_at: Option<Instant>,
}

/// How long the server has said nothing although something was written to it.
struct Silence {
    timer: Pin<Box<Sleep>>,
    /// The timer runs. It is left to run while replies come in, and set anew only when it fires.
    is_armed: bool,
    /// Since when: the first byte written after the last one received, or the last one received
    /// if a call still waits. `None` if nothing is expected.
    since: Option<Instant>,
    /// Something was written after the last byte received. Whoever wrote it may have given up
    /// by now, which is no sign that the link works.
    has_written: bool,
    was_pinged: bool,
}

impl Silence {
    fn wrote(&mut self) {
        if !std::mem::replace(&mut self.has_written, true) {
            self.since = Some(clock::now());
        }
    }
}

impl<'a, Io: AsyncRead + AsyncWrite + Unpin> Connection<'a, Io> {
    fn new(io: Io, shared: &'a Shared, link: usize, outgoing: Outgoing) -> Self {
        let timer = || Box::pin(sleep_until(clock::now().into()));
        Self {
            io,
            shared,
            link,
            outgoing,
            needs_flush: false,
            decoder: FrameDecoder::new(shared.config.max_frame_bytes),
            id_start: IdPrefixCache::default(),
            buffer: vec![0; READ_BYTES],
            replies: Replies::default(),
            woken: Vec::new(),
            silence: Silence {
                timer: timer(),
                is_armed: false,
                since: None,
                has_written: false,
                was_pinged: false,
            },
            chores: Chores::default(),
            chore_timer: timer(),
            chore_at: None,
            look_at: None,
            gone_at: None,
        }
    }

    /// Ready, with the reason, when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<String> {
        self.poll_chores(context);
        let written = self.poll_write(context);
        // What the server said before it closed counts, so reading comes before giving up.
        if let Err(reason) = self.poll_read(context) {
            return Poll::Ready(reason);
        }
        if let Err(error) = written {
            return Poll::Ready(error.to_string());
        }
        if self.chores.is_closing && self.poll_last_words(context).is_ready() {
            return Poll::Ready("the client is gone".to_owned());
        }
        self.arm_chores(context);
        self.poll_silence(context)
    }

    /// Ready when the client is gone and everything is written, or has had its time.
    fn poll_last_words(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let until = *self
            .gone_at
            .get_or_insert_with(|| after(clock::now(), LAST_WORDS));
        if clock::now() >= until {
            return Poll::Ready(());
        }
        if !self.outgoing.ready().is_empty() || self.needs_flush {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_shutdown(context).map(drop)
    }

    /// Does what is due besides reading and writing.
    fn poll_chores(&mut self, context: &mut Context<'_>) {
        if self.chore_at.is_none() || self.chore_timer.as_mut().poll(context).is_pending() {
            return;
        }
        self.chore_at = None;
        let now = clock::now();
        let looks = self.look_at.take_if(|at| *at <= now).is_some();
        self.chores = self.shared.with(|state| {
            let mux = &mut state.mux;
            mux.ask_again(self.link, now);
            if looks {
                mux.look(self.link, now);
            }
            mux.chores(self.link)
        });
    }

    /// Sets the timer for what will be due next.
    fn arm_chores(&mut self, context: &mut Context<'_>) {
        match self.chores.watches {
            true => drop(
                self.look_at
                    .get_or_insert_with(|| after(clock::now(), IDLE)),
            ),
            false => self.look_at = None,
        }
        let next = [self.chores.hello_at, self.look_at, self.gone_at];
        let next = next.into_iter().flatten().min();
        if next != self.chore_at
            && let Some(at) = next
        {
            self.chore_timer.as_mut().reset(at.into());
            if self.chore_timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        self.chore_at = next;
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.outgoing.ready().is_empty() {
                let has_more = self.shared.with(|state| {
                    let mux = &mut state.mux;
                    let has_more = mux.exchange(self.link, &mut self.outgoing, context.waker());
                    self.chores = mux.chores(self.link);
                    has_more
                });
                if !has_more {
                    break;
                }
                continue;
            }
            match Pin::new(&mut self.io).poll_write(context, self.outgoing.ready()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.outgoing.advance(count);
                    self.needs_flush = true;
                    self.silence.wrote();
                }
                stopped => {
                    // Replies are put only to what is known to be written.
                    let offset = self.outgoing.offset();
                    // And a client that is gone has to be noticed though there is no room.
                    self.chores = self.shared.with(|state| {
                        state.mux.wrote(self.link, offset);
                        state.mux.listen_for_the_end(self.link, context.waker());
                        state.mux.chores(self.link)
                    });
                    return match stopped {
                        Poll::Ready(Err(error)) => Err(error),
                        _ => Ok(()),
                    };
                }
            }
        }
        if self.needs_flush && Pin::new(&mut self.io).poll_flush(context)?.is_ready() {
            self.needs_flush = false;
        }
        Ok(())
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
                let middle = self.decoder.is_mid_frame();
                let place = if middle {
                    " in the middle of a reply"
                } else {
                    ""
                };
                return Err(format!("the server closed it{place}"));
            }
            self.received(count)?;
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    /// Hands out the replies in the first `count` bytes of the buffer.
    fn received(&mut self, count: usize) -> Result<(), String> {
        let mut input = &self.buffer[..count];
        let broken = loop {
            match self.decoder.next_frame(&mut input) {
                Ok(Some(frame)) => {
                    if let Err(error) = decode(frame, &mut self.id_start, &mut self.replies) {
                        break Some(error.to_string());
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        let now = clock::now();
        let expecting = self.shared.with_many(&mut self.woken, |state| {
            state.mux.deliver(self.link, &mut self.replies, now)?;
            self.chores = state.mux.chores(self.link);
            Ok::<_, String>(state.mux.outstanding(self.link) > 0)
        })?;
        self.silence.since = expecting.then_some(now);
        self.silence.has_written = false;
        self.silence.was_pinged = false;
        broken.map_or(Ok(()), Err)
    }

    /// Asks a silent server for a sign of life, and gives it up if there is none.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<String> {
        let limit = self.shared.config.keepalive;
        loop {
            let Some(since) = self.silence.since else {
                return Poll::Pending;
            };
            let until = after(since, limit);
            if !std::mem::replace(&mut self.silence.is_armed, true) {
                self.silence.timer.as_mut().reset(until.into());
            }
            ready!(self.silence.timer.as_mut().poll(context));
            self.silence.is_armed = false;
            if clock::now() < until {
                continue;
            }
            if self.silence.was_pinged {
                return Poll::Ready(format!("no sign of life for {limit:?} after a ping"));
            }
            let has_written = self.silence.has_written;
            let expecting = self.shared.with(|state| {
                let expecting = has_written || state.mux.outstanding(self.link) > 0;
                if expecting {
                    state.mux.ping(self.link);
                }
                expecting
            });
            self.silence.since = expecting.then(clock::now);
            self.silence.was_pinged = expecting;
        }
    }
}
