//! Running a call: here and now if that is possible, otherwise on a task of its own.

use std::{cell::Cell, sync::Arc};

use redial_protocol::ErrorObject;

use super::{
    Call, Key, Turn,
    kit::{Kit, place},
    refusal::Refusal,
};
use crate::{
    admission::Ticket,
    clock,
    execution::{self, Execution, Job, Stage},
    handler::{Begun, Context, Prepared},
    observe::EventKind,
    shared::Shared,
    table::{MayStart, TableKey},
    waiter::{Form, Waiter},
};

impl Turn<'_> {
    /// A call that has been taken on: runs it here if that is possible, otherwise hands it over.
    pub(super) fn start(
        &mut self,
        call: &Call<'_, '_>,
        method: usize,
        key: &mut Option<Key>,
        ticket: Ticket,
    ) {
        call.tell(self.shared, EventKind::Accepted);
        let is_delayed = call.verdict.delay_execution.is_some();
        if ticket == Ticket::Run && !is_delayed {
            self.run_in_place(call, method, key);
            return;
        }
        let future = match self.prepare(call, method) {
            Ok(future) => future,
            Err(error) => return self.withdraw(call, key, &ticket, &error),
        };
        match ticket {
            Ticket::Run => {
                let stage = Stage::Admitted(self.now);
                execution::spawn(self.job(call, method, key, stage, future));
            }
            Ticket::Queue => {
                let job = self.job(call, method, key, Stage::Queued, future);
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
    fn run_in_place(&mut self, call: &Call<'_, '_>, method: usize, key: &mut Option<Key>) {
        let watch = &mut self.kit.watch;
        if let MayStart::Late(joined) =
            execution::may_still_start(self.shared, key, call.deadline, watch)
        {
            self.turn_away(call, joined, &Ticket::Run, &execution::deadline_passed());
            return;
        }
        match self.begin(call, method) {
            Err(error) => self.withdraw(call, key, &Ticket::Run, &error),
            Ok(Begun::Ended { recorded }) => self.end_in_place(call, key, recorded),
            Ok(Begun::Waits(future)) => {
                let stage = Stage::Started(self.now);
                execution::spawn(self.job(call, method, key, stage, future));
            }
        }
    }

    /// Calls the handler with the decoded params, and polls what it gives in the connection's place
    /// for the method. The outcome is in the kit afterwards, if there is one.
    fn begin(&mut self, call: &Call<'_, '_>, method: usize) -> Result<Begun, ErrorObject> {
        let (context, shared) = (self.context(call), self.shared);
        let handler = &shared.router.method(method).handler;
        let place = place(&mut self.kit.places, method);
        let tally = &mut self.kit.tally;
        execution::begin_caught(place, &mut self.kit.outcome, |place, out, has_begun| {
            let mut begins = || {
                has_begun.set(true);
                tally.started += 1;
                call.observe(shared, EventKind::Started);
            };
            handler.start(call.request.params, context, place, out, &mut begins)
        })
    }

    fn end_in_place(&mut self, call: &Call<'_, '_>, key: &mut Option<Key>, recorded: bool) {
        self.kit.tally.finished += 1;
        call.observe(self.shared, EventKind::Finished);
        if recorded && let Some(TableKey::Session(..)) = key {
            self.shared.fit(&mut self.kit.outcome);
            self.reply_kept(call, Form::Reply);
            if let Some(TableKey::Session(session, number)) = key.take() {
                let Kit {
                    unfinished,
                    outcome,
                    ..
                } = self.kit;
                unfinished.put(self.shared, session, number, outcome);
            }
        } else {
            self.record(call, key.as_ref(), recorded);
        }
        self.leave();
    }

    /// Records an outcome now, or forgets the call if it had no effect, and tells everybody.
    fn record(&mut self, call: &Call<'_, '_>, key: Option<&Key>, recorded: bool) {
        let Kit { watch, outcome, .. } = self.kit;
        // A record lives from the end of its call, of which no earlier reading knows: were that told
        // too early, a copy of a call that took long would find no record and run.
        let clock = || watch.read(clock::now());
        let joined = execution::record(self.shared, key, outcome, recorded, clock);
        self.reply_kept(
            call,
            match recorded {
                true => Form::Reply,
                false => Form::refusal(call.key(), call.request.meta.attempt),
            },
        );
        for waiter in joined {
            waiter.settle(self.shared, &self.kit.outcome, recorded);
        }
    }

    /// Decodes the params and readies the handler, for later.
    fn prepare(&mut self, call: &Call<'_, '_>, method: usize) -> Result<Prepared, ErrorObject> {
        let context = self.context(call);
        let handler = &self.shared.router.method(method).handler;
        execution::decode_caught(|| handler.prepare(call.request.params, context))
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
    fn job(
        &self,
        call: &Call<'_, '_>,
        method: usize,
        key: &mut Option<Key>,
        stage: Stage,
        future: Prepared,
    ) -> Job {
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
                key: key.take(),
                own,
                deadline: call.deadline,
                stage,
            },
            future,
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
        key: &Option<Key>,
        ticket: &Ticket,
        error: &ErrorObject,
    ) {
        let joined = key
            .as_ref()
            .map(|key| self.shared.table.release(key))
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
        admit(self.shared, &self.kit.has_place)
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

/// A place among the running calls for a new one, or in the queue: that of the call before, if this
/// read holds one.
pub(super) fn admit(shared: &Shared, has_place: &Cell<bool>) -> Result<Ticket, Refusal> {
    if shared.is_draining() {
        return Err(Refusal::ShuttingDown);
    }
    if has_place.take() {
        return Ok(Ticket::Run);
    }
    shared.admission.enter().map_err(Refusal::Overloaded)
}
