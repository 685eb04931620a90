//! The figures of a program that makes calls, as JSON and as text.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::slices::Slices;

/// The longest latency that is recorded as it is, in nanoseconds.
const MAX_NS: u64 = 60_000_000_000;

/// The measured part of a run, the warm-up left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Calls that were answered, each counted once.
    pub calls: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Calls per second.
    pub calls_per_s: f64,
    /// Calls per second while the machine did nothing else: see [`Slices`].
    pub undisturbed_per_s: f64,
    /// From the writing of a request to the reading of its reply.
    pub latency_us: Latency,
    /// CPU seconds of this program, where the system reports them (Linux).
    pub cpu_s: Option<f64>,
    /// The same of the process that it watches.
    pub watched_cpu_s: Option<f64>,
}

/// Percentiles of the latency, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 99 calls in 100 took no longer.
    pub p99: f64,
    /// 999 calls in 1000 took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// An empty histogram of latencies in nanoseconds, with three digits of precision.
///
/// # Panics
///
/// Never: the bounds are fixed, and right.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NS, 3).expect("the bounds are right")
}

impl Latency {
    /// Reads a histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |share| histogram.value_at_quantile(share) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// The CPU time of this process and of another one, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    own: Option<Duration>,
    watched: Option<Duration>,
}

impl Cpu {
    /// Asks the system.
    ///
    /// # Errors
    ///
    /// If it knows no CPU time of the process to watch.
    pub fn now(watched: Option<u32>) -> Result<Self> {
        Ok(Self {
            own: crate::cpu::time_of(std::process::id()).ok(),
            watched: watched.map(crate::cpu::time_of).transpose()?,
        })
    }
}

impl Summary {
    /// The figures of so many calls between two moments.
    #[must_use]
    pub fn new(
        histogram: &Histogram<u64>,
        slices: Slices,
        elapsed: Duration,
        cpu: [Cpu; 2],
    ) -> Self {
        let [before, after] = cpu;
        let seconds = elapsed.as_secs_f64();
        let between = |before: Option<Duration>, after: Option<Duration>| {
            Some((after? - before?).as_secs_f64())
        };
        Self {
            calls: histogram.len(),
            seconds,
            calls_per_s: histogram.len() as f64 / seconds,
            undisturbed_per_s: slices.undisturbed_per_s(),
            latency_us: Latency::of(histogram),
            cpu_s: between(before.own, after.own),
            watched_cpu_s: between(before.watched, after.watched),
        }
    }

    /// Prints it: as one JSON object, or in words.
    pub fn print(&self, as_json: bool) {
        if as_json {
            let json = serde_json::to_string(self).expect("plain members are always JSON");
            println!("{json}");
            return;
        }
        let Latency {
            p50,
            p99,
            p999,
            max,
        } = self.latency_us;
        let per_million = |cpu_s: f64| cpu_s / (self.calls as f64 / 1e6);
        println!(
            "{} calls, {:.0} calls/s, {:.0} undisturbed",
            self.calls, self.calls_per_s, self.undisturbed_per_s
        );
        println!("p50 {p50:.1} us, p99 {p99:.1} us, p99.9 {p999:.1} us, max {max:.1} us");
        for (cpu_s, place) in [(self.cpu_s, "here"), (self.watched_cpu_s, "there")] {
            if let Some(cpu_s) = cpu_s {
                let per_million = per_million(cpu_s);
                println!("CPU seconds per million calls: {per_million:.3} {place}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_time_between_two_moments() {
        let mut latencies = histogram();
        for us in 1..=1000 {
            latencies.record(us * 1000).unwrap();
        }
        let cpu = |own, watched| Cpu {
            own: Some(Duration::from_millis(own)),
            watched: Some(Duration::from_millis(watched)),
        };
        let elapsed = Duration::from_millis(500);
        let cpu = [cpu(100, 7), cpu(350, 10)];
        let summary = Summary::new(&latencies, Slices::of(elapsed), elapsed, cpu);
        assert_eq!((summary.calls, summary.calls_per_s), (1000, 2000.0));
        assert!((summary.cpu_s.unwrap() - 0.25).abs() < 1e-9);
        assert!((summary.watched_cpu_s.unwrap() - 0.003).abs() < 1e-9);
        assert!((summary.latency_us.p50 - 500.0).abs() < 1.0);
        assert!((summary.latency_us.p99 - 990.0).abs() < 1.0);
        assert!((summary.latency_us.max - 1000.0).abs() < 1.0);
    }
}
