//! Running a call: here and now if that is possible, otherwise on a task of its own.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
};

use redial_protocol::ErrorObject;

use super::{Call, Key, Turn, kit::slot, refusal::Refusal};
use crate::{
    admission::Ticket,
    clock,
    execution::{self, Execution, Job, Stage},
    handler::{Context, Ended},
    observe::EventKind,
    table::{MayStart, TableKey},
    waiter::{Form, Waiter},
};

impl Turn<'_> {
    /// A call that has been taken on: runs it here if that is possible, otherwise hands it over.
    pub(super) fn start(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        key: Option<Key>,
        ticket: Ticket,
    ) {
        call.tell(self.shared, EventKind::Accepted);
        let is_delayed = call.verdict.delay_execution.is_some();
        if ticket == Ticket::Run && !is_delayed {
            self.run_in_place(call, method, key);
            return;
        }
        if let Err(error) = self.prepare(call, method) {
            self.withdraw(call, key, &ticket, &error);
            return;
        }
        match ticket {
            Ticket::Run => {
                let stage = Stage::Admitted(self.now);
                execution::spawn(self.job(call, method, key, stage));
            }
            Ticket::Queue => {
                let job = self.job(call, method, key, Stage::Queued);
                self.shared.admission.enqueue(job);
                execution::spawn_runnable(self.shared);
                // A server that began to stop in the meantime has emptied its queue before this.
                if self.shared.is_draining() {
                    self.shared.refuse_queued();
                }
            }
        }
    }

    /// The fast path: polls the handler once where it stands. If it has to wait, it moves out.
    fn run_in_place(&mut self, call: &Call<'_, '_>, method: usize, key: Option<Key>) {
        let watch = &mut self.kit.watch;
        if let MayStart::Late(joined) =
            execution::may_still_start(self.shared, &key, call.deadline, watch)
        {
            self.turn_away(call, joined, &Ticket::Run, &execution::deadline_passed());
            return;
        }
        match self.begin(call, method) {
            Err(error) => self.withdraw(call, key, &Ticket::Run, &error),
            Ok(Poll::Ready(ended)) => self.end_in_place(call, key, ended),
            Ok(Poll::Pending) => {
                let stage = Stage::Started(self.now);
                execution::spawn(self.job(call, method, key, stage));
            }
        }
    }

    /// Calls the handler with the decoded params, and polls what it gives in the connection's slot
    /// for the method.
    fn begin(&mut self, call: &Call<'_, '_>, method: usize) -> Result<Poll<Ended>, ErrorObject> {
        let (context, shared) = (self.context(call), self.shared);
        let buffer = std::mem::take(&mut self.kit.outcome);
        let tally = &mut self.kit.tally;
        let slot = slot(&mut self.kit.slots, method);
        execution::begin_caught(|has_begun| {
            let mut begins = || {
                has_begun.set(true);
                tally.started += 1;
                call.observe(shared, EventKind::Started);
            };
            let handler = &shared.router.method(method).handler;
            handler.start(call.request.params, context, buffer, slot, &mut begins)?;
            let future = slot.as_mut().expect("put there just now");
            Ok(future.poll(&mut TaskContext::from_waker(Waker::noop())))
        })
    }

    fn end_in_place(&mut self, call: &Call<'_, '_>, key: Option<Key>, mut ended: Ended) {
        self.kit.tally.finished += 1;
        call.observe(self.shared, EventKind::Finished);
        match key {
            Some(TableKey::Session(session, number)) if ended.recorded => {
                self.shared.fit(&mut ended.outcome);
                self.reply_as(call, &ended.outcome, Form::Reply);
                self.kit
                    .unfinished
                    .put(self.shared, session, number, &mut ended.outcome);
            }
            key => self.record(call, key.as_ref(), &mut ended),
        }
        self.kit.outcome = ended.outcome;
        self.leave();
    }

    /// Records an outcome now, or forgets the call if it had no effect, and tells everybody.
    fn record(&mut self, call: &Call<'_, '_>, key: Option<&Key>, ended: &mut Ended) {
        let watch = &mut self.kit.watch;
        // A record lives from the end of its call, of which no earlier reading knows: were that told
        // too early, a copy of a call that took long would find no record and run.
        let clock = || watch.read(clock::now());
        let joined = execution::record(self.shared, key, ended, clock);
        let form = match ended.recorded {
            true => Form::Reply,
            false => Form::refusal(call.key(), call.request.meta.attempt),
        };
        self.reply_as(call, &ended.outcome, form);
        for waiter in joined {
            waiter.settle(self.shared, ended);
        }
    }

    /// Decodes the params and readies the handler in the connection's slot for the method.
    fn prepare(&mut self, call: &Call<'_, '_>, method: usize) -> Result<(), ErrorObject> {
        let context = self.context(call);
        let buffer = std::mem::take(&mut self.kit.outcome);
        let slot = slot(&mut self.kit.slots, method);
        let handler = &self.shared.router.method(method).handler;
        execution::decode_caught(|| handler.prepare(call.request.params, context, buffer, slot))
    }

    fn context(&self, call: &Call<'_, '_>) -> Context {
        Context {
            attempt: call.request.meta.attempt,
            deadline: call.deadline,
            traceparent: call.request.meta.traceparent.as_deref().map(Into::into),
            peer: self.peer,
        }
    }

    /// What is left of a call that can't be run here and now.
    fn job(&mut self, call: &Call<'_, '_>, method: usize, key: Option<Key>, stage: Stage) -> Job {
        let name = &self.shared.router.method(method).name;
        let is_notification = call.request.is_notification();
        let own = (!is_notification).then(|| call.waiter(self.outbox, name, Form::Reply));
        if own.is_none() {
            call.skip();
        }
        let shared = Arc::clone(self.shared);
        Job {
            execution: Execution {
                shared,
                method,
                key,
                own,
                deadline: call.deadline,
                stage,
            },
            future: self.kit.slots[method].take().expect("prepared just now"),
            delay: call
                .verdict
                .delay_execution
                .filter(|_| !matches!(stage, Stage::Started(_))),
        }
    }

    /// Takes a call back that was taken on and can't be started.
    fn withdraw(
        &mut self,
        call: &Call<'_, '_>,
        key: Option<Key>,
        ticket: &Ticket,
        error: &ErrorObject,
    ) {
        let joined = key
            .map(|key| self.shared.table.release(&key))
            .unwrap_or_default();
        self.turn_away(call, joined, ticket, error);
    }

    /// Refuses all who wait for a call whose entry is gone already.
    fn turn_away(
        &mut self,
        call: &Call<'_, '_>,
        joined: Vec<Waiter>,
        ticket: &Ticket,
        error: &ErrorObject,
    ) {
        self.refuse(call, error);
        for waiter in joined {
            waiter.refuse(self.shared, error);
        }
        match ticket {
            Ticket::Run => self.leave(),
            Ticket::Queue => self.shared.admission.give_up_place(),
        }
    }

    pub(super) fn admit(&self) -> Result<Ticket, Refusal> {
        if self.shared.is_draining() {
            return Err(Refusal::ShuttingDown);
        }
        if self.kit.has_place.take() {
            return Ok(Ticket::Run);
        }
        self.shared.admission.enter().map_err(Refusal::Overloaded)
    }

    /// Gives the place of the call before up if somebody waits for one: nobody is overtaken.
    pub(super) fn make_way(&self) {
        if self.shared.admission.queued() > 0 && self.kit.has_place.take() {
            execution::leave(self.shared);
        }
    }

    /// Leaves the place to the next call of this read.
    fn leave(&self) {
        if self.kit.has_place.replace(true) {
            execution::leave(self.shared);
        }
    }
}
