//! When the calls of an open loop are meant to start, however late those before them are.

use std::{fmt, time::Duration};

use rand_chacha::rand_core::Rng;

use crate::flags::{duration, number};

/// The highest rate, in calls per second.
pub(crate) const MOST_PER_S: f64 = 10_000_000.0;

/// A stretch of time in which the rate goes evenly from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ramp {
    /// Calls per second at its beginning.
    pub(crate) from: f64,
    /// Calls per second at its end.
    pub(crate) to: f64,
    /// How long it takes.
    pub(crate) length: Duration,
}

impl Ramp {
    /// Reads `FROM:TO:TIME`, such as `1000:50000:30s`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let (from, rest) = text.split_once(':')?;
            let (to, length) = rest.split_once(':')?;
            let rate = number("a rate", 0.0..=MOST_PER_S);
            let (from, to) = (rate(from).ok()?, rate(to).ok()?);
            let length = duration(length).ok()?;
            (from + to > 0.0).then_some(Self { from, to, length })
        };
        read().ok_or_else(|| {
            format!(
                "expected FROM:TO:TIME, such as 1000:50000:30s, rates of at most {MOST_PER_S}/s"
            )
        })
    }

    /// How many calls are meant to start within it.
    fn calls(self) -> f64 {
        (self.from + self.to) / 2.0 * self.length.as_secs_f64()
    }

    /// How many of them in so many seconds after its beginning.
    fn calls_before(self, time: f64) -> f64 {
        let time = time.min(self.length.as_secs_f64());
        let slope = (self.to - self.from) / self.length.as_secs_f64();
        self.from * time + slope / 2.0 * time * time
    }

    /// So many seconds after its beginning as many calls are meant to have started.
    fn time_of(self, calls: f64) -> f64 {
        let slope = (self.to - self.from) / self.length.as_secs_f64();
        // The root of calls = from * t + slope / 2 * t^2, spelled so that it holds without a slope.
        let root = (self.from * self.from + 2.0 * slope * calls)
            .max(0.0)
            .sqrt();
        let time = 2.0 * calls / (self.from + root);
        if time.is_finite() { time } else { 0.0 }
    }
}

impl fmt::Display for Ramp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}s",
            self.from,
            self.to,
            self.length.as_secs_f64()
        )
    }
}

/// How calls are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// At even distances.
    Even,
    /// As those of many independent callers: a Poisson process, which has bursts.
    Poisson,
}

/// The rates of a run: ramps one after another, and then the rate at the end of the last one, for good.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    ramps: Vec<Ramp>,
    last: f64,
}

impl Schedule {
    /// Always so many calls per second.
    pub(crate) fn constant(rate: f64) -> Self {
        Self {
            ramps: Vec::new(),
            last: rate,
        }
    }

    /// Ramps, one after another.
    pub(crate) fn ramps(ramps: Vec<Ramp>) -> Self {
        let last = ramps.last().map_or(0.0, |ramp| ramp.to);
        Self { ramps, last }
    }

    /// How long its ramps take together.
    pub(crate) fn length(&self) -> Duration {
        self.ramps.iter().map(|ramp| ramp.length).sum()
    }

    /// The rate so long after the beginning, in calls per second.
    pub(crate) fn rate_at(&self, time: Duration) -> f64 {
        let mut begins = Duration::ZERO;
        for ramp in &self.ramps {
            let within = time.saturating_sub(begins).as_secs_f64() / ramp.length.as_secs_f64();
            if within < 1.0 {
                return ramp.from + (ramp.to - ramp.from) * within;
            }
            begins += ramp.length;
        }
        self.last
    }

    /// The intended starts, from the first one on.
    pub(crate) fn starts<R: Rng>(self, arrivals: Arrivals, rng: R) -> Starts<R> {
        Starts {
            schedule: self,
            ramp: 0,
            begins: 0.0,
            calls: 0.0,
            is_first: true,
            arrivals,
            rng,
        }
    }
}

/// The intended starts of calls, as times since the beginning. It ends only where the rate ends at 0.
#[derive(Debug)]
pub(crate) struct Starts<R> {
    schedule: Schedule,
    /// The ramp that the next call starts in, if it is not past all of them.
    ramp: usize,
    /// When that ramp begins, in seconds.
    begins: f64,
    /// How many calls have started since then.
    calls: f64,
    is_first: bool,
    arrivals: Arrivals,
    rng: R,
}

impl<R: Rng> Iterator for Starts<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.calls += match self.arrivals {
            Arrivals::Even if self.is_first => 0.0,
            Arrivals::Even => 1.0,
            Arrivals::Poisson => exponential(&mut self.rng),
        };
        self.is_first = false;
        while let Some(ramp) = self.schedule.ramps.get(self.ramp) {
            if self.calls < ramp.calls() {
                return Some(seconds(self.begins + ramp.time_of(self.calls)));
            }
            self.calls -= ramp.calls();
            self.begins += ramp.length.as_secs_f64();
            self.ramp += 1;
        }
        let is_over = self.schedule.last <= 0.0;
        (!is_over).then(|| seconds(self.begins + self.calls / self.schedule.last))
    }
}

impl<R> Starts<R> {
    /// About how many more calls are meant to start before this time, without going through them.
    pub(crate) fn left_before(&self, time: Duration) -> f64 {
        let end = time.as_secs_f64();
        let (mut begins, mut left) = (self.begins, -self.calls);
        for ramp in self.schedule.ramps.iter().skip(self.ramp) {
            if begins >= end {
                break;
            }
            left += ramp.calls_before(end - begins);
            begins += ramp.length.as_secs_f64();
        }
        left += (end - begins).max(0.0) * self.schedule.last;
        left.max(0.0)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A gap of a Poisson process whose gaps are 1 on average.
fn exponential(rng: &mut impl Rng) -> f64 {
    // From 53 bits, above 0 and at most 1, so that the logarithm is finite.
    let share = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -share.ln()
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(7)
    }

    fn ramp(from: f64, to: f64, seconds: u64) -> Ramp {
        let length = Duration::from_secs(seconds);
        Ramp { from, to, length }
    }

    /// How many calls start in each second of the first so many.
    fn per_second(schedule: Schedule, arrivals: Arrivals, seconds: usize) -> Vec<usize> {
        let mut counts = vec![0; seconds];
        for start in schedule.starts(arrivals, rng()) {
            match counts.get_mut(start.as_secs() as usize) {
                Some(count) => *count += 1,
                None => break,
            }
        }
        counts
    }

    #[test]
    fn a_constant_rate_starts_a_call_at_once_and_then_at_even_distances() {
        let starts = Schedule::constant(4000.0).starts(Arrivals::Even, rng());
        let first: Vec<_> = starts.take(4).map(|start| start.as_micros()).collect();
        assert_eq!(first, [0, 250, 500, 750]);
    }

    /// The sum of rounded distances would drift.
    #[test]
    fn a_rate_that_divides_no_second_keeps_its_pace() {
        let counts = per_second(Schedule::constant(33_333.0), Arrivals::Even, 30);
        assert!(
            counts.iter().all(|count| count.abs_diff(33_333) <= 1),
            "{counts:?}"
        );
        let start = Schedule::constant(3.0)
            .starts(Arrivals::Even, rng())
            .nth(3_000_000);
        assert_eq!(start.unwrap().as_secs_f64().round(), 1e6);
    }

    #[test]
    fn a_ramp_rises_evenly_and_its_last_rate_holds() {
        let schedule = Schedule::ramps(vec![ramp(0.0, 1000.0, 10)]);
        assert_eq!(schedule.length(), Duration::from_secs(10));
        let counts = per_second(schedule, Arrivals::Even, 13);
        for (second, count) in counts.iter().enumerate() {
            let expected = if second < 10 { 50 + 100 * second } else { 1000 };
            assert!(count.abs_diff(expected) <= 1, "{counts:?}");
        }
    }

    #[test]
    fn ramps_follow_one_another_up_and_down_and_end_at_0() {
        let ramps = vec![
            ramp(100.0, 100.0, 2),
            ramp(100.0, 300.0, 1),
            ramp(400.0, 0.0, 2),
        ];
        let schedule = Schedule::ramps(ramps);
        let rates = [0, 1999, 2500, 3000, 4000, 5000, 9000];
        let rates = rates.map(|ms| schedule.rate_at(Duration::from_millis(ms)));
        assert_eq!(rates, [100.0, 100.0, 200.0, 400.0, 200.0, 0.0, 0.0]);
        let starts: Vec<_> = schedule.clone().starts(Arrivals::Even, rng()).collect();
        assert_eq!(starts.len(), 800);
        assert!(starts.is_sorted());
        assert_eq!(
            per_second(schedule, Arrivals::Even, 5),
            [100, 100, 200, 300, 100]
        );
    }

    #[test]
    fn how_many_are_left_is_known_without_going_through_them() {
        let ramps = || {
            vec![
                ramp(100.0, 300.0, 2),
                ramp(50.0, 0.0, 1),
                ramp(0.0, 500.0, 2),
            ]
        };
        for schedule in [Schedule::constant(333.0), Schedule::ramps(ramps())] {
            for (passed, ms) in [(1, 900), (1, 2_400), (300, 4_000), (700, 9_000), (900, 100)] {
                let mut starts = schedule.clone().starts(Arrivals::Even, rng());
                starts.nth(passed - 1);
                let end = Duration::from_millis(ms);
                let left = starts.left_before(end);
                let counted = starts.take_while(|start| *start < end).count();
                assert!(
                    (left - counted as f64).abs() <= 1.0,
                    "{passed} {ms}: {left}, {counted}"
                );
            }
        }
    }

    #[test]
    fn a_ramp_is_written_as_it_is_read() {
        for text in ["1000:50000:30s", "0:0.5:0.25s"] {
            assert_eq!(Ramp::parse(text).unwrap().to_string(), text);
        }
        for wrong in [
            "", "1:2", "1:2:3", "0:0:1s", "-1:2:1s", "1:2:0s", "1:1e8:1s", "1:2:1s:4",
        ] {
            let error = Ramp::parse(wrong).unwrap_err();
            assert!(
                error.starts_with("expected FROM:TO:TIME"),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn a_poisson_process_has_the_same_rate_and_bursts() {
        let schedule = Schedule::constant(1000.0);
        let starts: Vec<_> = schedule
            .starts(Arrivals::Poisson, rng())
            .take(100_001)
            .collect();
        assert!(starts.is_sorted());
        let whole = starts.last().unwrap().as_secs_f64();
        assert!((99.0..101.0).contains(&whole), "{whole}");
        // A gap is longer than average in e^-1 of all cases.
        let gaps = starts.windows(2).map(|pair| pair[1] - pair[0]);
        let long = gaps.filter(|gap| *gap > Duration::from_millis(1)).count();
        assert!((36_000..37_600).contains(&long), "{long}");
    }
}
