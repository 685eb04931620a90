//! The one execution of a call. It belongs to the call, never to the connection that asked for it:
//! the connection may die, the execution goes on, and however it ends, everyone who waits for its
//! outcome gets one.

use std::{
    any::Any,
    cell::Cell,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use redial_protocol::{CallKey, ErrorObject, MethodKind};

use crate::{
    admission::{DequeuedJob, Lane},
    clock::{self, CoarseClock},
    handler::{Completion, HandlerFuture},
    observe::{Event, EventContext, EventKind, error_of},
    panics, refusal,
    router::Registered,
    shared::Shared,
    store::{Claimed, Resumable, StoreError},
    table::{Fingerprint, Session, StartCheck, TableKey, TableWaiter},
    traces::ExecutionSpan,
    waiter::Waiter,
};

/// An execution that could not finish in place: its handler waits, or it has to wait itself.
pub(crate) struct Job {
    pub(crate) execution: Execution,
    pub(crate) work: Work,
    /// How long a fault rule wants it to wait first.
    pub(crate) delay: Option<Duration>,
}

/// What an execution runs.
pub(crate) enum Work {
    /// A handler whose outcome is recorded in memory, or not at all.
    Handler(HandlerFuture),
    /// A handler whose intent and outcome are recorded in the store.
    Recorded {
        future: HandlerFuture,
        fingerprint: Fingerprint,
        resumable: Option<Resumable>,
    },
    /// A handler that runs inside a transaction of the store.
    Transaction {
        transaction: Box<dyn Any + Send>,
        fingerprint: Fingerprint,
    },
}

/// Who is owed the outcome, and where it is recorded.
pub(crate) struct Execution {
    pub(crate) shared: Arc<Shared>,
    /// What is called by whom: whose permit it holds.
    pub(crate) lane: Lane,
    /// The call's entry in the table; `None` for a query, a notification, or an id that is no key.
    pub(crate) key: Option<TableKey<Waiter>>,
    /// The attempt that brought the call; `None` for a notification.
    pub(crate) origin: Option<Waiter>,
    /// When the caller of that attempt stops waiting.
    pub(crate) deadline: Option<Instant>,
    pub(crate) stage: Stage,
    /// How long it was queued.
    pub(crate) queued: Duration,
    /// When its handler started, where something observes that.
    pub(crate) started: Option<Instant>,
    /// What observers hear of it, if there are any and nothing waits for it.
    pub(crate) event_context: Option<Box<EventContext>>,
    /// That of its handler, if it runs inside a transaction of the store.
    pub(crate) span: ExecutionSpan,
}

/// A call whose handler a crash has interrupted, and which may run again.
pub(crate) struct InterruptedCall {
    pub(crate) key: TableKey<Waiter>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) resumable: Resumable,
}

/// How far an execution has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Since then.
    Queued(Instant),
    /// It holds a run permit since then; its handler has not started.
    Admitted(Instant),
    /// Its handler has started. The moment is still that of the admission.
    Started(Instant),
    /// All waiters have their answers, and the permit is released.
    Finished,
}

/// Runs a job that holds a run permit on a task of its own.
pub(crate) fn spawn(mut job: Job) {
    if let Stage::Queued(since) = job.execution.stage {
        let shared = &job.execution.shared;
        let now = shared.awake.now();
        let queued = now.saturating_duration_since(since);
        shared.counters.count_dequeued(queued);
        job.execution.queued = queued;
        job.execution.stage = Stage::Admitted(now);
    }
    let tracker = job.execution.shared.executions.clone();
    tracker.spawn(run(job));
}

async fn run(job: Job) {
    let Job {
        mut execution,
        work,
        delay,
    } = job;
    let cut_off = execution.shared.cut_off.clone();
    let store = execution.shared.store.clone();
    // At the cut-off, dropping the execution answers its waiters.
    let result = tokio::select! {
        biased;
        result = execution.run_work(work, delay) => result,
        () = cut_off.cancelled() => return,
    };
    match result {
        Ok(Ended::Completed(completion)) => execution.complete(completion),
        Ok(Ended::Claimed(claimed)) => execution.end_claimed(claimed),
        Ok(Ended::StoreFailed(error)) => execution.end_failed(&error),
        Ok(Ended::InTransaction(transaction, fingerprint)) => {
            execution.submit(transaction, fingerprint);
            if let Some(store) = store {
                store.flush();
            }
        }
        Err(NotStarted::Expired(joined)) => {
            execution.refuse_all(joined, &refusal::deadline_passed());
        }
        Err(NotStarted::Cancelled) => execution.end_cancelled(),
        Err(NotStarted::Unheard) => execution.refuse_all(Vec::new(), &refusal::caller_gone()),
    }
}

/// What an execution came to.
pub(crate) enum Ended {
    /// Its handler has finished.
    Completed(Completion),
    /// Its id was claimed before: the handler did not run.
    Claimed(Claimed),
    /// The store could not do its part.
    StoreFailed(StoreError),
    /// It goes on inside a transaction of the store.
    InTransaction(Box<dyn Any + Send>, Fingerprint),
}

/// Why a call did not start after all.
enum NotStarted {
    Expired(Vec<Waiter>),
    Cancelled,
    /// See [`Execution::is_unheard`].
    Unheard,
}

impl Execution {
    async fn run_work(&mut self, work: Work, delay: Option<Duration>) -> Result<Ended, NotStarted> {
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        if let Stage::Admitted(since) = self.stage {
            if self.is_unheard() {
                return Err(NotStarted::Unheard);
            }
            match check_start(&self.shared, self.key.as_ref(), self.deadline) {
                StartCheck::Start => {}
                StartCheck::Expired(joined) => return Err(NotStarted::Expired(joined)),
                StartCheck::Cancelled => return Err(NotStarted::Cancelled),
            }
            self.started = self.shared.clock_if_observed();
            self.emit(EventKind::Started);
            self.stage = Stage::Started(since);
        }
        Ok(match work {
            Work::Handler(future) => Ended::Completed(self.run_handler(future).await),
            Work::Recorded {
                future,
                fingerprint,
                resumable,
            } => self.run_recorded(future, fingerprint, resumable).await,
            Work::Transaction {
                transaction,
                fingerprint,
            } => Ended::InTransaction(transaction, fingerprint),
        })
    }

    /// Runs a handler, for as long as its method may at most: then it is dropped, and the outcome says
    /// so.
    pub(crate) async fn run_handler(&self, mut future: HandlerFuture) -> Completion {
        let Some(timeout) = self.method().limits.execution_timeout else {
            return future.await;
        };
        tokio::select! {
            biased;
            completion = &mut future => completion,
            () = self.shared.awake.sleep(timeout) => {
                self.emit(EventKind::TimedOut);
                // It is the program's, and may panic.
                panics::drop_quietly(future);
                Completion::recorded_error(&refusal::timed_out(timeout))
            }
        }
    }

    /// Whether the reply would reach no one, and the call has no other purpose: a query whose
    /// connection is gone.
    fn is_unheard(&self) -> bool {
        let is_gone = |origin: &Waiter| !origin.is_connected();
        self.key.is_none()
            && self.origin.as_ref().is_some_and(is_gone)
            && self.method().kind == MethodKind::Query
    }

    pub(crate) fn method(&self) -> &Registered {
        self.shared.router.method(self.lane.method)
    }

    /// The handler has not started and will not: refuses all waiters, and frees the id.
    pub(crate) fn refuse(&mut self, error: &ErrorObject) {
        let key = self.key.as_ref();
        let joined = key.map(|key| self.shared.table.release(key));
        self.refuse_all(joined.unwrap_or_default(), error);
    }

    /// The handler has finished: records the outcome and answers all waiters.
    pub(crate) fn complete(&mut self, completion: Completion) {
        let Completion {
            mut outcome,
            is_recorded,
        } = completion;
        self.emit_finished(&outcome);
        let key = self.key.as_ref();
        let joined = self
            .shared
            .record(key, &mut outcome, is_recorded, || self.shared.awake.now());
        for waiter in self.origin.take().into_iter().chain(joined) {
            waiter.complete(&self.shared, &outcome, is_recorded);
        }
        self.release_permit();
    }

    /// The call was cancelled, or acknowledged, before it started.
    fn end_cancelled(&mut self) {
        let (origin, call) = (self.abandon(), self.key.as_ref().map(TableKey::call_key));
        match (origin, call) {
            (Some(origin), Some(CallKey::Session(call))) => {
                origin.fence(&self.shared, call, refusal::cancelled);
            }
            (Some(origin), _) => origin.refuse(&self.shared, &refusal::cancelled()),
            (None, _) => {}
        }
    }

    /// Ends without an answer. Returns the attempt that waits for one.
    fn abandon(&mut self) -> Option<Waiter> {
        let origin = self.origin.take();
        self.release_permit();
        origin
    }

    /// Refuses all who wait for a call whose entry is gone already.
    pub(crate) fn refuse_all(&mut self, joined: Vec<Waiter>, error: &ErrorObject) {
        for waiter in self.origin.take().into_iter().chain(joined) {
            waiter.refuse(&self.shared, error);
        }
        self.release_permit();
    }

    /// Releases the run permit, if it holds one, to a queued call.
    fn release_permit(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Finished);
        if let Stage::Admitted(since) | Stage::Started(since) = stage {
            let service = self.shared.awake.now().saturating_duration_since(since);
            self.shared.admission.record_service(service);
            if matches!(stage, Stage::Started(_)) {
                self.shared.times.record(self.lane.method, service);
            }
            release_permit(&self.shared, self.lane);
        }
    }

    fn emit(&self, kind: EventKind) {
        self.shared.emit(kind, || self.event(kind));
    }

    fn emit_finished(&self, outcome: &[u8]) {
        let kind = EventKind::Finished;
        let ran = |started| clock::now().saturating_duration_since(started);
        self.shared.emit(kind, || Event {
            error: error_of(outcome),
            ran: self.started.map_or(Duration::ZERO, ran),
            ..self.event(kind)
        });
    }

    fn event(&self, kind: EventKind) -> Event<'_> {
        let event = match (&self.origin, &self.event_context) {
            (Some(origin), _) => origin.event(kind),
            (None, event_context) => Event {
                attempt: 1,
                method: &self.method().name,
                ..event_context.as_ref().map_or_else(
                    || Event::of(kind),
                    |event_context| event_context.event(kind),
                )
            },
        };
        Event {
            queued: self.queued,
            ..event
        }
    }
}

impl Drop for Execution {
    /// Reached before the end only if the server stopped waiting, or the runtime dropped the task.
    fn drop(&mut self) {
        match self.stage {
            Stage::Finished => {}
            Stage::Queued(_) | Stage::Admitted(_) => self.refuse(&refusal::shutting_down()),
            Stage::Started(_) => {
                self.shared.interrupted.fetch_add(1, SeqCst);
                self.complete(Completion::recorded_error(&refusal::interrupted()));
            }
        }
    }
}

/// Asks the table whether a call may start now: not if the latest deadline of all its attempts has
/// passed, which only the table knows; nor if it was cancelled. Asked and done in one step, so that
/// no attempt that has time left can join in between.
fn check_start(
    shared: &Shared,
    key: Option<&TableKey<Waiter>>,
    own: Option<Instant>,
) -> StartCheck<Waiter> {
    // The clock is read here and not at the beginning of a read: the handlers of the calls before
    // this one may have taken their time.
    let now = clock::now();
    match key {
        Some(key) => shared.table.check_start(key, own, now),
        None if own.is_some_and(|own| own <= now) => StartCheck::Expired(Vec::new()),
        None => StartCheck::Start,
    }
}

/// As [`check_start`], for a call that was entered as one that starts at once: only its deadline
/// can prevent that, and only if it has one is the table asked.
pub(crate) fn check_start_in_place(
    shared: &Shared,
    key: Option<&TableKey<Waiter>>,
    own: Option<Instant>,
    coarse: &mut CoarseClock,
) -> StartCheck<Waiter> {
    match own {
        Some(own) if own <= coarse.before_call(clock::now) => check_start(shared, key, Some(own)),
        _ => StartCheck::Start,
    }
}

/// Takes a call that may not run any more out of the queue. Returns the attempt that brought it.
pub(crate) fn remove_queued(
    shared: &Shared,
    session: &Arc<Session<Waiter>>,
    number: u64,
) -> Option<Waiter> {
    let is_it = |job: &Job| match &job.execution.key {
        Some(TableKey::Session(other, n)) => *n == number && Arc::ptr_eq(other, session),
        _ => false,
    };
    let mut job = shared.admission.remove(is_it)?;
    let origin = job.execution.abandon();
    // Its future is the program's, and may panic.
    panics::drop_quietly(job);
    origin
}

/// Refuses the queued calls whose callers have given up: all deadlines of their attempts have passed,
/// or their reply would reach no one.
pub(crate) fn drop_abandoned(shared: &Shared) {
    let admission = &shared.admission;
    if admission.queued() == 0 {
        return;
    }
    let now = clock::now();
    let is_late = |execution: &Execution| execution.deadline.is_some_and(|own| own <= now);
    // Whether another attempt has time left is asked when the queue is not locked. A job is out of the
    // queue first, so that no one else starts it.
    let dequeued = admission.take_where(|job: &Job| {
        let execution = &job.execution;
        is_late(execution) || execution.is_unheard()
    });
    let (mut is_put_back, mut gone_of) = (false, None);
    for mut dequeued in dequeued {
        let execution = &mut dequeued.job.execution;
        let (joined, error) = match &execution.key {
            _ if !is_late(execution) => (Vec::new(), Some(refusal::caller_gone())),
            None => (Vec::new(), Some(refusal::deadline_passed())),
            Some(key) => match shared.table.check_queued(key, execution.deadline, now) {
                StartCheck::Expired(joined) => (joined, Some(refusal::deadline_passed())),
                StartCheck::Cancelled => (Vec::new(), None),
                StartCheck::Start => {
                    let gone = gone_of.filter(|(lane, _)| *lane == dequeued.lane);
                    dequeued.at -= gone.map_or(0, |(_, gone)| gone);
                    admission.put_back(dequeued);
                    is_put_back = true;
                    continue;
                }
            },
        };
        let DequeuedJob { lane, mut job, .. } = dequeued;
        let before = gone_of.filter(|(other, _)| *other == lane);
        gone_of = Some((lane, before.map_or(1, |(_, gone)| gone + 1)));
        admission.release_queue_slot(lane);
        match error {
            Some(error) => job.execution.refuse_all(joined, &error),
            None => job.execution.end_cancelled(),
        }
        panics::drop_quietly(job);
    }
    if is_put_back {
        spawn_runnable(shared);
        // A server that began to stop in the meantime has emptied its queue before this.
        if shared.is_draining() {
            shared.refuse_queued();
        }
    }
}

/// Releases a run permit, and starts queued calls with it.
pub(crate) fn release_permit(shared: &Shared, lane: Lane) {
    shared.admission.release_run_permit(lane);
    spawn_runnable(shared);
}

/// Starts queued calls for as long as there are run permits.
pub(crate) fn spawn_runnable(shared: &Shared) {
    thread_local! {
        /// The server for which a caller further up the stack does this already.
        static BUSY: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
    }
    // A runtime that shuts down drops a job as it is spawned, which releases its permit, which
    // leads here again: once for each queued job, if the outermost call did not go on instead.
    if BUSY.get() == std::ptr::from_ref(shared) {
        return;
    }
    let before = BUSY.replace(std::ptr::from_ref(shared));
    while let Some(job) = shared.admission.next_runnable() {
        spawn(job);
    }
    BUSY.set(before);
}
