//! One request on its way through the server, with all that has been decided about it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redial_protocol::{CallKey, Id, Priority, Request, SessionId};

use crate::{
    batch::{BatchAnswer, BatchSlot},
    caller::Caller,
    config::Config,
    context::Context,
    fault::Verdict,
    observe::{Event, EventContext, EventKind, error_of},
    outbox::{Outbox, ReplyPermit},
    shared::Shared,
    table::TableKey,
    traces::AttemptSpan,
    waiter::{ReplyKind, Waiter},
};

pub(super) struct Call<'r, 'a> {
    pub(super) request: &'r Request<'a>,
    /// When the caller stops waiting, if it said so.
    pub(super) deadline: Option<Instant>,
    pub(super) verdict: Verdict,
    pub(super) batch: Option<BatchEntry<'r>>,
    pub(super) caller: &'r Caller,
    pub(super) connection: &'r Outbox,
    /// Whether something observes attempts.
    pub(super) is_observed: bool,
    pub(super) span: AttemptSpan,
}

/// Which entry of which batch a request is.
#[derive(Clone, Copy)]
pub(super) struct BatchEntry<'r> {
    pub(super) answer: &'r Arc<BatchAnswer>,
    pub(super) index: usize,
}

impl BatchEntry<'_> {
    pub(super) fn slot(self) -> BatchSlot {
        self.answer.slot(self.index)
    }
}

impl Call<'_, '_> {
    pub(super) fn waiter(
        &self,
        outbox: &Arc<Outbox>,
        method: &Arc<str>,
        kind: ReplyKind,
    ) -> Waiter {
        Waiter {
            permit: ReplyPermit::new(outbox),
            batch: self.batch.map(BatchEntry::slot),
            dialect: self.request.dialect,
            id: self.request.id.unwrap_or(Id::NULL).raw().into(),
            method: Arc::clone(method),
            attempt: self.request.meta.attempt,
            verdict: self.verdict,
            kind,
            asks_about: None,
            event_context: self.event_context(),
            span: self.span.clone(),
        }
    }

    /// What observers hear of it when its request is gone, if one listens.
    #[inline]
    pub(super) fn event_context(&self) -> Option<Box<EventContext>> {
        self.is_observed.then(|| self.make_event_context())
    }

    #[cold]
    fn make_event_context(&self) -> Box<EventContext> {
        Box::new(EventContext {
            connection: Some(self.connection.number()),
            peer: self.caller.address,
            known: self.caller.known().cloned(),
            session: self.session(),
            traceparent: self.request.meta.traceparent.as_deref().map(Into::into),
        })
    }

    /// The session that it belongs to.
    fn session(&self) -> Option<SessionId> {
        match self.key()? {
            CallKey::Session(named) => Some(named.session),
            _ => None,
        }
    }

    /// The call's name, if its id is one.
    pub(super) fn key(&self) -> Option<CallKey> {
        self.request.id?.key(self.request.dialect)
    }

    /// How much it matters that it is served, where that counts.
    #[inline]
    pub(super) fn priority(&self, config: &Config) -> Priority {
        if config.overload.priorities {
            self.request.meta.priority
        } else {
            Priority::Default
        }
    }

    /// What a handler may want to know, of a call with this entry in the table.
    #[inline]
    pub(super) fn context(&self, entry: Option<&TableKey<Waiter>>, caller: &Caller) -> Context {
        let meta = &self.request.meta;
        let traceparent = meta.traceparent.as_deref();
        let mut context = Context::new(meta.attempt, self.deadline, caller.address, traceparent);
        if let Some(known) = caller.known() {
            context.set_known(known);
        }
        if let Some(meta) = meta.meta {
            context.set_meta(meta);
        }
        if let Some(entry) = entry {
            entry.name_in(&mut context);
        }
        context
    }

    /// The call is not answered, so that its batch must not wait for it.
    pub(super) fn skip(&self) {
        if let Some(entry) = self.batch {
            entry.slot().skip();
        }
    }

    pub(super) fn emit(&self, shared: &Shared, kind: EventKind) {
        shared.counters.count(kind);
        self.observe(shared, kind);
    }

    /// As [`emit`](Self::emit), for what is counted elsewhere.
    #[inline]
    pub(super) fn observe(&self, shared: &Shared, kind: EventKind) {
        self.span.note(kind, || None);
        shared.observe(kind, || self.event(kind));
    }

    /// The same for what ends with an outcome.
    #[inline]
    pub(super) fn observe_end(
        &self,
        shared: &Shared,
        kind: EventKind,
        outcome: &[u8],
        ran: Duration,
    ) {
        self.span.note(kind, || error_of(outcome));
        shared.observe(kind, || Event {
            error: error_of(outcome),
            ran,
            ..self.event(kind)
        });
    }

    #[cold]
    fn event(&self, kind: EventKind) -> Event<'_> {
        Event {
            id: self.request.id.map(|id| id.raw()),
            attempt: self.request.meta.attempt,
            method: &self.request.method,
            connection: Some(self.connection.number()),
            peer: self.caller.address,
            principal: self.caller.principal(),
            session: self.session(),
            traceparent: self.request.meta.traceparent.as_deref(),
            ..Event::of(kind)
        }
    }
}
