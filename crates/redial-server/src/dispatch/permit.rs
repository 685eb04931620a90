//! What a connection has to do with admission: its peer's share there, and the run permit that the
//! calls of one read pass on to each other, so that calls that finish at once touch what all
//! connections share once per read.

use std::{cell::Cell, sync::Arc, time::Duration};

use redial_protocol::{ErrorObject, Priority};

use super::call::Call;
use crate::{
    admission::{Displaced, Lane, PeerSlot, QueueFull, Ticket},
    execution::{self, Job},
    panics,
    peer::Peer,
    refusal,
    shared::Shared,
    store::StoreError,
    table::Admitted,
};

pub(super) struct Permits {
    shared: Arc<Shared>,
    peer: PeerSlot,
    /// The method of the call before, if that has left its run permit.
    spare: Cell<Option<usize>>,
    /// A queued call that an admitted one has displaced. It is refused once nothing is locked.
    displaced: Cell<Option<Displaced<Job>>>,
}

/// Why a new call is not admitted.
pub(super) enum NotAdmitted {
    ShuttingDown,
    QueueFull {
        retry_after: Duration,
    },
    /// Nothing can be recorded.
    StoreFailed(StoreError),
    /// The policy refuses this method to its caller.
    Forbidden(usize),
}

impl Permits {
    pub(super) fn new(shared: &Arc<Shared>, peer: &Peer) -> Self {
        Self {
            shared: Arc::clone(shared),
            peer: shared.admission.enter(peer),
            spare: Cell::new(None),
            displaced: Cell::new(None),
        }
    }

    /// From now on calls come from another peer.
    pub(super) fn change_peer(&mut self, peer: &Peer) {
        self.release();
        let before = std::mem::replace(&mut self.peer, self.shared.admission.enter(peer));
        self.shared.admission.leave(before);
    }

    /// The calls of a method that come from this peer.
    pub(super) fn lane(&self, method: usize) -> Lane {
        let peer = self.peer;
        Lane { peer, method }
    }

    /// A run permit for a new call, or a slot in the queue.
    pub(super) fn admit(&self, method: usize, priority: Priority) -> Result<Ticket, NotAdmitted> {
        if self.shared.is_draining() {
            return Err(NotAdmitted::ShuttingDown);
        }
        if self.spare.get() == Some(method) {
            self.spare.set(None);
            return Ok(Ticket::Run);
        }
        match self.shared.admission.admit(self.lane(method), priority) {
            Ok((ticket, displaced)) => {
                if displaced.is_some() {
                    self.displaced.set(displaced);
                }
                Ok(ticket)
            }
            Err(QueueFull { retry_after }) => Err(NotAdmitted::QueueFull { retry_after }),
        }
    }

    /// The same, for a call that goes on record.
    pub(super) fn admit_mutation(
        &self,
        method: usize,
        call: &Call<'_, '_>,
    ) -> Result<Admitted<Ticket>, NotAdmitted> {
        if let Some(problem) = self.shared.store.as_ref().and_then(|store| store.problem()) {
            return Err(NotAdmitted::StoreFailed(problem));
        }
        let ticket = self.admit(method, call.priority(&self.shared.config))?;
        let starts_now = ticket == Ticket::Run && call.verdict.delay_execution.is_none();
        Ok(Admitted { ticket, starts_now })
    }

    /// Refuses the call that had to leave the queue for one that was admitted, if there is one.
    #[inline]
    pub(super) fn refuse_displaced(&self) {
        if let Some(displaced) = self.displaced.take() {
            self.refuse(displaced);
        }
    }

    #[cold]
    fn refuse(&self, displaced: Displaced<Job>) {
        let Displaced {
            mut job,
            retry_after,
        } = displaced;
        let max = self.shared.config.max_queued;
        self.shared.counters.count_displaced();
        job.execution.refuse(&refusal::displaced(max, retry_after));
        // Its future is the program's, and may panic.
        panics::drop_quietly(job);
    }

    /// Keeps the permit of a call that has finished for the next call of this read.
    pub(super) fn keep(&self, method: usize) {
        if let Some(other) = self.spare.replace(Some(method)) {
            execution::release_permit(&self.shared, self.lane(other));
        }
    }

    /// Releases the permit if it is that of another method, or if calls are queued: they come first. A
    /// full queue loses those that no caller waits for. Not while anything is locked, since calls
    /// that leave the queue may be refused.
    pub(super) fn yield_to_queue(&self, method: usize) {
        if self.spare.get().is_some_and(|kept| kept != method) {
            self.release();
        }
        let queued = self.shared.admission.queued();
        if queued > 0 {
            self.release();
            if queued >= self.shared.config.max_queued {
                self.shared.clear_queue();
            }
        }
    }

    pub(super) fn release(&self) {
        if let Some(method) = self.spare.take() {
            execution::release_permit(&self.shared, self.lane(method));
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.release();
        self.refuse_displaced();
        self.shared.admission.leave(self.peer);
    }
}

impl NotAdmitted {
    pub(super) fn error(&self, shared: &Shared) -> ErrorObject {
        match self {
            Self::ShuttingDown => refusal::shutting_down(),
            Self::QueueFull { retry_after } => shared.queue_full(*retry_after),
            Self::Forbidden(method) => refusal::forbidden(&shared.router.method(*method).name),
            Self::StoreFailed(problem) => refusal::store_unavailable(&problem.message),
        }
    }
}
