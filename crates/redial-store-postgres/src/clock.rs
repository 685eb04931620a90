//! The only file that reads the clock.

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
