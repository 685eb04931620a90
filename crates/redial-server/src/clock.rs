//! The one place that asks what time it is. Everything else is told.

use std::time::Instant;

/// The runtime's clock, which stands still in a test that has paused it.
#[expect(clippy::disallowed_methods, reason = "the edge where time comes in")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
