//! The summary of a run: how many calls ended how, with how many attempts, and how fast.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::record::{CallRecord, Outcome};

/// What `counter-client --json` prints.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// How many calls were made.
    pub calls: u64,
    /// How many returned a value.
    pub ok: u64,
    /// How many were certainly not executed.
    pub not_executed: u64,
    /// How many ended with the handler's own error.
    pub failed: u64,
    /// How many were possibly executed.
    pub unknown: u64,
    /// How many attempts all calls took together.
    pub attempts_total: u64,
    /// How many calls took how many attempts.
    pub attempts_histogram: BTreeMap<usize, u64>,
    /// How many replies had been recorded for an earlier attempt; null if the server doesn't say.
    pub replayed_or_joined: Option<u64>,
    /// How many attempts were hedges: copies sent because a call took long.
    pub hedges: u64,
    /// Whether the calls belonged to a session; null if no server was reached.
    pub sessions: Option<bool>,
    /// From the first call to the end of the last, in seconds.
    pub elapsed_s: f64,
    /// Calls of any outcome per second.
    pub calls_per_s: f64,
    /// How long the calls took that returned a value.
    pub latency_us: Latency,
    /// The counter afterwards; null if it can't be read, or if every call had its own.
    pub value: Option<i64>,
    /// How many calls returned another value than exactly one effect gives; null unless every call
    /// had its own counter.
    pub violations: Option<u64>,
    /// Whether every attempt had its own id.
    pub naive: bool,
    /// How many connections were made.
    pub connects: u64,
    /// How many attempts each of several servers got, by its address.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, u64>,
    /// One of the errors.
    #[serde(skip)]
    pub error: Option<String>,
}

/// Percentiles in microseconds; null if no call returned a value.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Half of the calls took no longer.
    pub p50: Option<u64>,
    /// 90 % took no longer.
    pub p90: Option<u64>,
    /// 99 % took no longer.
    pub p99: Option<u64>,
    /// 99.9 % took no longer.
    pub p999: Option<u64>,
    /// The slowest call.
    pub max: Option<u64>,
}

/// Counts calls in constant memory.
#[derive(Debug)]
pub(super) struct Tally {
    so_far: Summary,
    latencies_us: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            so_far: Summary::default(),
            latencies_us: Histogram::new(3).expect("3 digits are supported"),
        }
    }

    /// Counts a call. `expected` is the value that exactly one effect gives, where it is known.
    pub(super) fn count(&mut self, record: CallRecord, expected: Option<i64>) {
        let summary = &mut self.so_far;
        summary.calls += 1;
        *match record.outcome {
            Outcome::Ok => &mut summary.ok,
            Outcome::NotExecuted => &mut summary.not_executed,
            Outcome::Failed => &mut summary.failed,
            Outcome::Unknown => &mut summary.unknown,
        } += 1;
        if let Some(replayed) = record.replayed {
            *summary.replayed_or_joined.get_or_insert(0) += u64::from(replayed);
        }
        if let Some(expected) = expected {
            let wrong = record.value.is_some_and(|value| value != expected);
            *summary.violations.get_or_insert(0) += u64::from(wrong);
        }
        let sendings = record.sendings;
        summary.attempts_total += sendings as u64;
        summary.hedges += u64::from(record.hedges);
        *summary.attempts_histogram.entry(sendings).or_default() += 1;
        if record.outcome == Outcome::Ok {
            let latency_us = record.end_us.saturating_sub(record.start_us);
            self.latencies_us
                .record(latency_us)
                .expect("the histogram resizes itself");
        }
        if summary.error.is_none() {
            summary.error = record.error;
        }
    }

    pub(super) fn sum_up(&self, elapsed: Duration) -> Summary {
        let elapsed_s = elapsed.as_secs_f64();
        Summary {
            elapsed_s,
            calls_per_s: self.so_far.calls as f64 / elapsed_s.max(1e-9),
            latency_us: Latency::of(&self.latencies_us),
            ..self.so_far.clone()
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| Some(histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Some(histogram.max()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms =
            |us: Option<u64>| us.map_or("-".to_owned(), |us| format!("{} ms", us as f64 / 1e3));
        writeln!(
            f,
            "{} calls: {} ok, {} not executed, {} failed, {} unknown",
            self.calls, self.ok, self.not_executed, self.failed, self.unknown
        )?;
        let copies = match self.hedges {
            0 => String::new(),
            hedges => format!(", {hedges} of them hedges,"),
        };
        writeln!(
            f,
            "{} attempts{copies} over {} connections, {:.3} s, {:.0} calls/s",
            self.attempts_total, self.connects, self.elapsed_s, self.calls_per_s
        )?;
        let latency = self.latency_us;
        let (p50, p99, max) = (ms(latency.p50), ms(latency.p99), ms(latency.max));
        writeln!(f, "latency p50 {p50}, p99 {p99}, max {max}")?;
        match (self.value, self.violations) {
            (_, Some(0)) => write!(f, "every value read shows exactly one effect")?,
            (_, Some(wrong)) => {
                write!(f, "{wrong} values show another number of effects than one")?
            }
            (Some(value), None) => write!(f, "the counter is {value}")?,
            (None, None) => write!(f, "the counter could not be read")?,
        }
        match &self.error {
            Some(error) => write!(f, "\nfirst error: {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: Outcome, sendings: usize, latency_us: u64) -> CallRecord {
        CallRecord {
            call: 0,
            outcome,
            start_us: 1000,
            end_us: 1000 + latency_us,
            value: (outcome == Outcome::Ok).then_some(3),
            replayed: None,
            error: None,
            sendings,
            hedges: u32::from(sendings > 1),
            attempts: Vec::new(),
        }
    }

    fn summary(records: &[CallRecord], expected: Option<i64>) -> Summary {
        let mut tally = Tally::new();
        for record in records {
            tally.count(record.clone(), expected);
        }
        tally.sum_up(Duration::from_secs(2))
    }

    #[test]
    fn outcomes_and_attempts_are_counted_and_only_ok_calls_are_timed() {
        let records = [
            record(Outcome::Ok, 1, 100),
            record(Outcome::Ok, 3, 30_000_000),
            record(Outcome::Unknown, 1, 9_999_999),
        ];
        let summary = summary(&records, None);
        assert_eq!((summary.ok, summary.unknown, summary.failed), (2, 1, 0));
        assert_eq!((summary.attempts_total, summary.hedges), (5, 1));
        assert_eq!(summary.attempts_histogram, BTreeMap::from([(1, 2), (3, 1)]));
        assert_eq!(summary.latency_us.p50, Some(100));
        let max = summary.latency_us.max.unwrap();
        assert!((29_900_000..30_100_000).contains(&max), "{max}");
        assert!((summary.calls_per_s - 1.5).abs() < 1e-9);
        assert_eq!(summary.violations, None);
    }

    #[test]
    fn a_value_that_does_not_show_one_effect_is_a_violation() {
        let mut records = vec![record(Outcome::Ok, 1, 9), record(Outcome::Unknown, 1, 9)];
        assert_eq!(summary(&records, Some(3)).violations, Some(0));
        records[0].value = Some(6);
        let summary = summary(&records, Some(3));
        assert_eq!(summary.violations, Some(1));
        assert!(summary.to_string().contains("1 values show another number"));
    }

    #[test]
    fn without_ok_calls_there_is_no_latency() {
        let summary = summary(&[], None);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["latency_us"]["p50"], serde_json::Value::Null);
        assert_eq!(json["value"], serde_json::Value::Null);
    }
}
