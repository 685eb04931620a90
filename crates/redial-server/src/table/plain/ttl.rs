//! Moments as the table of plain ids stores them: in 4 bytes.

use std::time::{Duration, Instant};

/// Milliseconds since the table was made, modulo 2^32 (49 days). Two moments are compared by
/// their difference, so a TTL must stay below half of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Millis(u32);

impl Millis {
    /// The longest time that can be measured.
    pub(crate) const MAX_SPAN: Duration = Duration::from_secs(20 * 24 * 60 * 60);

    pub(super) fn since(epoch: Instant, now: Instant) -> Self {
        let since = now.saturating_duration_since(epoch);
        // As `as_millis`, without its division of 128 bits.
        let whole = since.as_secs().wrapping_mul(1000);
        Self(whole.wrapping_add(since.subsec_millis().into()) as u32)
    }

    /// Rounded up, and by a whole millisecond more, since the moment itself was rounded down: a
    /// record must never go early.
    pub(super) fn plus(self, span: Duration) -> Self {
        let whole = (span.as_secs() as u32).wrapping_mul(1000);
        let rest = span.subsec_nanos().div_ceil(1_000_000);
        Self(self.0.wrapping_add(whole).wrapping_add(rest + 1))
    }

    /// A moment so much earlier.
    pub(super) fn minus(self, span: Duration) -> Self {
        Self(self.0.wrapping_sub(span.as_millis() as u32))
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The later of two moments.
    pub(super) fn max(self, other: Self) -> Self {
        if other.has_come(self) { self } else { other }
    }

    /// Whether this moment has come.
    pub(super) fn has_come(self, now: Self) -> bool {
        now.0.wrapping_sub(self.0).cast_signed() >= 0
    }

    /// How many milliseconds this is after an earlier moment.
    pub(super) fn millis_since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The time until this moment; zero if it has come.
    pub(super) fn left(self, now: Self) -> Duration {
        if self.has_come(now) {
            Duration::ZERO
        } else {
            Duration::from_millis(self.millis_since(now).into())
        }
    }
}
