//! The run permit that the calls of one read pass on to each other, so that calls that finish at
//! once touch the server's counters once per read.

use std::{cell::Cell, time::Duration};

use redial_protocol::ErrorObject;

use super::call::Call;
use crate::{
    admission::{QueueFull, Ticket},
    execution, refusal,
    shared::Shared,
    table::Admitted,
};

/// A run permit of the call before, if there is one.
#[derive(Default)]
pub(super) struct SparePermit(Cell<bool>);

/// Why a new call is not admitted.
pub(super) enum NotAdmitted {
    ShuttingDown,
    QueueFull { retry_after: Duration },
}

impl SparePermit {
    /// A run permit for a new call, or a slot in the queue.
    pub(super) fn admit(&self, shared: &Shared) -> Result<Ticket, NotAdmitted> {
        if shared.is_draining() {
            return Err(NotAdmitted::ShuttingDown);
        }
        if self.0.take() {
            return Ok(Ticket::Run);
        }
        let admitted = shared.admission.admit();
        admitted.map_err(|QueueFull { retry_after }| NotAdmitted::QueueFull { retry_after })
    }

    /// The same, for a call that goes on record.
    pub(super) fn admit_mutation(
        &self,
        shared: &Shared,
        call: &Call<'_, '_>,
    ) -> Result<Admitted<Ticket>, NotAdmitted> {
        let ticket = self.admit(shared)?;
        let starts_now = ticket == Ticket::Run && call.verdict.delay_execution.is_none();
        Ok(Admitted { ticket, starts_now })
    }

    /// Keeps the permit of a call that has finished for the next call of this read.
    pub(super) fn keep(&self, shared: &Shared) {
        if self.0.replace(true) {
            execution::release_permit(shared);
        }
    }

    /// Releases the permit if calls are queued: they come first.
    pub(super) fn yield_to_queue(&self, shared: &Shared) {
        if shared.admission.queued() > 0 {
            self.release(shared);
        }
    }

    pub(super) fn release(&self, shared: &Shared) {
        if self.0.take() {
            execution::release_permit(shared);
        }
    }
}

impl NotAdmitted {
    pub(super) fn error(&self, shared: &Shared) -> ErrorObject {
        match self {
            Self::ShuttingDown => refusal::shutting_down(),
            Self::QueueFull { retry_after } => shared.queue_full(*retry_after),
        }
    }
}
