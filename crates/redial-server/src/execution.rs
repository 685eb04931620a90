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
    admission::{Dequeued, Lane, Shed},
    clock,
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
pub(crate) fn spawn(job: Job) {
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
        Err(why) => execution.end_unstarted(why),
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
    /// See [`Execution::given_up`].
    Unheard(Vec<Waiter>),
}

impl Execution {
    async fn run_work(&mut self, work: Work, delay: Option<Duration>) -> Result<Ended, NotStarted> {
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        if let Stage::Admitted(since) = self.stage {
            if self.is_unheard() {
                return Err(NotStarted::Unheard(Vec::new()));
            }
            match check_start(&self.shared, self.key.as_ref(), self.deadline) {
                StartCheck::Start => {}
                StartCheck::Expired(joined) => return Err(NotStarted::Expired(joined)),
                StartCheck::Cancelled | StartCheck::Unheard(_) => {
                    return Err(NotStarted::Cancelled);
                }
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
                self.shared.admission.note_timeout();
                // It is the program's, and may panic.
                panics::drop_quietly(future);
                Completion::recorded_error(&refusal::timed_out(timeout))
            }
        }
    }

    /// Whether the reply would reach no one, and the call has no other purpose: a query whose
    /// connection is gone.
    fn is_unheard(&self) -> bool {
        self.key.is_none() && self.is_origin_gone() && self.method().kind == MethodKind::Query
    }

    /// Whether the connection is gone that brought the call.
    fn is_origin_gone(&self) -> bool {
        let origin = self.origin.as_ref();
        origin.is_some_and(|origin| !origin.is_connected())
    }

    /// How it ends if all its callers have given up before it has started: all deadlines have passed, or no
    /// connection is left to take its reply, which counts of a query, and of others while there is
    /// overload. Asked of a job that is out of the queue, so that nothing else starts it, and answered in one
    /// step with the table, so that no attempt joins in between.
    fn given_up(&self, is_overloaded: bool, now: Instant) -> Option<NotStarted> {
        let check = match &self.key {
            None if self.deadline.is_some_and(|own| own <= now) => StartCheck::Expired(Vec::new()),
            None if self.is_unheard() => StartCheck::Unheard(Vec::new()),
            None => StartCheck::Start,
            Some(key) => {
                let is_gone = is_overloaded && self.is_origin_gone();
                let table = &self.shared.table;
                table.check_queued(key, self.deadline, is_gone, now)
            }
        };
        match check {
            StartCheck::Start => None,
            StartCheck::Expired(joined) => Some(NotStarted::Expired(joined)),
            StartCheck::Unheard(joined) => Some(NotStarted::Unheard(joined)),
            StartCheck::Cancelled => Some(NotStarted::Cancelled),
        }
    }

    /// Ends a call that does not start after all.
    fn end_unstarted(&mut self, why: NotStarted) {
        match why {
            NotStarted::Expired(joined) => self.refuse_all(joined, &refusal::deadline_passed()),
            NotStarted::Unheard(joined) => self.refuse_all(joined, &refusal::caller_gone()),
            NotStarted::Cancelled => self.end_cancelled(),
        }
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
        // Nothing waits for a notification, but it is refused as others are.
        if self.key.is_none() && self.origin.is_none() {
            self.emit(EventKind::Refused(error.code));
        }
        for waiter in self.origin.take().into_iter().chain(joined) {
            waiter.refuse(&self.shared, error);
        }
        self.release_permit();
    }

    /// Releases the run permit, if it holds one, to a queued call.
    fn release_permit(&mut self) {
        let (shared, lane) = (&self.shared, self.lane);
        match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Queued(_) | Stage::Finished => {}
            Stage::Admitted(_) => release_permit(shared, lane),
            Stage::Started(since) => {
                let now = shared.awake.now();
                let service = now.saturating_duration_since(since);
                shared.times.record(lane.method, service);
                shared.admission.finish(lane, service, now);
                run_next(shared);
            }
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
pub(crate) fn check_start(
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

/// Refuses the queued calls whose callers have given up.
pub(crate) fn drop_abandoned(shared: &Shared) {
    let admission = &shared.admission;
    if admission.queued() == 0 {
        return;
    }
    let now = clock::now();
    let (dequeued, is_overloaded) = admission.take_where(|job: &Job, is_overloaded| {
        let execution = &job.execution;
        execution.deadline.is_some_and(|own| own <= now)
            || execution.is_unheard()
            || is_overloaded && execution.is_origin_gone()
    });
    let mut is_put_back = false;
    for dequeued in dequeued {
        match dequeued.job.execution.given_up(is_overloaded, now) {
            Some(why) => dismiss(admission.give_up(dequeued), why),
            None => {
                admission.put_back(dequeued);
                is_put_back = true;
            }
        }
    }
    if is_put_back {
        run_next(shared);
        // A server that began to stop in the meantime has emptied its queue before this.
        if shared.is_draining() {
            shared.refuse_queued();
        }
    }
}

/// Releases a run permit, and lets queued calls run with it.
pub(crate) fn release_permit(shared: &Shared, lane: Lane) {
    shared.admission.release_run_permit(lane);
    run_next(shared);
}

/// Lets queued calls run for as long as there are run permits, and refuses those that were queued for too
/// long. Nothing else may be locked.
pub(crate) fn run_next(shared: &Shared) {
    thread_local! {
        /// The server for which a caller further up the stack does this already.
        static BUSY: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
    }
    // A slot in the queue is counted before its job looks for a free run permit, and a permit is freed
    // before this looks at the count, so at least one of the two sees the other. A call that is refused, or that a runtime drops as it is spawned because it shuts down, releases its
    // permit, which leads here again: once for each queued call, if the outermost did not go on instead.
    if shared.admission.queued() == 0 || BUSY.get() == std::ptr::from_ref(shared) {
        return;
    }
    let before = BUSY.replace(std::ptr::from_ref(shared));
    while shared.admission.queued() > 0 {
        let now = clock::now();
        let awake = shared.awake.at(now);
        match shared.admission.next(awake) {
            None => break,
            Some(Dequeued::Shed(shed)) => refuse_late(shed),
            Some(Dequeued::Run { job, is_overloaded }) => {
                start_queued(job, is_overloaded, now, awake);
            }
        }
    }
    BUSY.set(before);
}

/// Runs a job that has left the queue with a run permit, if a caller still waits for it.
fn start_queued(mut job: Job, is_overloaded: bool, now: Instant, awake: Instant) {
    let execution = &mut job.execution;
    if let Stage::Queued(since) = execution.stage {
        execution.queued = awake.saturating_duration_since(since);
        execution.stage = Stage::Admitted(awake);
    }
    if let Some(why) = execution.given_up(is_overloaded, now) {
        return dismiss(job, why);
    }
    execution.shared.counters.count_dequeued(execution.queued);
    spawn(job);
}

fn dismiss(mut job: Job, why: NotStarted) {
    job.execution.shared.counters.count_given_up();
    job.execution.end_unstarted(why);
    // Its future is the program's, and may panic.
    panics::drop_quietly(job);
}

#[cold]
fn refuse_late(shed: Shed<Job>) {
    let mut job = shed.job;
    job.execution.queued = shed.waited;
    job.execution.shared.counters.count_shed();
    let error = refusal::queued_too_long(shed.waited, shed.retry_after);
    job.execution.refuse(&error);
    panics::drop_quietly(job);
}
