//! Counts of what the server has done, and of what it holds.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use redial_protocol::ErrorCode;

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
    /// The same by error code.
    pub refusals: RefusalCounts,
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
    /// Calls that have left the queue to run.
    pub dequeued: u64,
    /// How long those have waited in it together.
    pub queue_delay: Duration,
    /// Connections open now.
    pub connections: usize,
    /// Commits of the store; 0 without one, or with one that doesn't say.
    pub commits: u64,
    /// The steps that those have made durable together: calls, and what else is recorded.
    pub committed: u64,
    /// The most steps of one commit.
    pub largest_commit: u64,
}

/// The codes that are counted by themselves. All others share the last place.
const CODES: [ErrorCode; 14] = [
    ErrorCode::PARSE_ERROR,
    ErrorCode::INVALID_REQUEST,
    ErrorCode::METHOD_NOT_FOUND,
    ErrorCode::INVALID_PARAMS,
    ErrorCode::INTERNAL_ERROR,
    ErrorCode::OVERLOADED,
    ErrorCode::DEADLINE_PASSED,
    ErrorCode::ID_REUSED,
    ErrorCode::OUTCOME_UNKNOWN,
    ErrorCode::UNAUTHENTICATED,
    ErrorCode::SHUTTING_DOWN,
    ErrorCode::STALE,
    ErrorCode::INTERRUPTED,
    ErrorCode::FORBIDDEN,
];

/// How many attempts were refused with each error code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts([u64; CODES.len() + 1]);

impl RefusalCounts {
    /// With this code. 0 for one that is not of this protocol: those are counted together, in
    /// [`iter`](Self::iter).
    #[must_use]
    pub fn of(&self, code: ErrorCode) -> u64 {
        let at = CODES.iter().position(|known| *known == code);
        at.map_or(0, |at| self.0[at])
    }

    /// Each code that an attempt was refused with, and how many were; all that are not of this protocol
    /// under `None`.
    pub fn iter(&self) -> impl Iterator<Item = (Option<ErrorCode>, u64)> {
        let codes = CODES.into_iter().map(Some).chain([None]);
        codes.zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// Where a code is counted.
fn place(code: ErrorCode) -> usize {
    let at = CODES.iter().position(|known| *known == code);
    at.unwrap_or(CODES.len())
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    started: AtomicU64,
    finished: AtomicU64,
    timed_out: AtomicU64,
    joined: AtomicU64,
    replayed: AtomicU64,
    refused: [AtomicU64; CODES.len() + 1],
    failed_handshakes: AtomicU64,
    dequeued: AtomicU64,
    queue_delay_us: AtomicU64,
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
            EventKind::Refused(code) => &self.refused[place(code)],
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
            commits: self.commits.load(Relaxed),
            committed: self.committed.load(Relaxed),
            largest_commit: self.largest_commit.load(Relaxed),
            ..Stats::default()
        }
    }
}
