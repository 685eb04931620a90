//! Running an admitted call: in place if possible, otherwise on a task of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redial_protocol::ErrorObject;

use super::{
    Dispatcher,
    call::Call,
    fingerprint,
    scratch::{ConnectionScratch, future_slot},
};
use crate::{
    admission::Ticket,
    clock,
    execution::{self, Execution, Job, Stage, Work},
    handler::{ErasedHandler, FirstPoll},
    observe::EventKind,
    refusal,
    router::MethodBody,
    store::Resumable,
    table::{StartCheck, TableKey},
    traces::{ExecutionSpan, InsideExecution},
    waiter::{ReplyKind, Waiter, complete_all},
};

type Key = TableKey<Waiter>;

impl Dispatcher<'_> {
    /// Runs an admitted call in place if possible, otherwise spawns or queues it.
    pub(super) fn start(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        key: Option<Key>,
        ticket: Ticket,
    ) {
        call.emit(self.shared, EventKind::Accepted);
        let is_delayed = call.verdict.delay_execution.is_some();
        if ticket == Ticket::Run && !is_delayed {
            let is_stored = key.is_some() && self.shared.store.is_some();
            return match &self.shared.router.method(method).body {
                MethodBody::Handler(handler) if !is_stored => {
                    self.run_in_place(call, method, &**handler, key);
                }
                _ => self.run_stored(call, method, key),
            };
        }
        let work = match self.work(call, method, key.as_ref()) {
            Ok(work) => work,
            Err(error) => return self.withdraw(call, method, key.as_ref(), &ticket, &error),
        };
        match ticket {
            Ticket::Run => {
                let stage = Stage::Admitted(self.awake);
                execution::spawn(self.job(call, method, key, stage, work));
            }
            Ticket::Queue => {
                let (priority, since) = (call.priority(&self.shared.config), self.awake);
                let job = self.job(call, method, key, Stage::Queued(since), work);
                let (admission, lane) = (&self.shared.admission, job.execution.lane);
                admission.enqueue(lane, priority, since, job);
                execution::run_next(self.shared);
                // A server that began to stop in the meantime has emptied its queue before this.
                if self.shared.is_draining() {
                    self.shared.refuse_queued();
                }
            }
        }
    }

    /// What there is to run for a call that is not run in place.
    fn work(
        &self,
        call: &Call<'_, '_>,
        method: usize,
        key: Option<&Key>,
    ) -> Result<Work, ErrorObject> {
        let (params, context) = (call.request.params, call.context(key, self.caller));
        let registered = self.shared.router.method(method);
        let fingerprint = || fingerprint(self.shared, method, call.request);
        let named = |error| refusal::of_method(&registered.name, error);
        match &registered.body {
            MethodBody::Transaction(transaction) => Ok(Work::Transaction {
                transaction: transaction.prepare(params, context).map_err(named)?,
                fingerprint: fingerprint(),
            }),
            MethodBody::Handler(handler) => {
                let future = handler.prepare(params, context).map_err(named)?;
                let future = call.span.around(future);
                if key.is_none() || self.shared.store.is_none() {
                    return Ok(Work::Handler(future));
                }
                let resumable = registered.is_resumable.then(|| Resumable {
                    method: registered.name.to_string(),
                    params: params.map(str::to_owned),
                });
                Ok(Work::Recorded {
                    future,
                    fingerprint: fingerprint(),
                    resumable,
                })
            }
        }
    }

    /// Hands a call to the store, together with the others of this read.
    fn run_stored(&mut self, call: &Call<'_, '_>, method: usize, key: Option<Key>) {
        if self.is_too_late(call) && !self.may_start(call, method, key.as_ref()) {
            return;
        }
        let work = match self.work(call, method, key.as_ref()) {
            Ok(work) => work,
            Err(error) => return self.withdraw(call, method, key.as_ref(), &Ticket::Run, &error),
        };
        self.scratch.tally.started += 1;
        call.observe(self.shared, EventKind::Started);
        self.scratch.has_stored = true;
        let stage = Stage::Started(self.awake);
        let mut job = self.job(call, method, key, stage, work);
        job.execution.started = self.shared.clock_if_observed();
        if let Work::Transaction { .. } = &job.work {
            job.execution.span = call.span.execution();
        }
        match job.work {
            Work::Transaction {
                transaction,
                fingerprint,
            } => job.execution.submit(transaction, fingerprint),
            _ => execution::spawn(job),
        }
    }

    /// The fast path: polls the handler once in place. If it has to wait, it moves to a task.
    fn run_in_place(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        handler: &dyn ErasedHandler,
        key: Option<Key>,
    ) {
        if self.is_too_late(call) && !self.may_start(call, method, key.as_ref()) {
            return;
        }
        let started = self.shared.clock_if_observed();
        match self.first_poll(call, method, handler, key.as_ref()) {
            FirstPoll::Ready { is_recorded } => {
                if let Some(started) = started {
                    self.observe_finished(call, method, started);
                }
                self.finish_in_place(call, method, key, is_recorded);
            }
            FirstPoll::Pending(future) => {
                let (stage, work) = (Stage::Started(self.awake), Work::Handler(future));
                let mut job = self.job(call, method, key, stage, work);
                job.execution.started = started;
                execution::spawn(job);
            }
            FirstPoll::NotStarted(error) => {
                let error = refusal::of_method(&call.request.method, *error);
                self.withdraw(call, method, key.as_ref(), &Ticket::Run, &error);
            }
        }
    }

    /// Whether the deadline of the attempt has passed. Only that can prevent the start of a call that was
    /// entered as one that starts at once.
    fn is_too_late(&mut self, call: &Call<'_, '_>) -> bool {
        let clock = &mut self.scratch.clock;
        call.deadline
            .is_some_and(|own| own <= clock.before_call(clock::now))
    }

    /// Whether the call may start all the same, since another of its attempts has time left: see
    /// [`execution::check_start`]. If not, all of them are refused.
    #[cold]
    fn may_start(&mut self, call: &Call<'_, '_>, method: usize, key: Option<&Key>) -> bool {
        match execution::check_start(self.shared, key, call.deadline) {
            StartCheck::Expired(joined) => {
                let error = refusal::deadline_passed();
                self.refuse_all(call, method, joined, &Ticket::Run, &error);
                false
            }
            _ => true,
        }
    }

    /// Decodes the params, calls the handler, and polls its future in the connection's slot for
    /// the method. If it is ready, its outcome is in the scratch.
    fn first_poll(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        handler: &dyn ErasedHandler,
        key: Option<&Key>,
    ) -> FirstPoll {
        let (shared, caller) = (self.shared, self.caller);
        let ConnectionScratch {
            future_slots,
            outcome,
            tally,
            ..
        } = &mut *self.scratch;
        outcome.clear();
        let mut inside = InsideExecution::default();
        let mut on_start = || {
            tally.started += 1;
            call.observe(shared, EventKind::Started);
            inside = call.span.enter_execution();
            call.context(key, caller)
        };
        let polled = handler.start(
            call.request.params,
            future_slot(future_slots, method),
            outcome,
            &mut on_start,
        );
        inside.end(polled, outcome)
    }

    /// Out of line, since most servers have no observer.
    #[cold]
    fn observe_finished(&self, call: &Call<'_, '_>, method: usize, started: Instant) {
        let ran = clock::now().saturating_duration_since(started);
        #[cfg(feature = "metrics")]
        if let Some(recorder) = &self.shared.recorder {
            let error = crate::observe::error_of(&self.scratch.outcome);
            let record = || recorder.finished_in_place(method, ran, error);
            // As an observer that panics costs no call anything.
            let _: Result<(), String> = crate::panics::catch(record);
            return;
        }
        #[cfg(not(feature = "metrics"))]
        let _ = method;
        call.observe_end(self.shared, EventKind::Finished, &self.scratch.outcome, ran);
    }

    fn finish_in_place(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        key: Option<Key>,
        is_recorded: bool,
    ) {
        self.scratch.tally.finished += 1;
        match key {
            Some(TableKey::Session(session, number)) if is_recorded => {
                self.shared.config.fit_to_frame(&mut self.scratch.outcome);
                self.reply(call, ReplyKind::Reply);
                let ConnectionScratch {
                    deferred, outcome, ..
                } = &mut *self.scratch;
                deferred.put(self.shared, session, number, outcome);
            }
            key => self.record(call, key.as_ref(), is_recorded),
        }
        self.scratch.permits.keep(method);
    }

    /// Records an outcome now, or forgets the call if it had no effect, and answers all waiters.
    fn record(&mut self, call: &Call<'_, '_>, key: Option<&Key>, is_recorded: bool) {
        let ConnectionScratch {
            clock: coarse,
            outcome,
            ..
        } = &mut *self.scratch;
        // A record lives from the end of its call, which no earlier reading of the clock knows:
        // with one, a copy of a call that took long would find no record and run.
        let clock = || self.shared.awake.at(coarse.read(clock::now()));
        let joined = self.shared.record(key, outcome, is_recorded, clock);
        let kind = if is_recorded {
            ReplyKind::Reply
        } else {
            ReplyKind::refusal(call.key(), call.request.meta.attempt)
        };
        self.reply(call, kind);
        complete_all(self.shared, joined, &self.scratch.outcome, is_recorded);
    }

    /// What is left of a call that does not finish in place.
    fn job(
        &self,
        call: &Call<'_, '_>,
        method: usize,
        key: Option<Key>,
        stage: Stage,
        work: Work,
    ) -> Job {
        let name = &self.shared.router.method(method).name;
        let origin = if call.request.is_notification() {
            call.skip();
            None
        } else {
            Some(call.waiter(self.outbox, name, ReplyKind::Reply))
        };
        let has_origin = origin.is_some();
        let delay = call.verdict.delay_execution;
        Job {
            execution: Execution {
                shared: Arc::clone(self.shared),
                lane: self.scratch.permits.lane(method),
                key,
                origin,
                deadline: call.deadline,
                stage,
                queued: Duration::ZERO,
                started: None,
                event_context: if has_origin {
                    None
                } else {
                    call.event_context()
                },
                span: ExecutionSpan::default(),
            },
            work,
            delay: delay.filter(|_| !matches!(stage, Stage::Started(_))),
        }
    }

    /// Refuses a call that was admitted and can't start, and frees its id.
    fn withdraw(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        key: Option<&Key>,
        ticket: &Ticket,
        error: &ErrorObject,
    ) {
        let joined = key.map(|key| self.shared.table.release(key));
        self.refuse_all(call, method, joined.unwrap_or_default(), ticket, error);
    }

    /// Refuses all who wait for a call whose entry is gone already.
    fn refuse_all(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        joined: Vec<Waiter>,
        ticket: &Ticket,
        error: &ErrorObject,
    ) {
        self.refuse(call, error);
        for waiter in joined {
            waiter.refuse(self.shared, error);
        }
        match ticket {
            Ticket::Run => self.scratch.permits.keep(method),
            Ticket::Queue => {
                let lane = self.scratch.permits.lane(method);
                self.shared.admission.release_queue_slot(lane);
            }
        }
    }
}
