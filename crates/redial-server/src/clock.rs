//! The only file that reads the clock. Everything else gets the time as an argument.

use std::time::{Duration, Instant};

/// Longer than any server waits for anything, and short enough to be added to any moment.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The runtime's clock, which stands still in a test that has paused it.
#[expect(clippy::disallowed_methods, reason = "the edge where time comes in")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A moment plus a time; a limit may be `Duration::MAX`, which can't be added to any moment.
pub(crate) fn after(moment: Instant, time: Duration) -> Instant {
    moment + time.min(YEAR)
}

/// What a coarse clock takes for quick: while a call takes less than this on average, a connection's
/// calls get a reading that is at most [`STEP`] calls old.
const QUICK: Duration = Duration::from_micros(20);

/// How many calls of a connection have to be quick in a row before its clock is read seldom.
const TRUSTED: u32 = 256;

/// How seldom the clock is read then.
const STEP: u32 = 16;

/// A connection's own clock. Reading the real one takes as long as looking up a call, so where calls
/// have been quick it is read once in a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoarseClock {
    latest: Instant,
    /// How many calls there have been since the clock was read.
    calls: u32,
    /// How many quick calls there have been in a row.
    quick: u32,
}

impl CoarseClock {
    /// The clock was read just now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            latest: now,
            calls: 0,
            quick: 0,
        }
    }

    /// The clock was read at this moment, and not because of a call.
    pub(crate) fn set(&mut self, now: Instant) {
        if now > self.latest {
            self.latest = now;
            self.calls = 0;
        }
    }

    /// The time before another call, to within [`STEP`] of those that were quick. No call has come
    /// since the latest reading: then that will do.
    pub(crate) fn before_call(&mut self, read: impl FnOnce() -> Instant) -> Instant {
        let is_trusted = self.quick >= TRUSTED && self.calls < STEP;
        if self.calls > 0 && !is_trusted {
            self.read(read());
        }
        self.calls += 1;
        self.latest
    }

    /// The clock was read just now, because of a call for which the latest reading won't do.
    pub(crate) fn read(&mut self, now: Instant) -> Instant {
        let calls = self.calls.max(1);
        // Added and compared, which takes half as long as the difference.
        let is_quick = now <= self.latest + QUICK * calls;
        self.quick = if is_quick {
            self.quick.saturating_add(calls)
        } else {
            0
        };
        (self.latest, self.calls) = (now, 0);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the clock was read for calls that take so long.
    fn reads(coarse: &mut CoarseClock, real: &mut Instant, calls: u32, each: Duration) -> u32 {
        let mut reads = 0;
        for _ in 0..calls {
            let read = coarse.before_call(|| {
                reads += 1;
                *real
            });
            assert!(*real - read < each * STEP, "a reading was too old");
            *real += each;
        }
        reads
    }

    #[test]
    fn the_clock_is_read_seldom_only_while_calls_are_quick() {
        let mut real = now();
        let mut coarse = CoarseClock::new(real);
        let (quick, slow) = (Duration::from_micros(1), Duration::from_millis(5));
        assert_eq!(reads(&mut coarse, &mut real, TRUSTED, quick), TRUSTED - 1);
        assert_eq!(reads(&mut coarse, &mut real, 160, quick), 160 / STEP);
        // After the first reading that finds them slow, all are read.
        assert_eq!(reads(&mut coarse, &mut real, 100, slow), 100 - (STEP - 1));
        assert_eq!(reads(&mut coarse, &mut real, 100, quick), 100);
    }

    /// A reading that is as old as the call before, taken for one that was made after it.
    #[test]
    fn a_reading_will_do_only_if_no_call_has_come_since() {
        let (start, slow) = (now(), Duration::from_millis(5));
        let mut coarse = CoarseClock::new(start);
        assert_eq!(coarse.before_call(|| unreachable!()), start);
        // A second read of the same turn has the same moment, and the call before it took long.
        coarse.set(start);
        assert_eq!(coarse.before_call(|| start + slow), start + slow);
        coarse.set(start + slow);
        assert_eq!(coarse.before_call(|| start + 2 * slow), start + 2 * slow);
        // The end of that call was noted.
        assert_eq!(coarse.read(start + 3 * slow), start + 3 * slow);
        let next = coarse.before_call(|| unreachable!());
        assert_eq!(next, start + 3 * slow);
        coarse.set(start + 4 * slow);
        let next = coarse.before_call(|| unreachable!());
        assert_eq!(next, start + 4 * slow);
    }
}
