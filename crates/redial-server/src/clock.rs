//! The one place that asks what time it is. Everything else is told.

use std::time::{Duration, Instant};

/// Longer than any server waits for anything, and short enough to be added to any moment.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The runtime's clock, which stands still in a test that has paused it.
#[expect(clippy::disallowed_methods, reason = "the edge where time comes in")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The moment a time after another; a limit may be `Duration::MAX`, which no moment can be.
pub(crate) fn after(moment: Instant, time: Duration) -> Instant {
    moment + time.min(YEAR)
}
