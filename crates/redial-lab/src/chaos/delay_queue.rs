//! Requests that the proxy has kept, and that reach the server later, each on a connection of its own.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::event_log::{ChaosEvent, EventLog};
use crate::harness::{
    clock::{self, Deadline},
    endpoint::{Endpoint, Stream},
};

/// How often the queue is looked through.
const LOOK: Duration = Duration::from_millis(5);
/// A connection stays open for so long, so that its request is worked off, and is then closed with
/// its reply unread.
const KEPT: Duration = Duration::from_secs(1);

/// A frame, and when it is due.
struct DelayedFrame {
    due: Instant,
    frame: Vec<u8>,
}

/// Takes frames and delivers them later.
#[derive(Clone)]
pub(crate) struct DelayQueue {
    frames: Sender<DelayedFrame>,
    state: Arc<QueueState>,
}

#[derive(Default)]
struct QueueState {
    /// How many frames have not been delivered and worked off.
    waiting: AtomicUsize,
    /// Whether all of them are due.
    is_hurried: AtomicBool,
}

/// The thread that delivers them.
struct Deliverer {
    server: Endpoint,
    log: EventLog,
    frames: Receiver<DelayedFrame>,
    state: Arc<QueueState>,
    waiting: Vec<DelayedFrame>,
    open: Vec<(Instant, Stream)>,
}

impl DelayQueue {
    /// Starts to deliver to this server. It ends when the last clone is gone.
    pub(crate) fn start(server: Endpoint, log: EventLog) -> Self {
        let (frames, inbox) = mpsc::channel();
        let state = Arc::<QueueState>::default();
        let deliverer = Deliverer {
            server,
            log,
            frames: inbox,
            state: Arc::clone(&state),
            waiting: Vec::new(),
            open: Vec::new(),
        };
        thread::spawn(move || deliverer.work());
        Self { frames, state }
    }

    /// Delivers the frame after so long, or as soon as there is a server after that.
    pub(crate) fn push(&self, frame: Vec<u8>, after: Duration) {
        self.state.waiting.fetch_add(1, Ordering::AcqRel);
        let due = clock::now() + after;
        // The deliverer ends only after the last sender is gone.
        let _ = self.frames.send(DelayedFrame { due, frame });
    }

    /// Delivers everything at once, gives the server the time to work it off, and returns whether that
    /// took at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        self.state.is_hurried.store(true, Ordering::Release);
        let deadline = Deadline::after(limit);
        while self.state.waiting.load(Ordering::Acquire) > 0 {
            if deadline.has_passed() {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }
}

impl Deliverer {
    fn work(mut self) {
        loop {
            match self.frames.recv_timeout(LOOK) {
                Ok(frame) => self.waiting.push(frame),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = clock::now();
            let all = self.state.is_hurried.load(Ordering::Acquire);
            let is_due = |frame: &DelayedFrame| all || frame.due <= now;
            let (due, waiting) = self.waiting.drain(..).partition(is_due);
            self.waiting = waiting;
            for frame in due {
                self.deliver(frame, now);
            }
            let before = self.open.len();
            self.open.retain(|(opened, _)| *opened + KEPT > now);
            let closed = before - self.open.len();
            self.state.waiting.fetch_sub(closed, Ordering::AcqRel);
        }
    }

    fn deliver(&mut self, delayed: DelayedFrame, now: Instant) {
        let connected = self.server.connect();
        let written = connected.and_then(|to| (&to).write_all(&delayed.frame).map(|()| to));
        match written {
            Ok(connection) => {
                self.log.record(ChaosEvent::LetThrough);
                self.open.push((now, connection));
            }
            // The server is away. The next one is the best to send it to: it knows nothing of it.
            Err(_) => self.waiting.push(delayed),
        }
    }
}
