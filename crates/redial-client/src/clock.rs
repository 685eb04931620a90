//! The one place that reads the clock. Everything else is told the time.

use std::time::Instant;

/// The time now, on tokio's clock, which a test can stop and a simulation can own.
#[expect(
    clippy::disallowed_methods,
    reason = "the edges ask here; the rules get `now` as an argument"
)]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
