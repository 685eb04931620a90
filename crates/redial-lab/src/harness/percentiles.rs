//! Percentiles of a client's calls over several rounds.

use serde::Serialize;

use super::events::Summary;
use crate::report::scale::median;

/// In microseconds, the median of all rounds, so that one bad round does not count. Not a number if no call
/// was ok.
#[derive(Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    p99_us_of_each_round: Vec<f64>,
}

impl Percentiles {
    pub(crate) fn of(rounds: &[Summary]) -> Self {
        let median = |values: Vec<f64>| median(values).unwrap_or(f64::NAN);
        let latencies = rounds.iter().map(|summary| summary.latency_us);
        let p50 = latencies.clone().filter_map(|latency| latency.p50);
        let p99: Vec<_> = latencies.filter_map(|latency| latency.p99).collect();
        Self {
            p50_us: median(p50.collect()),
            p99_us: median(p99.clone()),
            p99_us_of_each_round: p99,
        }
    }
}
