//! The one place that reads the clock of a run. Everything else gets the time as an argument.

use std::time::Instant;

/// The time now, on tokio's clock, which a test can stop.
#[expect(
    clippy::disallowed_methods,
    reason = "a program measures real time; the rules get `now` as an argument"
)]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A seed that no other run has.
#[expect(
    clippy::disallowed_methods,
    reason = "what is random has to begin somewhere"
)]
pub(crate) fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
