//! Counts of what the server has done.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    observe::EventKind,
    stats::{KINDS, RefusalCounts, Stats, index_of},
};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    started: AtomicU64,
    finished: AtomicU64,
    timed_out: AtomicU64,
    joined: AtomicU64,
    replayed: AtomicU64,
    refused: [AtomicU64; KINDS],
    failed_handshakes: AtomicU64,
    dequeued: AtomicU64,
    queue_delay_us: AtomicU64,
    shed: AtomicU64,
    given_up: AtomicU64,
    displaced: AtomicU64,
    queue_full: AtomicU64,
    commits: AtomicU64,
    committed: AtomicU64,
    largest_commit: AtomicU64,
}

/// Executions of one read that are not counted yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) started: u64,
    pub(crate) finished: u64,
}

impl Counters {
    #[cfg(feature = "tls")]
    pub(crate) fn count_failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Relaxed);
    }

    /// A call has left the queue to run, after so long.
    pub(crate) fn count_dequeued(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.dequeued.fetch_add(1, Relaxed);
        self.queue_delay_us.fetch_add(micros, Relaxed);
    }

    /// A call was refused because it was queued for too long.
    pub(crate) fn count_shed(&self) {
        self.shed.fetch_add(1, Relaxed);
    }

    /// A call has left the queue because no caller waits for it any more.
    pub(crate) fn count_given_up(&self) {
        self.given_up.fetch_add(1, Relaxed);
    }

    /// A call has left the queue because it was full, for another one.
    pub(crate) fn count_displaced(&self) {
        self.displaced.fetch_add(1, Relaxed);
    }

    /// A call was refused because the queue was full.
    pub(crate) fn count_queue_full(&self) {
        self.queue_full.fetch_add(1, Relaxed);
    }

    /// The store has made so many steps durable at once.
    pub(crate) fn count_commit(&self, steps: usize) {
        let steps = steps as u64;
        self.commits.fetch_add(1, Relaxed);
        self.committed.fetch_add(steps, Relaxed);
        self.largest_commit.fetch_max(steps, Relaxed);
    }

    pub(crate) fn add(&self, tally: Tally) {
        if tally.started > 0 {
            self.started.fetch_add(tally.started, Relaxed);
        }
        if tally.finished > 0 {
            self.finished.fetch_add(tally.finished, Relaxed);
        }
    }

    pub(crate) fn count(&self, kind: EventKind) {
        let counter = match kind {
            EventKind::Started => &self.started,
            EventKind::Finished => &self.finished,
            EventKind::TimedOut => &self.timed_out,
            EventKind::Joined => &self.joined,
            EventKind::Replayed => &self.replayed,
            EventKind::Refused(code) => &self.refused[index_of(code)],
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let refusals = RefusalCounts(self.refused.each_ref().map(|count| count.load(Relaxed)));
        Stats {
            started: self.started.load(Relaxed),
            finished: self.finished.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            joined: self.joined.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            refused: refusals.0.iter().sum(),
            refusals,
            failed_handshakes: self.failed_handshakes.load(Relaxed),
            dequeued: self.dequeued.load(Relaxed),
            queue_delay: Duration::from_micros(self.queue_delay_us.load(Relaxed)),
            shed: self.shed.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
            displaced: self.displaced.load(Relaxed),
            queue_full: self.queue_full.load(Relaxed),
            commits: self.commits.load(Relaxed),
            committed: self.committed.load(Relaxed),
            largest_commit: self.largest_commit.load(Relaxed),
            ..Stats::default()
        }
    }
}
