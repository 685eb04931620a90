//! Counts of what the server has done, and of what it holds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::observe::EventKind;

/// A snapshot of what a server has done since it was built, and of what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Executions that started: queries, notifications and mutations.
    pub started: u64,
    /// Executions that finished.
    pub finished: u64,
    /// Executions that ran into their [`execution_timeout`](crate::Config::execution_timeout); they
    /// count as finished, too.
    pub timed_out: u64,
    /// Attempts that joined the execution of an earlier attempt.
    pub joined: u64,
    /// Attempts that were answered with a recorded reply.
    pub replayed: u64,
    /// Attempts that were refused before anything was executed.
    pub refused: u64,
    /// TLS handshakes that came to nothing: garbage, certificates that can't be verified, time.
    pub failed_handshakes: u64,
    /// Mutations with plain ids on record now, running and finished.
    pub records: usize,
    /// What they keep in memory, in bytes, as the table counts them.
    pub record_bytes: usize,
    /// Sessions now, with a connection or within their lease.
    pub sessions: usize,
    /// Calls of sessions that run now, or have an outcome that is not acknowledged.
    pub session_records: usize,
    /// What the records of all sessions keep in memory, in bytes, as the table counts them.
    pub session_bytes: usize,
    /// Calls running now.
    pub running: usize,
    /// Calls queued now.
    pub queued: usize,
    /// Connections open now.
    pub connections: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    started: AtomicU64,
    finished: AtomicU64,
    timed_out: AtomicU64,
    joined: AtomicU64,
    replayed: AtomicU64,
    refused: AtomicU64,
    failed_handshakes: AtomicU64,
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
            EventKind::Refused(_) => &self.refused,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            started: self.started.load(Relaxed),
            finished: self.finished.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            joined: self.joined.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            failed_handshakes: self.failed_handshakes.load(Relaxed),
            ..Stats::default()
        }
    }
}
