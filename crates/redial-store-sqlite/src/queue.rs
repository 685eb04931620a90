//! What was handed in and waits for the writer's thread.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use redial_protocol::{CallKey, Principal, SessionId};
use redial_server::store::{
    Acknowledged, Begun, Done, Executed, Fenced, Intent, StoreCall, StoreError,
};

use crate::{quiet::quietly, transaction::Prepared};

/// One thing that the writer is to do.
pub(crate) enum Job {
    Execute(StoreCall, Prepared, Done<Executed>),
    Begin(StoreCall, Intent, Done<Begun>),
    Finish(CallKey, Option<Vec<u8>>, Done<()>),
    Fence(CallKey, Done<Fenced>),
    Open(SessionId, Option<Principal>, Done<()>),
    Forget(SessionId),
    Acknowledge(SessionId, Acknowledged),
}

/// What a job comes to.
#[derive(Debug)]
pub(crate) enum Reply {
    Executed(Executed),
    Begun(Begun),
    Fenced(Fenced),
    /// There is nothing to say but that it is durable.
    Done,
}

impl Job {
    /// Calls back. This is the only way for a job to end.
    pub(crate) fn end(self, reply: Result<Reply, StoreError>) {
        quietly(move || match (self, reply) {
            (Self::Execute(_, prepared, done), reply) => {
                quietly(|| drop(prepared));
                done(reply.and_then(|reply| match reply {
                    Reply::Executed(executed) => Ok(executed),
                    _ => Err(mixed_up()),
                }));
            }
            (Self::Begin(.., done), reply) => done(reply.and_then(|reply| match reply {
                Reply::Begun(begun) => Ok(begun),
                _ => Err(mixed_up()),
            })),
            (Self::Fence(_, done), reply) => done(reply.and_then(|reply| match reply {
                Reply::Fenced(fenced) => Ok(fenced),
                _ => Err(mixed_up()),
            })),
            (Self::Finish(.., done) | Self::Open(.., done), reply) => done(reply.map(drop)),
            (Self::Forget(_) | Self::Acknowledge(..), _) => {}
        });
    }

    /// How long the server had been awake when it was handed in, if it says so.
    pub(crate) fn awake(&self) -> Option<Duration> {
        match self {
            Self::Execute(call, ..) | Self::Begin(call, ..) => Some(call.awake),
            _ => None,
        }
    }
}

/// A defect of this crate, said rather than thrown on the writer's thread.
fn mixed_up() -> StoreError {
    StoreError::uncertain(
        "the store has mixed up its answers; this is a bug in redial-store-sqlite",
    )
}

/// How the writer's thread is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriterMode {
    On,
    /// What was handed in is done, and then the file is closed.
    Close,
    /// The program has dropped the store: the file is left as it is.
    Abandon,
}

/// See the [module](self).
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// When the writer has something to do that was not handed in, in nanoseconds of the server's awake
    /// time; to ask costs no lock.
    due: AtomicU64,
}

struct Inner {
    waiting: Vec<Job>,
    is_ready: bool,
    is_writer_idle: bool,
    /// What ticks have told since jobs were last taken.
    awake: Option<Duration>,
    mode: WriterMode,
}

/// What the writer gets.
pub(crate) struct WriterInput {
    /// For how long the server has been awake, if a tick has told since the last time.
    pub(crate) awake: Option<Duration>,
    pub(crate) mode: WriterMode,
}

/// So many jobs start without a flush, lest acknowledgements pile up.
const PILE: usize = 1024;

/// How often the writer gives way to threads that are about to hand in more.
const YIELDS: usize = 4;

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                waiting: Vec::new(),
                is_ready: false,
                is_writer_idle: false,
                awake: None,
                mode: WriterMode::On,
            }),
            changed: Condvar::new(),
            due: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn push(&self, job: Job) {
        let mut inner = self.lock();
        if inner.mode != WriterMode::On {
            drop(inner);
            // On a thread of its own: never before this function has returned.
            let end = || job.end(Err(StoreError::nothing_done("the store is closed")));
            drop(thread::Builder::new().spawn(end));
            return;
        }
        inner.waiting.push(job);
        if inner.waiting.len() >= PILE {
            self.wake(inner);
        }
    }

    pub(crate) fn flush(&self) {
        let inner = self.lock();
        if !inner.waiting.is_empty() {
            self.wake(inner);
        }
    }

    pub(crate) fn tick(&self, awake: Duration) {
        if nanoseconds(awake) < self.due.load(Relaxed) {
            return;
        }
        let mut inner = self.lock();
        inner.awake = inner.awake.max(Some(awake));
        self.wake(inner);
    }

    /// Says how the writer is to end.
    pub(crate) fn end(&self, mode: WriterMode) {
        let mut inner = self.lock();
        if inner.mode == WriterMode::On {
            inner.mode = mode;
        }
        self.wake(inner);
    }

    fn wake(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.is_ready = true;
        let is_idle = inner.is_writer_idle;
        drop(inner);
        if is_idle {
            self.changed.notify_one();
        }
    }

    /// Waits until there is something to do, or for so long, and takes it. `due` is when the writer wants
    /// to be woken although nothing was handed in.
    pub(crate) fn take(
        &self,
        jobs: &mut Vec<Job>,
        due: Duration,
        limit: Option<Duration>,
    ) -> WriterInput {
        self.due.store(nanoseconds(due), Relaxed);
        let mut inner = self.lock();
        if !inner.is_ready && inner.mode == WriterMode::On {
            inner = self.wait(inner, limit);
            inner = self.gather(inner);
        }
        inner.is_ready = false;
        std::mem::swap(&mut inner.waiting, jobs);
        WriterInput {
            awake: inner.awake.take(),
            mode: inner.mode,
        }
    }

    fn wait<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        inner.is_writer_idle = true;
        let waits = |inner: &mut Inner| !inner.is_ready;
        let mut inner = match limit {
            None => self
                .changed
                .wait_while(inner, waits)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.changed.wait_timeout_while(inner, limit, waits);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        inner.is_writer_idle = false;
        inner
    }

    /// Other connections may be about to hand in theirs: the threads that are ready run first.
    fn gather<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        for _ in 0..YIELDS {
            let before = inner.waiting.len();
            drop(inner);
            thread::yield_now();
            inner = self.lock();
            if inner.waiting.len() == before {
                break;
            }
        }
        inner
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
