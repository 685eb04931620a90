//! How long the executions of each method have taken that had to wait for something. Those that finish at
//! once are not measured: reading the clock twice would cost them a tenth.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use redial_protocol::rpc;

use crate::router::Router;

/// How many of the slowest methods are named.
const SLOWEST: usize = 10;

/// Of each method, by its index.
#[derive(Debug)]
pub(crate) struct MethodTimes(Box<[Times]>);

#[derive(Debug, Default)]
struct Times {
    count: AtomicU64,
    total_us: AtomicU64,
    max_us: AtomicU64,
}

impl MethodTimes {
    pub(crate) fn new(methods: usize) -> Self {
        Self((0..methods).map(|_| Times::default()).collect())
    }

    /// An execution of the method has held its run permit for so long.
    pub(crate) fn record(&self, method: usize, took: Duration) {
        let Some(times) = self.0.get(method) else {
            return;
        };
        let micros = micros(took);
        times.count.fetch_add(1, Relaxed);
        times.total_us.fetch_add(micros, Relaxed);
        times.max_us.fetch_max(micros, Relaxed);
    }

    /// The methods that take longest on average.
    pub(crate) fn slowest(&self, router: &Router) -> Vec<rpc::MethodTimes> {
        let methods = router.methods().iter().zip(&self.0);
        let mut all: Vec<_> = methods
            .filter_map(|(method, times)| {
                let count = times.count.load(Relaxed);
                let mean_us = times.total_us.load(Relaxed).checked_div(count)?;
                Some(rpc::MethodTimes {
                    method: method.name.to_string(),
                    count,
                    mean_us,
                    max_us: times.max_us.load(Relaxed),
                })
            })
            .collect();
        all.sort_by(|one, other| {
            let by_time = other.mean_us.cmp(&one.mean_us);
            by_time.then_with(|| one.method.cmp(&other.method))
        });
        all.truncate(SLOWEST);
        all
    }
}

/// In whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
