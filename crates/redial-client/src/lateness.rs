//! Timers that fire late: what has arrived is read before what has expired is judged. The process stood
//! still, or had too much to do, and may not know of its replies yet.

use std::time::{Duration, Instant};

use crate::clock::after;

/// What fires later than this is late.
const LATE: Duration = Duration::from_millis(5);

/// The longest look for what has arrived.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn is_late(due: Instant, now: Instant) -> bool {
    now.saturating_duration_since(due) > LATE
}

/// Until when to look for what has arrived, before what was due is judged: for as long as the timer was
/// late, within a bound, so that a busy client is not held up by more than it was anyway.
pub(crate) fn look_until(due: Instant, now: Instant) -> Instant {
    after(now, now.saturating_duration_since(due).min(LOOK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_look_is_no_longer_than_the_delay_before_it() {
        let due = clock::now();
        let ms = |ms| due + Duration::from_millis(ms);
        assert!(!is_late(due, due) && !is_late(due, ms(5)) && is_late(due, ms(6)));
        assert!(!is_late(ms(6), due), "it is not due yet");
        assert_eq!(look_until(due, ms(6)), ms(12));
        assert_eq!(look_until(due, ms(1200)), ms(1250));
    }
}
