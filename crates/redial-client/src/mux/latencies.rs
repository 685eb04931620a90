//! How long calls take at each endpoint, for those that adapt the timeouts of their attempts to it.

use std::time::{Duration, Instant};

use super::{Mux, attempt::Attempt, slab::Key};
use crate::{policy::adaptive_timeout::AdaptiveTimeout, report::AttemptEnd};

impl Mux {
    /// How long the call's latest attempt is waited for.
    pub(crate) fn adaptive_timeout(
        &mut self,
        key: Key,
        method: &str,
        adaptive: AdaptiveTimeout,
        most: Duration,
    ) -> Duration {
        let call = self.call(key);
        let Some(link) = call.attempts.last().map(|latest| latest.link) else {
            return most;
        };
        let has_timed_out =
            |one: &&Attempt| matches!(one.ended, Some((_, AttemptEnd::Timeout))) && !one.is_hedge;
        let timeouts = call.attempts.iter().filter(has_timed_out).count();
        let p99 = self.endpoints[self.endpoint_of(link)].latencies.p99(method);
        adaptive.timeout(p99, timeouts as u32, most)
    }

    /// The call has its answer. What it took says how long others take if it was sent once: after a retry it is
    /// not known which attempt was answered.
    #[cold]
    pub(crate) fn record_answer(&mut self, key: Key, method: &str, now: Instant) {
        let only = {
            let mut attempts = self.call(key).attempts.iter().filter(|one| !one.is_hedge);
            let first = attempts.next().map(|first| (first.link, first.started));
            first.filter(|_| attempts.next().is_none())
        };
        if let Some((link, started)) = only {
            self.record_latency(link, method, now.saturating_duration_since(started));
        }
    }

    /// The call's attempt has timed out: it takes at least as long.
    #[cold]
    pub(crate) fn record_timeout(&mut self, key: Key, method: &str, now: Instant) {
        let is_waited_for = |one: &&Attempt| !one.is_hedge && one.ended.is_none();
        let latest = self.call(key).attempts.iter().rfind(is_waited_for);
        if let Some((link, started)) = latest.map(|latest| (latest.link, latest.started)) {
            self.record_latency(link, method, now.saturating_duration_since(started));
        }
    }

    /// For how long the call has waited for its latest attempt.
    pub(crate) fn waited(&mut self, key: Key, now: Instant) -> Duration {
        let latest = self.call(key).attempts.last();
        latest.map_or(Duration::ZERO, |latest| {
            now.saturating_duration_since(latest.started)
        })
    }

    fn record_latency(&mut self, link: usize, method: &str, took: Duration) {
        let endpoint = self.endpoint_of(link);
        self.endpoints[endpoint].latencies.record(method, took);
    }
}
