//! The words that all parts of the table share: what an attempt brings, and what is decided about
//! it. Imports no other part.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redial_protocol::Limits;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

/// A hash of a method and its params; two attempts with different ones are not one call.
///
/// Two words rather than an array of them, which would go through memory where these stay in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64, u64);

impl Fingerprint {
    /// A 128-bit XXH3 of the raw params, seeded with the method's [`seed`](Self::seed).
    pub(crate) fn new(method_seed: u64, raw_params: &str) -> Self {
        Self::from_bits(xxh3_128_with_seed(raw_params.as_bytes(), method_seed))
    }

    /// The same as a number, as a store keeps it.
    pub(crate) fn bits(self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }

    pub(crate) fn from_bits(bits: u128) -> Self {
        Self((bits >> 64) as u64, bits as u64)
    }

    /// The part that depends on the method alone, computed once per method.
    pub(crate) fn seed(method: &str) -> u64 {
        xxh3_64(method.as_bytes())
    }
}

/// A call that a store has kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RestoredCall<'a> {
    Finished(Fingerprint, &'a [u8]),
    /// It will never run.
    Fenced,
    /// It is about to be run again.
    Running(Fingerprint),
}

/// How the restoring of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    /// It is on record again.
    Placed,
    /// It was acknowledged meanwhile, and is left out.
    Acknowledged,
    /// Its number lies further ahead than any window allows.
    TooFar,
}

/// What has come of running a call again that another server has left.
#[derive(Debug)]
pub(crate) enum TakenOver<W> {
    /// It is on record as running; who asks for it has to run it.
    Starts,
    /// It is running; the waiter was added.
    Runs,
    /// It has this outcome by now.
    Ended(W, Vec<u8>),
    /// It was acknowledged meanwhile.
    Acknowledged(W),
}

/// One attempt of a call, as the table sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) deadline: Option<Instant>,
    /// When it may have arrived at the earliest, in [time awake](crate::awake).
    pub(crate) now: Instant,
    /// Which sending of the call this is, from 1.
    pub(crate) number: u32,
    /// Its client numbers attempts. One that doesn't repeats the bytes of the first, and by sending
    /// them again withdraws what it concluded from a refusal.
    pub(crate) is_numbered: bool,
    /// The caller has acknowledged every call of the session below this number.
    pub(crate) ack: Option<u64>,
    /// Another call of the same session, to be recorded in the same step.
    pub(crate) deferred: Option<DeferredOutcome<'a>>,
}

impl Attempt<'_> {
    /// What is kept of its number if it is refused. A number above that is left, so that some attempt
    /// can always be made: a refusal of that one says that the call may be executed.
    pub(crate) fn notable(&self) -> u32 {
        self.number.min(Limits::MAX_ATTEMPT - 1)
    }
}

/// A call of a session that has finished and is not on record yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeferredOutcome<'a> {
    pub(crate) number: u64,
    pub(crate) outcome: &'a [u8],
}

/// A call that admission has let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted<T> {
    pub(crate) ticket: T,
    /// Its handler starts in the same step, so that the call can't be cancelled any more.
    pub(crate) starts_now: bool,
}

/// What the table decides about an attempt.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision<T, R> {
    /// The call is new and on record as running; the caller of `begin` has to run it.
    Start(T),
    /// The call is running; the waiter was added.
    Joined,
    /// The call is finished; its outcome was appended to the buffer.
    Replayed,
    /// The id belongs to another call.
    IdReused,
    /// The call is running and has as many waiters as it may have.
    TooManyJoined,
    /// A new call, and no room for its record until then.
    Full { retry_after: Duration },
    /// A new call of a principal that has its share of the records, until then.
    ShareFull { retry_after: Duration },
    /// A new call, which admission refused.
    Refused(R),
    /// This very attempt was refused before, and its caller may know: all up to this number were.
    RefusedBefore { up_to: u32 },
    /// A call that is new, or one that was forgotten while the attempt lay unread.
    Forgotten,
    /// A new call beyond the window of its session, or its memory.
    NoSlot,
    /// A new call so far beyond the window that it is not even noted as refused.
    FarBeyondWindow,
    /// The caller has acknowledged the call.
    Acknowledged,
    /// The call was cancelled or resolved before it ran, and never will run.
    Fenced,
}

/// Waiters that have to hear of calls other than the one that was asked about.
#[derive(Debug)]
pub(crate) struct ToNotify<W> {
    /// They wait for the deferred call, which is on record now.
    pub(crate) joined: Vec<W>,
    /// They wait for calls that the attempt acknowledged.
    pub(crate) acknowledged: Option<AckedWaiters<W>>,
}

impl<W> Default for ToNotify<W> {
    fn default() -> Self {
        Self {
            joined: Vec::new(),
            acknowledged: None,
        }
    }
}

/// Those who wait for calls that their caller has acknowledged.
#[derive(Debug, PartialEq)]
pub(crate) struct AckedWaiters<W> {
    /// For calls whose handler has started.
    pub(crate) started: Vec<W>,
    /// For calls that have not started and never will.
    pub(crate) never: Vec<W>,
    /// The numbers of the latter, which may still be queued.
    pub(crate) queued: Vec<u64>,
}

impl<W> Default for AckedWaiters<W> {
    fn default() -> Self {
        Self {
            started: Vec::new(),
            never: Vec::new(),
            queued: Vec::new(),
        }
    }
}

/// Whether a call may start whose handler did not start at once.
#[derive(Debug, PartialEq)]
pub(crate) enum StartCheck<W> {
    /// It may, and can't be cancelled any more.
    Start,
    /// The deadlines of all its attempts have passed. It was released; these have joined it.
    Expired(Vec<W>),
    /// It was cancelled meanwhile, and its waiters have heard so.
    Cancelled,
    /// None of its attempts has a connection any more. It was released; these have joined it.
    Unheard(Vec<W>),
}

impl<W> StartCheck<W> {
    /// Whether the call will not start.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Start)
    }
}

/// What is known of a call whose outcome is asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Resolved {
    /// It is running; the waiter was added.
    Joined,
    /// It is running and has as many waiters as it may have.
    TooManyJoined,
    /// It is finished; its outcome was appended to the buffer.
    Done,
    /// It was not executed and never will be.
    Never,
    /// Its caller has acknowledged it.
    Acknowledged,
    /// There is no slot for it.
    NoSlot,
    /// There is no record of it, and there may have been one.
    Unknown,
}

/// What happened to a call that its caller cancels.
#[derive(Debug, PartialEq)]
pub(crate) enum Cancelled<W> {
    /// It was not executed and never will be. If it was queued, these waited for it.
    Never(Option<Vec<W>>),
    /// It is running.
    Running,
    /// It was executed before.
    Done,
    /// Its caller has acknowledged it.
    Acknowledged,
    /// There is no slot for it.
    NoSlot,
}

/// An attempt that waits for an outcome.
pub(crate) trait TableWaiter {
    /// Whether its connection is still there to take a reply.
    fn is_connected(&self) -> bool;

    /// Whether it only asks for the outcome (`rpc.resolve`), and is no attempt of the call.
    fn is_question(&self) -> bool;
}

/// What all attempts of a running call want: when the last of them gives up, and who they are.
#[derive(Debug)]
pub(crate) struct Interest<W> {
    /// The latest of the attempts' deadlines; `None` if one of them has none.
    pub(crate) deadline: Option<Instant>,
    pub(crate) waiters: Vec<W>,
}

impl<W> Interest<W> {
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            waiters: Vec::new(),
        }
    }

    /// Adds an attempt: the call may start while the deadline of any of them lies ahead.
    pub(crate) fn join(&mut self, waiter: W, deadline: Option<Instant>) {
        self.waiters.push(waiter);
        let deadlines = self.deadline.zip(deadline);
        self.deadline = deadlines.map(|(one, other)| one.max(other));
    }
}

impl<W: TableWaiter> Interest<W> {
    /// Whether one of those who wait has a connection.
    pub(crate) fn is_heard(&self) -> bool {
        self.waiters.iter().any(TableWaiter::is_connected)
    }

    /// Whether `max` wait already. Those whose connection is gone make room for others.
    pub(crate) fn is_crowded(&mut self, max: usize) -> bool {
        if self.waiters.len() >= max {
            self.waiters.retain(TableWaiter::is_connected);
        }
        self.waiters.len() >= max
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held leaves something that is still whole: each step is an
    // insertion or a removal. Refusing every later call would help no one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
