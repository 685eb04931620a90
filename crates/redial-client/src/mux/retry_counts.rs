//! Counts of retries, of each endpoint and of all: what was sent, and what was not.

use super::{Mux, slab::Key};
use crate::{report::AttemptEnd, retry_stats::RetryStats};

impl Mux {
    /// How many attempts were handed to connections.
    pub(crate) fn attempts(&self) -> u64 {
        let now = self.links.iter().map(|link| link.attempts);
        self.attempts_before + now.sum::<u64>()
    }

    /// A retry is about to be sent on a link. One that was sent and never left is counted once.
    pub(super) fn count_retry(&mut self, key: Key, number: u32, link: usize) {
        let call = self.call(key);
        if number <= call.counted {
            return;
        }
        call.counted = number;
        let sent = call.attempts.iter().rfind(|one| one.was_sent());
        let why = sent.and_then(|latest| Some(latest.ended?.1));
        let endpoint = self.endpoint_of(link);
        self.count(endpoint, |counts| match why {
            Some(AttemptEnd::Timeout) => counts.after_timeout += 1,
            Some(AttemptEnd::Refused) => counts.after_refusal += 1,
            _ => counts.after_loss += 1,
        });
    }

    /// Counts something for the endpoint to which the call was sent last.
    pub(crate) fn count_for(&mut self, key: Key, add: impl Fn(&mut RetryStats)) {
        let latest = self.call(key).attempts.last().map(|latest| latest.link);
        match latest {
            Some(link) => self.count(self.endpoint_of(link), add),
            None => add(&mut self.retries),
        }
    }

    pub(super) fn count(&mut self, endpoint: usize, add: impl Fn(&mut RetryStats)) {
        add(&mut self.retries);
        add(&mut self.endpoints[endpoint].retries);
    }
}
