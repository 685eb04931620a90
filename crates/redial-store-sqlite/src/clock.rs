//! The only file that reads the clock.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the edge where time comes in")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
