//! What all connections and executions of one server have in common.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_protocol::{ErrorCode, ErrorObject, reply};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::Admission,
    clock,
    config::Config,
    dispatch,
    execution::{self, Job},
    fault::Faults,
    observe::{Event, EventKind, Observer},
    outbox::Outbox,
    router::Router,
    stats::{Counters, Stats},
    table::Table,
    waiter::Waiter,
};

/// How many sessions whose lease has ended are forgotten before others get their turn.
const SESSIONS_PER_SWEEP: usize = 256;

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) table: Table<Waiter>,
    pub(crate) admission: Admission<Job>,
    pub(crate) faults: Faults,
    pub(crate) discover: Vec<u8>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    pub(crate) counters: Counters,
    /// Executions and replies that are on their way.
    pub(crate) executions: TaskTracker,
    /// No new calls are taken on. Asked for every call, which the token would take a lock for.
    pub(crate) is_draining: AtomicBool,
    /// The same, for those who wait for it.
    pub(crate) draining: CancellationToken,
    /// What still runs has to stop now.
    pub(crate) cut_off: CancellationToken,
    /// Everything has been answered: connections end.
    pub(crate) closing: AtomicBool,
    /// The shutdown is over.
    pub(crate) closed: CancellationToken,
    /// Executions that were cut off after their handler had begun.
    pub(crate) interrupted: AtomicUsize,
    pub(crate) connections: Connections,
    pub(crate) sweeping: AtomicBool,
}

impl Shared {
    pub(crate) fn tell(&self, kind: EventKind, id: Option<&str>, attempt: u32, method: &str) {
        self.counters.count(kind);
        self.observe(kind, id, attempt, method);
    }

    /// As [`tell`](Self::tell), for what is counted elsewhere.
    #[inline]
    pub(crate) fn observe(&self, kind: EventKind, id: Option<&str>, attempt: u32, method: &str) {
        if let Some(observer) = &self.observer {
            let event = Event {
                kind,
                id,
                attempt,
                method,
            };
            observe_caught(&**observer, &event);
        }
    }

    /// Replaces an outcome that no peer with our own limit could receive. The effect has
    /// happened, so the call must not look as if it had not.
    pub(crate) fn fit(&self, outcome: &mut Vec<u8>) {
        let max = self.config.limits.max_frame_bytes;
        // What is wrapped around an outcome is little, except that an id may be all escapes.
        let room = max.saturating_sub(1024).max(max / 2);
        if outcome.len() > room {
            let detail = format!(
                "the handler's answer has {} bytes; at most {room} fit into a frame",
                outcome.len()
            );
            outcome.clear();
            reply::encode_error(
                outcome,
                &ErrorObject::raised(ErrorCode::INTERNAL_ERROR, detail),
            );
        }
    }

    /// Turns away everybody who waits for a place.
    pub(crate) fn refuse_queued(&self) {
        for job in self.admission.drain() {
            job.execution.refuse(&execution::shutting_down());
        }
    }

    pub(crate) fn drain(&self) {
        self.is_draining.store(true, SeqCst);
        self.draining.cancel();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(SeqCst)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    pub(crate) fn stats(&self) -> Stats {
        let (session_records, session_bytes) = self.table.sessions.usage();
        Stats {
            records: self.table.plain.records(),
            record_bytes: self.table.plain.bytes(),
            sessions: self.table.sessions.len(),
            session_records,
            session_bytes,
            running: self.admission.running(),
            queued: self.admission.queued(),
            connections: self.connections.len(),
            ..self.counters.snapshot()
        }
    }

    /// Takes a bounded number of things away that have expired. Says how many.
    fn sweep(self: &Arc<Self>) -> usize {
        let now = clock::now();
        let records = self.table.plain.expire(now);
        let (sessions, waiters) = self.table.sessions.expire(now, SESSIONS_PER_SWEEP);
        self.tell_forgotten(waiters);
        records + sessions
    }

    /// Answers those who have asked about calls of sessions that are forgotten now.
    pub(crate) fn tell_forgotten(self: &Arc<Self>, waiters: Vec<Waiter>) {
        for waiter in waiters {
            waiter.refuse(self, &dispatch::call_unknown());
        }
    }

    /// Takes expired records away while nothing else does, so that an idle server's memory falls
    /// back. Ends when the server is gone.
    pub(crate) fn start_sweeping(self: &Arc<Self>) {
        if self.sweeping.swap(true, SeqCst) {
            return;
        }
        let period = self
            .config
            .ttl
            .clamp(Duration::from_millis(50), Duration::from_secs(1));
        let shared = Arc::downgrade(self);
        let sweeping = Sweeping(Weak::clone(&shared));
        tokio::spawn(async move {
            let _sweeping = sweeping;
            loop {
                tokio::time::sleep(period).await;
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                while shared.sweep() > 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
}

/// In the middle of a call a panic would take its outcome, its place among the running ones and all
/// who wait for it along.
#[inline(never)]
fn observe_caught(observer: &dyn Observer, event: &Event<'_>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| observer.observe(event))) {
        execution::bury(panic);
    }
}

/// If the runtime that sweeps ends, the next connection on another one starts anew.
struct Sweeping(Weak<Shared>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.sweeping.store(false, SeqCst);
        }
    }
}

/// The connections that are open, so that all can be told when the server ends.
#[derive(Default)]
pub(crate) struct Connections {
    inner: Mutex<ConnectionsInner>,
    one_less: Notify,
}

#[derive(Default)]
struct ConnectionsInner {
    next: u64,
    /// In the order in which they were opened, so that the end of a server repeats in a simulation.
    open: BTreeMap<u64, Arc<Outbox>>,
}

impl Connections {
    /// Takes a connection in, unless there are `max` already.
    pub(crate) fn open(shared: &Arc<Shared>, outbox: &Arc<Outbox>) -> Option<Registration> {
        let mut inner = shared.connections.lock();
        if inner.open.len() >= shared.config.max_connections {
            return None;
        }
        let number = inner.next;
        inner.next += 1;
        inner.open.insert(number, Arc::clone(outbox));
        Some(Registration {
            shared: Arc::clone(shared),
            number,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    pub(crate) async fn all_closed(&self) {
        while self.len() > 0 {
            self.one_less.notified().await;
        }
    }

    pub(crate) fn nudge_all(&self) {
        let open: Vec<Arc<Outbox>> = self.lock().open.values().cloned().collect();
        for outbox in open {
            outbox.nudge();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionsInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's standing with the server; it is closed when this goes.
pub(crate) struct Registration {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let outbox = self.shared.connections.lock().open.remove(&self.number);
        if let Some(outbox) = outbox {
            outbox.close();
        }
        self.shared.connections.one_less.notify_one();
    }
}
