//! What excuses a call that ended without its caller knowing whether it was executed.

use std::time::Duration;

use crate::harness::events::{Call, Outcome};

/// What excuses a call that ended neither ok nor failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// Anything: a server that forgets with each kill settles nothing.
    Any,
    /// That it had no time left, of this much.
    Deadline(Duration),
    /// The same, or that a kill interrupted its handler, which is not run again.
    Interrupted(Duration),
}

impl Excuse {
    /// Whether the call needs none, or has it.
    pub(super) fn covers(self, call: &Call) -> bool {
        let is_settled = matches!(call.outcome, Outcome::Ok | Outcome::Failed);
        let had_time = |deadline: Duration| u128::from(call.took_us()) < deadline.as_micros();
        is_settled
            || match self {
                Self::Any => true,
                Self::Deadline(deadline) => !had_time(deadline),
                Self::Interrupted(deadline) => call.is_interrupted() || !had_time(deadline),
            }
    }
}
