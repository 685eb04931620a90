//! The table: which calls are running, which are finished, and what was answered.
//!
//! One entry per mutation, found or created in one step under one lock, before any delay, queue
//! or handler. Nothing is evicted while it could still be asked for: a full table refuses new
//! calls instead. The rules are pure; time comes in, and who waits for a reply (`W`) is opaque.
//!
//! A call with a [plain] id is known for a while after its end. A call of a
//! [session](sessions) is known until its caller has said that it is done with it.

pub(crate) mod plain;
pub(crate) mod session;
pub(crate) mod sessions;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

pub(crate) use self::{
    plain::{MAX_TTL, PlainLimits},
    session::{Acknowledged, Cancelled, Resolved},
    sessions::{Session, SessionLimits},
};
use self::{
    plain::{PlainKey, PlainTable},
    sessions::Sessions,
};

/// What a method and its params hash to; two attempts with different ones are not one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// A 128-bit XXH3 of the raw params, seeded with the method's [`seed`](Self::seed).
    pub(crate) fn new(method_seed: u64, raw_params: &str) -> Self {
        let hash = xxh3_128_with_seed(raw_params.as_bytes(), method_seed);
        Self([(hash >> 64) as u64, hash as u64])
    }

    /// The part that depends on the method alone, computed once per method.
    pub(crate) fn seed(method: &str) -> u64 {
        xxh3_64(method.as_bytes())
    }
}

/// What names a call here.
#[derive(Debug)]
pub(crate) enum TableKey<W> {
    Plain(PlainKey),
    /// The call of this number.
    Session(Arc<Session<W>>, u64),
}

/// What an attempt brings to the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) deadline: Option<Instant>,
    pub(crate) now: Instant,
    /// Which sending of the call this is, from 1.
    pub(crate) number: u32,
    /// Every call of the session below this number is over for its caller.
    pub(crate) ack: Option<u64>,
}

/// A call that admission has let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted<T> {
    pub(crate) ticket: T,
    /// Its handler begins here and now, so that the call can't be taken back any more.
    pub(crate) at_once: bool,
}

/// What became of an attempt.
#[derive(Debug, PartialEq)]
pub(crate) enum Begin<T, R> {
    /// Nobody knew the call: it is running now, and the one who asked has to run it.
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
    /// A new call, and admission said no.
    Refused(R),
    /// This very attempt was refused before, and its caller may have been told so: all up to this
    /// number were.
    RefusedBefore { up_to: u32 },
    /// A new call beyond the window of its session, or its memory.
    NoSlot,
    /// The caller has said that it is done with the call.
    Stale,
    /// Somebody was told that the call was not executed and never will be.
    Fenced,
}

/// Who is to be told something because of a call that they have not asked about.
#[derive(Debug)]
pub(crate) struct Told<W> {
    /// They wait for a call that has ended.
    pub(crate) joined: Vec<W>,
    pub(crate) acknowledged: Option<Acknowledged<W>>,
}

impl<W> Default for Told<W> {
    fn default() -> Self {
        Self {
            joined: Vec::new(),
            acknowledged: None,
        }
    }
}

/// Whether a call may start whose handler was not begun at once.
#[derive(Debug, PartialEq)]
pub(crate) enum MayStart<W> {
    /// It may, and can't be taken back any more.
    Yes,
    /// Its caller's time is up: it was released. These have joined it.
    Late(Late<W>),
    /// It was taken back meanwhile, and whoever waited was told.
    Cancelled,
}

/// Who waits for a call that was released because it was too late for it.
pub(crate) type Late<W> = Vec<W>;

/// Somebody who waits for an outcome.
pub(crate) trait Waits {
    /// Whether there is still somebody to tell.
    fn is_there(&self) -> bool;

    /// Whether it is somebody who only asks what became of the call.
    fn asks(&self) -> bool;
}

#[derive(Debug)]
pub(crate) struct Table<W> {
    pub(crate) plain: PlainTable<W>,
    pub(crate) sessions: Sessions<W>,
}

impl<W: Waits> Table<W> {
    /// One attempt of a call arrives. `admit` is asked only for a call that is new and has room;
    /// `waiter` only for one that is running; `replay` takes the outcome of one that is finished.
    /// Before that, `ended` is recorded: another call of the session, with its outcome. `told` takes
    /// those who wait for it, or for a call of the session that the attempt's `ack` ends.
    pub(crate) fn begin<T, R>(
        &self,
        key: &TableKey<W>,
        attempt: Attempt,
        mut admit: impl FnMut() -> Result<Admitted<T>, R>,
        waiter: impl FnMut() -> W,
        replay: &mut Vec<u8>,
        (ended, told): (Option<(u64, &[u8])>, &mut Told<W>),
    ) -> Begin<T, R> {
        match key {
            TableKey::Plain(key) => {
                let admit = || admit().map(|admitted| admitted.ticket);
                self.plain.begin(key, attempt, admit, waiter, replay)
            }
            TableKey::Session(session, number) => {
                let room = self.sessions.room();
                session.with(|records| {
                    if let Some((number, outcome)) = ended {
                        told.joined = records.finish(number, outcome);
                    }
                    if let Some(ack) = attempt.ack {
                        records.acknowledge_below(ack, &mut told.acknowledged);
                    }
                    records.begin(*number, attempt, room, admit, waiter, replay)
                })
            }
        }
    }

    /// Asked for every call whose handler was not begun at once, before it is. `own` is the
    /// deadline of the attempt that brought the call, of which the table knows all the others.
    pub(crate) fn may_start(
        &self,
        key: &TableKey<W>,
        own: Option<Instant>,
        now: Instant,
    ) -> MayStart<W> {
        let is_late = own.is_some_and(|own| own <= now);
        match key {
            TableKey::Plain(key) if is_late => match self.plain.release_if_late(key, now) {
                Some(joined) => MayStart::Late(joined),
                None => MayStart::Yes,
            },
            TableKey::Plain(_) => MayStart::Yes,
            TableKey::Session(session, number) => {
                session.with(|records| records.may_start(*number, now))
            }
        }
    }

    /// The execution ended: records its outcome, and hands out who waits for it. The clock is read
    /// only for a record whose time runs from then on.
    pub(crate) fn finish(
        &self,
        key: &TableKey<W>,
        outcome: &[u8],
        clock: impl FnOnce() -> Instant,
    ) -> Vec<W> {
        match key {
            TableKey::Plain(key) => self.plain.finish(key, outcome, clock()),
            TableKey::Session(session, number) => session.finish(*number, outcome),
        }
    }

    /// The call was never started, or has had no effect: the next attempt may start it. Hands out
    /// who waits for it.
    pub(crate) fn release(&self, key: &TableKey<W>) -> Vec<W> {
        match key {
            TableKey::Plain(key) => self.plain.release(key),
            TableKey::Session(session, number) => session.with(|records| records.release(*number)),
        }
    }
}

impl<W> Clone for TableKey<W> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(key) => Self::Plain(key.clone()),
            Self::Session(session, number) => Self::Session(Arc::clone(session), *number),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held leaves something that is still whole: each step is an
    // insertion or a removal. Refusing everybody from then on would help nobody.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
