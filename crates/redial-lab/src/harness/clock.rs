//! The only module that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, on the monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that may ask; all others ask here"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970, to be compared with the times that the programs write down.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
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
