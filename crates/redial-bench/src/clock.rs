//! The one place that asks what time it is.

use std::time::Instant;

/// Now, on the monotonic clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that may ask; all others ask here"
)]
pub fn now() -> Instant {
    Instant::now()
}
