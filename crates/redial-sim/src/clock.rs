//! The clock of the world, and the only reader of it.

use tokio::time::Instant;

/// The time of the world: it stands still while any task can run, and then jumps to the next timer.
#[expect(clippy::disallowed_methods, reason = "the world owns the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
