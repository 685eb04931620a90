//! The one place that asks what time it is in the world.

use tokio::time::Instant;

/// The time of the world: it stands still while anybody has something to do, and jumps to the next
/// moment at which somebody has.
#[expect(clippy::disallowed_methods, reason = "the world owns the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
