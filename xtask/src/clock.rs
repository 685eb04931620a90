//! The one place that asks what time it is.

use std::time::{Duration, Instant};

/// Now, on the monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that may ask; all others ask here"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A point in time that a wait must not pass.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self(now() + limit)
    }

    pub(crate) fn has_passed(self) -> bool {
        now() >= self.0
    }

    /// What is left, at least a millisecond: a socket takes zero for "no timeout at all".
    pub(crate) fn left(self) -> Duration {
        self.0
            .saturating_duration_since(now())
            .max(Duration::from_millis(1))
    }
}
