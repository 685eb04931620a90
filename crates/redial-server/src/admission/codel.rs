//! Whether a queue stands: CoDel, in the form in which servers have it.
//!
//! CoDel is Nichols and Jacobson's ("Controlling Queue Delay", CACM 2012; RFC 8289); its form for servers is that
//! of folly's `Codel` (Maurer, "Fail at Scale", ACM Queue 2015).
//!
//! A queue that empties now and then evens out bursts, and does good. One whose oldest job has waited longer
//! than the target, whenever a job is taken out of it throughout an interval, only makes all wait. Of a
//! lane it is the oldest that counts, and not the one that is taken: with the newest first that would
//! always be a short wait.

use std::time::{Duration, Instant};

use redial_protocol::Priority;

/// What is judged by, as it holds for the jobs of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) target: Duration,
    pub(super) interval: Duration,
}

/// How many intervals make up the burst that is no overload where calls take longer than the target.
const INTERVAL_TARGETS: u32 = 4;

/// How many times as often as not the oldest job has waited too long where a queue stands.
const STANDS: u32 = 3;

/// For how many intervals after an overload the next one is seen in a part of an interval, and which.
const SOON: u32 = 10;
const QUICKER: u32 = 4;

/// Whether there is overload.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Codel {
    /// The end of the interval that is being looked at.
    until: Option<Instant>,
    /// How often the oldest job had waited too long in it.
    above: u32,
    /// How often it had not.
    below: u32,
    /// A job was refused since the last was taken to run.
    has_shed: bool,
    is_overloaded: bool,
    /// When it last was not any more.
    left: Option<Instant>,
}

impl Bounds {
    /// These where calls take so long: a queue that is one call deep is no overload, just as CoDel's target is
    /// never less than what one packet takes.
    pub(super) fn for_service(self, service: Duration) -> Self {
        let target = self.target.max(service);
        // Without a target there is no overload, but the running limit is still measured for so long.
        let burst = if self.target == Duration::MAX {
            service
        } else {
            target
        };
        let interval = self.interval.max(burst.saturating_mul(INTERVAL_TARGETS));
        Self { target, interval }
    }

    /// How long a job may be queued while there is overload: folly's slough timeout is twice the target.
    pub(super) fn patience(self, priority: Priority) -> Duration {
        match priority {
            Priority::Critical => self.target.saturating_mul(3),
            Priority::Default => self.target.saturating_mul(2),
            Priority::Sheddable => self.target.saturating_add(self.target / 2),
        }
    }
}

impl Codel {
    #[inline]
    pub(super) fn is_overloaded(&self) -> bool {
        self.is_overloaded
    }

    /// Whether nothing was seen for longer than an interval.
    pub(super) fn is_stale(&self, bounds: Bounds, now: Instant) -> bool {
        let is_long_ago = |until| now.saturating_duration_since(until) > bounds.interval;
        self.until.is_none_or(is_long_ago)
    }

    /// The queue was empty. What was seen more than an interval ago is no overload now.
    pub(super) fn forget_if_stale(&mut self, bounds: Bounds, now: Instant) {
        if self.is_overloaded && self.is_stale(bounds, now) {
            (self.is_overloaded, self.left) = (false, self.until);
        }
    }

    /// A job is refused because it has waited too long.
    pub(super) fn note_shed(&mut self) {
        self.has_shed = true;
    }

    /// A job is taken to run from a lane whose oldest has waited so long.
    pub(super) fn take(&mut self, oldest: Duration, bounds: Bounds, now: Instant) {
        let is_above = std::mem::take(&mut self.has_shed) || oldest > bounds.target;
        let is_over = self.until.is_none_or(|until| until <= now);
        if is_over {
            self.judge(bounds, now);
        }
        if is_above {
            self.above = self.above.saturating_add(1);
        } else if self.above == 0 && !self.is_overloaded {
            // The interval begins with the first that has.
            self.until = now.checked_add(self.next_interval(bounds, now));
        } else {
            self.below = self.below.saturating_add(1);
        }
        // It was queued for a whole interval and more, in which nothing may have been taken at all.
        if oldest > bounds.interval.saturating_add(bounds.target) {
            self.is_overloaded = true;
        }
    }

    /// Draws the sum of an interval, and begins the next.
    fn judge(&mut self, bounds: Bounds, now: Instant) {
        let was_overloaded = self.is_overloaded;
        self.is_overloaded = if self.is_stale(bounds, now) {
            false
        } else if was_overloaded {
            self.above > self.below
        } else {
            self.above > self.below.saturating_mul(STANDS)
        };
        if was_overloaded && !self.is_overloaded {
            self.left = Some(now);
        }
        (self.above, self.below) = (0, 0);
        self.until = now.checked_add(self.next_interval(bounds, now));
    }

    /// How long is looked before the next judgement: shortly after an overload not as long as at first, as CoDel
    /// goes on where it has left off.
    fn next_interval(&self, bounds: Bounds, now: Instant) -> Duration {
        let since = |left| now.saturating_duration_since(left);
        let is_soon =
            (self.left).is_some_and(|left| since(left) < bounds.interval.saturating_mul(SOON));
        if is_soon && !self.is_overloaded {
            bounds.interval / QUICKER
        } else {
            bounds.interval
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const BOUNDS: Bounds = Bounds {
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Takes a job each ms for so long, whose lane's oldest has waited so long.
    fn take(codel: &mut Codel, now: &mut Instant, oldest: Duration, times: u32) {
        for _ in 0..times {
            codel.take(oldest, BOUNDS, *now);
            *now += ms(1);
        }
    }

    #[test]
    fn a_queue_that_stands_for_an_interval_is_overload_until_it_mostly_does_not() {
        let (mut codel, mut now) = (Codel::default(), clock::now());
        take(&mut codel, &mut now, ms(5), 1_000);
        assert!(!codel.is_overloaded(), "as long as the target is not above");
        take(&mut codel, &mut now, ms(6), 60);
        take(&mut codel, &mut now, ms(5), 40);
        assert!(!codel.is_overloaded(), "a burst");
        take(&mut codel, &mut now, ms(5), 100);
        take(&mut codel, &mut now, ms(6), 99);
        assert!(!codel.is_overloaded(), "not yet for an interval");
        take(&mut codel, &mut now, ms(6), 2);
        assert!(codel.is_overloaded());
        for _ in 0..50 {
            take(&mut codel, &mut now, ms(9), 6);
            take(&mut codel, &mut now, ms(1), 4);
            assert!(codel.is_overloaded(), "most of the time it is");
        }
        take(&mut codel, &mut now, ms(1), 201);
        assert!(!codel.is_overloaded());
        // Soon afterwards it is seen sooner.
        take(&mut codel, &mut now, ms(6), 27);
        assert!(codel.is_overloaded());
    }

    /// Kind: what was seen long ago decides. Instances: a queue that was empty for a second, and one in which
    /// nothing moved for as long.
    #[test]
    fn after_a_pause_it_counts_how_long_the_oldest_has_waited() {
        let (mut codel, mut now) = (Codel::default(), clock::now());
        take(&mut codel, &mut now, ms(6), 250);
        assert!(codel.is_overloaded());
        now += ms(1_000);
        take(&mut codel, &mut now, ms(6), 1);
        assert!(!codel.is_overloaded());
        now += ms(1_000);
        take(&mut codel, &mut now, ms(900), 1);
        assert!(codel.is_overloaded());
    }

    #[test]
    fn where_calls_take_long_a_queue_may_be_as_deep() {
        let bounds = BOUNDS.for_service(ms(1_000));
        assert_eq!((bounds.target, bounds.interval), (ms(1_000), ms(4_000)));
        assert_eq!(BOUNDS.for_service(ms(1)), BOUNDS);
        assert_eq!(bounds.patience(Priority::Default), ms(2_000));
        let never = Bounds {
            target: Duration::MAX,
            ..BOUNDS
        };
        assert_eq!(
            never.for_service(ms(1)).patience(Priority::Sheddable),
            Duration::MAX
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Against a list of all that was seen.
        #[test]
        fn it_judges_each_interval_by_all_that_was_seen_in_it(
            seen in prop::collection::vec((0u64..60, 0u64..12, any::<bool>()), 0..300),
        ) {
            let (mut codel, mut now) = (Codel::default(), clock::now());
            let (mut ends, mut left, mut is_overloaded) = (None::<Instant>, None::<Instant>, false);
            let mut interval: Vec<bool> = Vec::new();
            let length = |is_overloaded: bool, left: Option<Instant>, now: Instant| match left {
                Some(left) if !is_overloaded && now - left < ms(1_000) => ms(25),
                _ => ms(100),
            };
            for (gap, oldest, has_shed) in seen {
                now += ms(gap);
                if has_shed {
                    codel.note_shed();
                }
                codel.take(ms(oldest), BOUNDS, now);
                if ends.is_none_or(|ends| ends <= now) {
                    let above = interval.iter().filter(|above| **above).count();
                    let below = interval.len() - above;
                    let before = is_overloaded;
                    is_overloaded = ends.is_some_and(|ends| now - ends <= ms(100))
                        && if is_overloaded { above > below } else { above > 3 * below };
                    if before && !is_overloaded {
                        left = Some(now);
                    }
                    (ends, interval) = (Some(now + length(is_overloaded, left, now)), Vec::new());
                }
                let is_above = has_shed || oldest > 5;
                if !is_overloaded && !is_above && !interval.contains(&true) {
                    ends = Some(now + length(is_overloaded, left, now));
                } else {
                    interval.push(is_above);
                }
                prop_assert_eq!(codel.is_overloaded(), is_overloaded);
            }
        }
    }
}
