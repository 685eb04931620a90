//! How long calls take, on average and as a rule, and how many finish.
//!
//! The average also holds the time that calls have waited in their handlers: for a database, or through a stall.
//! What a queue is judged by must not grow with that, or a server that stalls would let calls wait for as
//! long from then on. So it is no more than a few times what the quickest have taken lately.

use std::time::{Duration, Instant};

/// How many times the quickest of late a call takes as a rule, at most.
const SPREAD: u32 = 4;

/// For how long the quickest count: this, and as long again.
const EPOCH: Duration = Duration::from_secs(30);

/// Which calls are those of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Epochs {
    number: u32,
    ends: Option<Instant>,
}

/// How long calls of one kind take, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceTime {
    /// A moving average; 0 before the first.
    mean: u32,
    /// The quickest of an epoch, and of the one before; 0 before the first.
    quickest: [u32; 2],
    epoch: u32,
}

/// For how long finished calls are counted, and how many of them, at least; unless that takes so long.
const WINDOW: Duration = Duration::from_millis(100);
const LEAST_FINISHED: u32 = 8;
const MAX_WINDOW: Duration = Duration::from_secs(1);

/// How many calls finish.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throughput {
    began: Option<Instant>,
    finished: u32,
    per_s: f64,
}

impl Throughput {
    /// A call has finished.
    pub(super) fn record(&mut self, now: Instant) {
        let took = now.saturating_duration_since(*self.began.get_or_insert(now));
        self.finished = self.finished.saturating_add(1);
        if took < WINDOW || self.finished < LEAST_FINISHED && took < MAX_WINDOW {
            return;
        }
        self.per_s = f64::from(self.finished) / took.as_secs_f64();
        (self.began, self.finished) = (Some(now), 0);
    }

    /// How long it takes until so many more have finished; the longest time where that is not known.
    pub(super) fn time_for(&self, calls: usize) -> Duration {
        let seconds = calls as f64 / self.per_s;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl Epochs {
    pub(super) fn at(&mut self, now: Instant) -> u32 {
        if self.ends.is_none_or(|ends| ends <= now) {
            self.number = self.number.wrapping_add(1);
            self.ends = now.checked_add(EPOCH);
        }
        self.number
    }
}

impl ServiceTime {
    pub(super) fn record(&mut self, service: Duration, epoch: u32) {
        let micros = u32::try_from(service.as_micros()).unwrap_or(u32::MAX);
        let sample = micros.max(1);
        self.mean = if self.mean == 0 {
            sample
        } else {
            (self.mean - self.mean / 8 + sample / 8).max(1)
        };
        let [now, _] = self.quickest;
        if self.epoch != epoch {
            (self.quickest, self.epoch) = ([sample, now], epoch);
        } else if sample < now {
            self.quickest[0] = sample;
        }
    }

    /// On average; `None` before the first has finished.
    pub(super) fn mean(self) -> Option<Duration> {
        (self.mean > 0).then(|| Duration::from_micros(self.mean.into()))
    }

    /// As a rule.
    pub(super) fn usual(self) -> Option<Duration> {
        let known = self.quickest.into_iter().filter(|quickest| *quickest > 0);
        let most = known.min()?.saturating_mul(SPREAD);
        Some(Duration::from_micros(self.mean.min(most).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn how_many_finish_says_how_long_so_many_take() {
        let (mut throughput, mut now) = (Throughput::default(), clock::now());
        assert_eq!(throughput.time_for(1), Duration::MAX);
        assert_eq!(throughput.time_for(0), Duration::MAX);
        let mut run = |every_ms, times, throughput: &mut Throughput| {
            for _ in 0..times {
                now += Duration::from_millis(every_ms);
                throughput.record(now);
            }
        };
        run(1, 1_000, &mut throughput);
        let time = throughput.time_for(100);
        assert!((95..105).contains(&time.as_millis()), "{time:?}");
        assert_eq!(throughput.time_for(0), Duration::ZERO);
        // A moment in which nothing ends.
        run(200, 1, &mut throughput);
        assert!(throughput.time_for(100) < 4 * time);
        run(500, 5, &mut throughput);
        let time = throughput.time_for(100);
        assert!((40..52).contains(&time.as_secs()), "{time:?}");
    }

    /// Kind: what was slow once counts as what is usual. Instance: calls that a stall has held up.
    #[test]
    fn a_stall_makes_no_usual_time_of_its_own() {
        let (mut service, mut epochs, mut now) =
            (ServiceTime::default(), Epochs::default(), clock::now());
        let mut record = |ms, times, service: &mut ServiceTime| {
            for _ in 0..times {
                now += Duration::from_millis(100);
                service.record(Duration::from_millis(ms), epochs.at(now));
            }
        };
        assert_eq!((service.mean(), service.usual()), (None, None));
        record(10, 400, &mut service);
        let usual = service.usual().unwrap();
        assert_eq!((service.mean(), usual.as_millis()), (Some(usual), 10));
        record(3_000, 200, &mut service);
        assert!(service.mean() > Some(Duration::from_millis(2_900)));
        assert_eq!(service.usual(), Some(Duration::from_millis(40)));
        // What takes so long for a minute does as a rule.
        record(3_000, 700, &mut service);
        assert_eq!(service.usual(), service.mean());
    }
}
