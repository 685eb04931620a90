//! What the server has done, and what it holds, at one moment.

use std::time::Duration;

use redial_protocol::ErrorCode;

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
    /// Calls that were refused because they were queued for too long while there was
    /// [overload](crate::Overload).
    pub shed: u64,
    /// Calls that have left the queue because no caller waited for them any more.
    pub given_up: u64,
    /// Calls that have left a full queue for another one.
    pub displaced: u64,
    /// Calls that were refused because the queue was full.
    pub queue_full: u64,
    /// Whether calls are queued for too long now, over all callers.
    pub overloaded: bool,
    /// How many calls may run at once now: [`max_running`](crate::Config::max_running), or fewer where more
    /// come to nothing.
    pub running_limit: usize,
    /// Connections open now.
    pub connections: usize,
    /// Commits of the store; 0 without one, or with one that doesn't say.
    pub commits: u64,
    /// The steps that those have made durable together: calls, and what else is recorded.
    pub committed: u64,
    /// The most steps of one commit.
    pub largest_commit: u64,
}

/// The codes that are counted by themselves. All others share the last count.
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

/// So many kinds of refusals are counted.
pub(crate) const KINDS: usize = CODES.len() + 1;

/// How many attempts were refused with each error code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts(pub(crate) [u64; KINDS]);

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
pub(crate) fn index_of(code: ErrorCode) -> usize {
    let at = CODES.iter().position(|known| *known == code);
    at.unwrap_or(CODES.len())
}
