//! The one place that reads the clock. Everything else gets the time as an argument.

use std::time::{Duration, Instant};

/// The time now, on tokio's clock, which a test can stop and a simulation can own.
#[expect(
    clippy::disallowed_methods,
    reason = "the edges ask here; the rules get `now` as an argument"
)]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A year: longer than any wait is meant to be, and short enough to be added to any time.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A time after `now`, for waits of any length.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(LONGEST_WAIT)
}
