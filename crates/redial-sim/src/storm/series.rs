//! The time series of a storm, one value for each step.

use std::time::Duration;

use serde::Serialize;

use super::{
    figures::percentile,
    recorder::{Cohort, Recorder, STEP, ServerStep, step_of},
};

/// A value for each step of the time; times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// How long a step is.
    pub step_ms: u64,
    /// Calls that were begun.
    pub offered: Vec<u32>,
    /// Calls that gave their value in time.
    pub goodput: Vec<u32>,
    /// The median of how long those of the watched calls took that gave a value.
    pub p50_ms: Vec<Option<f64>>,
    /// The same for the slowest of a hundred.
    pub p99_ms: Vec<Option<f64>>,
    /// How long calls waited that began to run, at the server and for a worker, on average.
    pub queue_ms: Vec<Option<f64>>,
    /// Attempts that the server refused for want of room.
    pub sheds: Vec<u32>,
    /// Calls that it dropped since their time was up.
    pub expired: Vec<u32>,
    /// Attempts beyond the first.
    pub retries: Vec<u32>,
}

impl Series {
    /// Of all that was recorded.
    pub(crate) fn of(recorder: &Recorder) -> Self {
        let (calls, server) = (recorder.calls(), recorder.server());
        let last = calls.iter().map(|call| step_of(call.ended)).max();
        let steps = server.len().max(last.map_or(0, |last| last + 1));
        let zeros = || vec![0; steps];
        let (mut offered, mut goodput, mut retries) = (zeros(), zeros(), zeros());
        let mut took = vec![Vec::new(); steps];
        for call in calls.iter() {
            offered[step_of(call.begun)] += 1;
            let end = step_of(call.ended);
            goodput[end] += u32::from(call.is_good);
            if call.is_good && call.cohort == Cohort::Watched {
                took[end].push(call.ended - call.begun);
            }
            for retry in &call.retries {
                retries[step_of(*retry)] += 1;
            }
        }
        took.iter_mut().for_each(|took| took.sort_unstable());
        let at = |share| took.iter().map(move |took| percentile(took, share).map(ms));
        let of_server = |what: fn(&ServerStep) -> u32| {
            let values = server.iter().map(what);
            values.chain(std::iter::repeat(0)).take(steps).collect()
        };
        Self {
            step_ms: STEP.as_millis() as u64,
            p50_ms: at(0.5).collect(),
            p99_ms: at(0.99).collect(),
            queue_ms: (0..steps)
                .map(|step| server.get(step).and_then(ServerStep::queue).map(ms))
                .collect(),
            sheds: of_server(|step| step.sheds),
            expired: of_server(|step| step.expired),
            offered,
            goodput,
            retries,
        }
    }
}

impl ServerStep {
    /// How long calls waited on average, at the server and for a worker.
    fn queue(&self) -> Option<Duration> {
        let mean = |sum: Duration, count: u32| (count > 0).then(|| sum / count.max(1));
        let (queued, waited) = (
            mean(self.queued, self.started),
            mean(self.waited, self.served),
        );
        if queued.is_none() && waited.is_none() {
            return None;
        }
        Some(queued.unwrap_or_default() + waited.unwrap_or_default())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
