//! What all connections and executions of one server have in common.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use redial_protocol::{ErrorCode, ErrorObject, Principal, SessionCall};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::Admission,
    auth::Authentication,
    awake::AwakeClock,
    caller::Caller,
    clock,
    config::Config,
    connections::Connections,
    counters::Counters,
    execution::{self, InterruptedCall, Job},
    fault::{FaultControl, Faults},
    goodbye::Goodbyes,
    method_times::MethodTimes,
    observe::{Event, EventKind, Observers},
    outbox::Outbox,
    panics, refusal,
    router::Router,
    stats::Stats,
    store::{Claimed, Fenced, Store, StoreError},
    table::{Forgotten, Table, TableKey},
    traces::Traces,
    waiter::Waiter,
};

/// How many sessions whose lease has ended are forgotten before other tasks get their turn.
const SESSIONS_PER_SWEEP: usize = 256;

/// How long a connection may take from its look at the clock to its note that something may be unread
/// since then.
const NOTING: Duration = Duration::from_millis(16);

/// How seldom a full table has a look at all connections, and a full queue at all its calls.
const LOOK_EVERY: Duration = Duration::from_millis(16);

/// How often observers get the numbers of all that is held: it looks at every session.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// How long after its end a record may still take room.
pub(crate) const ROOM_LAG: Duration = NOTING.saturating_add(LOOK_EVERY);

/// Whether a principal may call a method.
pub(crate) type Policy = Box<dyn Fn(Option<&Principal>, &str) -> bool + Send + Sync>;

/// Spawns what the server does beside serving connections.
pub(crate) type SpawnBackground =
    Box<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) awake: AwakeClock,
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) table: Table<Waiter>,
    /// The durable table behind the one in memory, if there is one.
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) admission: Admission<Job>,
    pub(crate) faults: Faults,
    /// Which callers may change them.
    pub(crate) fault_control: Option<FaultControl>,
    /// The outcome of `rpc.discover`.
    pub(crate) discover: Vec<u8>,
    pub(crate) observers: Observers,
    /// Records how executions end, if no other observer wants to hear of it.
    #[cfg(feature = "metrics")]
    pub(crate) recorder: Option<Arc<crate::metrics::Recorder>>,
    pub(crate) traces: Traces,
    /// Whether who connects to a Unix socket is a principal.
    pub(crate) unix_principals: bool,
    /// Says whose a token is, if the server asks for tokens.
    pub(crate) authentication: Option<Arc<Authentication>>,
    /// How often each address shakes hands, once there is TLS.
    #[cfg(feature = "tls")]
    pub(crate) handshakes: std::sync::OnceLock<crate::meter::Meter>,
    /// Who may call what.
    pub(crate) policy: Option<Policy>,
    pub(crate) counters: Counters,
    pub(crate) times: MethodTimes,
    /// What accepts connections.
    pub(crate) listeners: TaskTracker,
    /// Executions and delayed replies.
    pub(crate) executions: TaskTracker,
    /// No new calls are admitted. Asked for every call, which the token would take a lock for.
    pub(crate) is_draining: AtomicBool,
    /// The same, to be awaited.
    pub(crate) draining: CancellationToken,
    /// What still runs has to stop now.
    pub(crate) cut_off: CancellationToken,
    /// Everything has been answered: connections end.
    pub(crate) closing: AtomicBool,
    /// The shutdown has finished.
    pub(crate) closed: CancellationToken,
    /// Executions that were cut off after their handler had started.
    pub(crate) interrupted: AtomicUsize,
    pub(crate) connections: Connections,
    /// Turns to look at large frames.
    pub(crate) large_frames: Arc<tokio::sync::Semaphore>,
    pub(crate) goodbyes: Goodbyes,
    pub(crate) sweeping: AtomicBool,
    /// When the runtime looked at all sockets last, for certain, in milliseconds awake.
    pub(crate) looked_at: AtomicU64,
    /// When a full table may next have a look at all connections, in milliseconds awake.
    pub(crate) next_look: AtomicU64,
    /// When a full queue may next be cleared of calls whose callers have given up, likewise.
    pub(crate) next_clearing: AtomicU64,
    /// By how much the ages of connections differ.
    pub(crate) ages: Mutex<ChaCha8Rng>,
    pub(crate) spawn_background: SpawnBackground,
    /// Calls of the server before this one that are to be run again.
    pub(crate) interrupted_calls: Mutex<Vec<InterruptedCall>>,
}

impl Shared {
    /// How old the next connection may get, if that is limited.
    pub(crate) fn connection_age(&self) -> Option<Duration> {
        self.config.max_connection_age?;
        let mut rng = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        self.config.connection_age(rng.random())
    }

    /// Counts what happened, and lets the observers know.
    pub(crate) fn emit<'e>(&self, kind: EventKind, event: impl FnOnce() -> Event<'e>) {
        self.counters.count(kind);
        self.observe(kind, event);
    }

    /// As [`emit`](Self::emit), for what is counted elsewhere.
    #[inline]
    pub(crate) fn observe<'e>(&self, kind: EventKind, event: impl FnOnce() -> Event<'e>) {
        if self.observers.want(kind) {
            self.observers.notify(&event());
        }
    }

    /// What time it is, where something observes how long handlers take.
    #[inline]
    pub(crate) fn clock_if_observed(&self) -> Option<Instant> {
        self.observers.want(EventKind::Finished).then(clock::now)
    }

    /// A refusal of what was no request, or not even that: of this caller, if it is known.
    pub(crate) fn emit_refusal(
        &self,
        code: ErrorCode,
        id: &str,
        connection: Option<(u64, &Caller)>,
    ) {
        let kind = EventKind::Refused(code);
        self.emit(kind, || Event {
            id: Some(id),
            attempt: 1,
            connection: connection.map(|(number, _)| number),
            peer: connection.and_then(|(_, caller)| caller.address),
            principal: connection.and_then(|(_, caller)| caller.principal()),
            ..Event::of(kind)
        });
    }

    /// Records an outcome, or forgets the call if it had no effect. Returns the waiters that have
    /// joined.
    pub(crate) fn record(
        &self,
        key: Option<&TableKey<Waiter>>,
        outcome: &mut Vec<u8>,
        is_recorded: bool,
        clock: impl FnOnce() -> Instant,
    ) -> Vec<Waiter> {
        self.config.fit_to_frame(outcome);
        match key {
            Some(key) if is_recorded => self.table.finish(key, outcome, clock),
            Some(key) => self.table.release(key),
            None => Vec::new(),
        }
    }

    pub(crate) fn lock_interrupted(&self) -> MutexGuard<'_, Vec<InterruptedCall>> {
        let calls = &self.interrupted_calls;
        calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses all queued calls.
    pub(crate) fn refuse_queued(&self) {
        for mut job in self.admission.drain() {
            job.execution.refuse(&refusal::shutting_down());
            panics::drop_quietly(job);
        }
    }

    /// The refusal of a call that admission has no room for.
    pub(crate) fn queue_full(&self, retry_after: Duration) -> ErrorObject {
        self.counters.count_queue_full();
        let max_running = self.admission.running_limit();
        refusal::queue_full(max_running, self.config.max_queued, retry_after)
    }

    pub(crate) fn drain(&self) {
        self.is_draining.store(true, SeqCst);
        self.draining.cancel();
        self.listeners.close();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(SeqCst)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// Has the store tell of its commits.
    pub(crate) fn watch_commits(self: &Arc<Self>) {
        let Some(store) = &self.store else {
            return;
        };
        let shared = Arc::downgrade(self);
        store.watch_commits(Box::new(move |steps| {
            if let Some(shared) = shared.upgrade() {
                shared.counters.count_commit(steps);
                let kind = EventKind::Committed { steps };
                shared.observe(kind, || Event::of(kind));
            }
        }));
    }

    pub(crate) fn stats(&self) -> Stats {
        let sessions = self.table.sessions.usage();
        Stats {
            running_limit: self.admission.running_limit(),
            overloaded: self.admission.is_overloaded(self.awake.now()),
            records: self.table.plain.records(),
            record_bytes: self.table.plain.bytes(),
            sessions: self.table.sessions.len(),
            session_records: sessions.records,
            session_bytes: sessions.bytes,
            running: self.admission.running(),
            queued: self.admission.queued(),
            connections: self.connections.len(),
            ..self.counters.snapshot()
        }
    }

    /// Removes a bounded number of expired records and sessions. Returns how many. All that arrived
    /// before the `looked` moment has been noted by the connections.
    fn sweep(self: &Arc<Self>, looked: Instant) -> usize {
        let now = self.awake.now();
        self.look_for_unread(looked);
        execution::drop_abandoned(self);
        let records = self.table.plain.expire();
        let sessions = self.table.sessions.expire(now, SESSIONS_PER_SWEEP);
        self.forget_sessions();
        if let Some(store) = &self.store {
            store.tick(self.awake.elapsed());
        }
        self.refuse_forgotten(sessions.waiters);
        records + sessions.count
    }

    /// Lets records go that nothing unread can ask for.
    fn look_for_unread(&self, looked: Instant) {
        let noted = looked.checked_sub(NOTING);
        let noted = noted.unwrap_or(self.awake.moment(0));
        let unread = self.connections.unread_since(&self.awake);
        let horizon = unread.map_or(noted, |unread| unread.min(noted));
        self.table.plain.set_horizon(horizon);
    }

    /// Something has arrived in a connection, whose task has not looked for it yet. It may have come at
    /// any time since the runtime last looked at its sockets, which it does before it wakes the sweep.
    pub(crate) fn note_arrival(&self, outbox: &Outbox) {
        let now = self.awake.now();
        let looked = self.awake.moment(self.looked_at.load(Relaxed));
        let is_behind = now > looked + self.awake.period() + NOTING;
        let at = if is_behind { looked } else { now };
        outbox.unread.begin_arrival(&self.awake, at);
    }

    /// The same where room is needed; looks at all connections once in a while at most. Returns what
    /// time it is.
    #[cold]
    pub(crate) fn look_for_room(&self) -> Instant {
        let now = self.awake.now();
        if self.is_due(&self.next_look, now) {
            self.look_for_unread(now);
        }
        now
    }

    /// The queue is full: lets calls go whose callers have given up, once in a while at most.
    #[cold]
    pub(crate) fn clear_queue(self: &Arc<Self>) {
        if self.is_due(&self.next_clearing, self.awake.now()) {
            execution::drop_abandoned(self);
        }
    }

    /// Whether something may be done again that is done once in [`LOOK_EVERY`] at most.
    fn is_due(&self, next: &AtomicU64, now: Instant) -> bool {
        let (due, millis) = (next.load(Relaxed), self.awake.millis(now));
        let after = millis + LOOK_EVERY.as_millis() as u64;
        let replaced = || next.compare_exchange(due, after, Relaxed, Relaxed);
        due <= millis && replaced().is_ok()
    }

    /// Whether other servers may use the same table.
    pub(crate) fn is_store_shared(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|store| store.as_shared().is_some())
    }

    /// What has run at another server, or may run again, is not fenced here: the next attempt or question
    /// asks the store again.
    pub(crate) fn settle_fence(&self, call: SessionCall, fenced: &Result<Fenced, StoreError>) {
        let is_known = matches!(
            fenced,
            Ok(Fenced::Claimed(Claimed::Recorded(_)) | Fenced::Left(_))
        );
        if is_known && self.is_store_shared() {
            self.table.sessions.lift_fence(call);
        }
    }

    /// Lets the store know which sessions are forgotten by now.
    pub(crate) fn forget_sessions(&self) {
        let forgotten = self.table.sessions.take_forgotten();
        for Forgotten { id, .. } in &forgotten {
            let kind = EventKind::SessionEnded;
            self.observe(kind, || Event {
                session: Some(*id),
                ..Event::of(kind)
            });
        }
        let Some(store) = &self.store else {
            return;
        };
        for Forgotten { id, is_ended } in forgotten {
            match store.as_shared().filter(|_| !is_ended) {
                Some(shared) => shared.leave_session(id),
                None => store.forget_session(id),
            }
        }
    }

    /// Answers those who wait for calls of sessions that are forgotten now.
    pub(crate) fn refuse_forgotten(self: &Arc<Self>, waiters: Vec<Waiter>) {
        for waiter in waiters {
            waiter.refuse(self, &refusal::call_unknown());
        }
    }

    /// Removes expired records in the background, so that an idle server's memory falls back, and
    /// keeps the clock going. Ends when the server is gone.
    pub(crate) fn start_sweeping(self: &Arc<Self>) {
        if self.sweeping.swap(true, SeqCst) {
            return;
        }
        // The last look may have been long ago.
        let now = self.awake.now();
        self.look_for_unread(now);
        self.looked_at.store(self.awake.millis(now), Relaxed);
        let period = self.awake.period();
        let shared = Arc::downgrade(self);
        let sweeping = Sweeping(Weak::clone(&shared));
        (self.spawn_background)(Box::pin(async move {
            let _sweeping = sweeping;
            // What wakes this task has looked at all sockets before, and no sooner than this.
            let (mut looked, mut next_stats) = (now + period, now);
            loop {
                tokio::time::sleep(period).await;
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                let millis = shared.awake.millis(looked);
                shared.looked_at.store(millis, Relaxed);
                while shared.sweep(looked) > 0 {
                    tokio::task::yield_now().await;
                }
                let now = shared.awake.now();
                looked = now + period;
                if next_stats <= now && !shared.observers.is_empty() {
                    next_stats = now + STATS_EVERY;
                    shared.observers.notify_stats(&shared.stats());
                }
            }
        }));
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
