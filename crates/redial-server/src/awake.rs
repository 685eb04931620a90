//! The time that the server has been awake, in which records, leases and silences are counted.
//!
//! A process that is stopped, on a suspended machine, or stuck on a disk reads nothing. If that
//! counted, a record would expire while the retry that asks for it lies in the socket, and the
//! retry would execute the call once more. So a gap of the clock counts for no more than a moment,
//! no matter who reads the clock first after it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{clock, config::Config};

/// The longest gap that counts in full, where nothing expires sooner than 8 times as much.
const MAX_GAP: Duration = Duration::from_secs(1);

/// The shortest gap that counts in full, however soon things expire.
const MIN_GAP: Duration = Duration::from_millis(64);

/// What counts is at most this part of the shortest time after which anything expires.
const PART: u32 = 8;

/// Time is noted in ticks of 2^4 ms.
const TICK_BITS: u32 = 4;
const TICK: Duration = Duration::from_millis(1 << TICK_BITS);

/// A clock that stands still while nothing looks at it. All who judge a time look at it, and a
/// task does so twice in `max_gap` when there is nothing to judge.
#[derive(Debug)]
pub(crate) struct AwakeClock {
    epoch: Instant,
    max_gap: u32,
    reading: AtomicU64,
}

/// One word, so that no reader sees half of a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ClockReading {
    /// When the clock was looked at last, in ticks since the epoch, modulo 2^32 (2 years).
    latest: u32,
    /// How many ticks did not count.
    lost: u32,
}

impl AwakeClock {
    pub(crate) fn new(config: &Config, epoch: Instant) -> Self {
        let shortest = [
            config.ttl,
            config.session_lease,
            config.idle_timeout,
            config.frame_timeout,
            config.write_timeout,
            config.execution_timeout.unwrap_or(MAX_GAP * PART),
        ];
        let shortest = shortest.into_iter().min().unwrap_or(MAX_GAP);
        let max_gap = (shortest / PART).clamp(MIN_GAP, MAX_GAP);
        Self {
            epoch,
            max_gap: ticks(max_gap) as u32,
            reading: AtomicU64::new(0),
        }
    }

    /// How often it has to be looked at for no time to be lost.
    pub(crate) fn period(&self) -> Duration {
        TICK * self.max_gap / 2
    }

    /// The time awake at a moment that is now, as a moment that is as much earlier as time was lost.
    #[inline]
    pub(crate) fn at(&self, now: Instant) -> Instant {
        let since = ticks(now.saturating_duration_since(self.epoch)) as u32;
        let word = self.reading.load(Relaxed);
        let is_up_to_date = ClockReading {
            latest: since,
            lost: 0,
        };
        // Each call that ends looks at the clock, nearly always within the tick of the one before.
        if word == u64::from(is_up_to_date) {
            return now;
        }
        self.look(now, since, word)
    }

    fn look(&self, now: Instant, since: u32, mut word: u64) -> Instant {
        loop {
            let reading = ClockReading::from(word);
            let next = reading.look(since, self.max_gap);
            if next == reading {
                return self.awake(now, reading, since);
            }
            match (self.reading).compare_exchange_weak(word, next.into(), Relaxed, Relaxed) {
                Ok(_) => return self.awake(now, next, since),
                Err(changed) => word = changed,
            }
        }
    }

    /// The time awake.
    pub(crate) fn now(&self) -> Instant {
        self.at(clock::now())
    }

    /// How long the server has been awake since it was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now().saturating_duration_since(self.epoch)
    }

    /// A time awake in milliseconds, rounded down.
    pub(crate) fn millis(&self, awake: Instant) -> u64 {
        whole_millis(awake.saturating_duration_since(self.epoch))
    }

    pub(crate) fn moment(&self, millis: u64) -> Instant {
        self.epoch + Duration::from_millis(millis)
    }

    fn awake(&self, now: Instant, reading: ClockReading, since: u32) -> Instant {
        // A thread may have read the clock before a gap that others have seen the end of.
        let behind = TICK * reading.latest.wrapping_sub(since).cast_signed().max(0) as u32;
        let lost = TICK * reading.lost;
        (now + behind).checked_sub(lost).unwrap_or(self.epoch)
    }

    /// Sleeps until so much time has been spent awake.
    pub(crate) async fn sleep(&self, time: Duration) {
        let until = clock::after(self.now(), time);
        while let left = until.saturating_duration_since(self.now())
            && !left.is_zero()
        {
            tokio::time::sleep(left.min(self.period())).await;
        }
    }
}

impl ClockReading {
    /// What is known after a look at the clock. Of a gap no more than `max_gap` counts.
    fn look(self, since: u32, max_gap: u32) -> Self {
        let gap = since.wrapping_sub(self.latest);
        // Another thread may have read the clock later.
        if gap.cast_signed() <= 0 {
            return self;
        }
        Self {
            latest: since,
            lost: self.lost.saturating_add(gap.saturating_sub(max_gap)),
        }
    }
}

impl From<u64> for ClockReading {
    fn from(word: u64) -> Self {
        Self {
            latest: word as u32,
            lost: (word >> u32::BITS) as u32,
        }
    }
}

impl From<ClockReading> for u64 {
    fn from(reading: ClockReading) -> Self {
        Self::from(reading.lost) << u32::BITS | Self::from(reading.latest)
    }
}

fn ticks(time: Duration) -> u64 {
    whole_millis(time) >> TICK_BITS
}

/// As `as_millis`, without its division of 128 bits.
fn whole_millis(time: Duration) -> u64 {
    time.as_secs() * 1000 + u64::from(time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clock(ttl: Duration) -> (AwakeClock, Instant) {
        let epoch = clock::now();
        let config = Config {
            ttl,
            ..Config::default()
        };
        (AwakeClock::new(&config, epoch), epoch)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Time in which nothing could be read does not count.
    #[test]
    fn a_gap_counts_as_a_second_at_most() {
        let (clock, epoch) = clock(ms(10_000));
        assert_eq!(clock.at(epoch + ms(990)), epoch + ms(990));
        let awake = clock.at(epoch + ms(990 + 15_000)) - epoch;
        assert!((ms(1_950)..ms(2_050)).contains(&awake), "{awake:?}");
        // And runs on from there.
        let later = clock.at(epoch + ms(990 + 15_300)) - epoch;
        assert_eq!(later, awake + ms(300));
    }

    #[test]
    fn a_gap_counts_as_an_eighth_of_a_short_ttl() {
        let (clock, epoch) = clock(ms(800));
        let awake = clock.at(epoch + ms(60_000)) - epoch;
        assert!((ms(80)..=ms(112)).contains(&awake), "{awake:?}");
    }

    #[test]
    fn all_time_counts_for_who_looks_in_time() {
        let (clock, epoch) = clock(ms(10_000));
        let mut now = epoch;
        for _ in 0..10_000 {
            now += clock.period() + ms(17);
            assert_eq!(clock.at(now), now);
        }
    }

    /// A reader of the clock from before a gap judges after it.
    #[test]
    fn a_look_from_before_a_gap_is_not_set_back_by_it() {
        let (clock, epoch) = clock(ms(10_000));
        let before = epoch + ms(5_000);
        (1..=50)
            .for_each(|look| assert_eq!(clock.at(epoch + look * ms(100)), epoch + look * ms(100)));
        let after = clock.at(before + ms(60_000));
        let late = clock.at(before);
        assert!(late >= before, "a record would expire early");
        assert!(late <= after + TICK, "a record would live for ever");
    }

    proptest! {
        /// Against a sum, in any order of readers: it never runs back, never runs faster than the clock, and
        /// of no gap more counts than may.
        #[test]
        fn it_is_the_sum_of_gaps_that_count(steps in prop::collection::vec(
            prop_oneof![4 => 0u64..400, 2 => 900u64..1_100, 1 => 0u64..100_000_000], 0..200
        )) {
            let (clock, epoch) = clock(ms(10_000));
            let (mut now, mut latest, mut sum) = (epoch, epoch, Duration::ZERO);
            for step in steps {
                now += ms(step);
                sum += ms(step).min(MAX_GAP);
                let awake = clock.at(now);
                prop_assert!(awake >= latest);
                prop_assert!(awake - latest <= ms(step).min(MAX_GAP) + 2 * TICK);
                latest = awake;
            }
            let off = sum.abs_diff(latest - epoch);
            prop_assert!(off <= 200 * TICK, "{off:?} off");
        }
    }

    /// Whichever thread wakes first.
    #[test]
    fn threads_that_wake_together_count_a_gap_once() {
        let (clock, epoch) = clock(ms(10_000));
        let after = epoch + ms(3_600_000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let clock = &clock;
                scope.spawn(move || {
                    for step in 0..1_000 {
                        let awake = clock.at(after + ms(thread + step)) - epoch;
                        assert!(awake <= MAX_GAP + ms(1_100), "{awake:?}");
                    }
                });
            }
        });
    }
}
