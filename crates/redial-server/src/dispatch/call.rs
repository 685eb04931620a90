//! One request on its way through the server, with all that has been decided about it.

use std::{sync::Arc, time::Instant};

use redial_protocol::{CallKey, Id, Request};

use crate::{
    batch::{BatchAnswer, BatchPlace},
    fault::Verdict,
    observe::EventKind,
    outbox::{Outbox, Owed},
    shared::Shared,
    waiter::{Form, Waiter},
};

/// One request on its way.
pub(super) struct Call<'r, 'a> {
    pub(super) request: &'r Request<'a>,
    /// When the caller stops waiting, if it said so.
    pub(super) deadline: Option<Instant>,
    pub(super) verdict: Verdict,
    pub(super) batch: Option<(&'r Arc<BatchAnswer>, usize)>,
}

impl Call<'_, '_> {
    pub(super) fn waiter(&self, outbox: &Arc<Outbox>, method: &Arc<str>, form: Form) -> Waiter {
        Waiter {
            owed: Owed::to(outbox),
            batch: self.batch_place(),
            dialect: self.request.dialect,
            id: self.request.id.unwrap_or(Id::NULL).raw().into(),
            method: Arc::clone(method),
            attempt: self.request.meta.attempt,
            verdict: self.verdict,
            form,
        }
    }

    /// The call's name, if its id is one.
    pub(super) fn key(&self) -> Option<CallKey> {
        self.request.id?.key(self.request.dialect)
    }

    fn batch_place(&self) -> Option<BatchPlace> {
        self.batch.map(|(answer, index)| answer.place(index))
    }

    /// The call will not be answered, so that a batch must not wait for it.
    pub(super) fn skip(&self) {
        if let Some(place) = self.batch_place() {
            place.skip();
        }
    }

    pub(super) fn tell(&self, shared: &Shared, kind: EventKind) {
        shared.counters.count(kind);
        self.observe(shared, kind);
    }

    /// As [`tell`](Self::tell), for what is counted elsewhere.
    pub(super) fn observe(&self, shared: &Shared, kind: EventKind) {
        let id = self.request.id.map(|id| id.raw());
        shared.observe(kind, id, self.request.meta.attempt, &self.request.method);
    }
}
