//! The budget of each of several endpoints: every retry that goes there takes a token of it. Which one a
//! retry goes to is decided when it is sent, so one is reserved where it is about to go, and the endpoint that
//! it went to is charged in the end.

use std::time::Instant;

use super::{Mux, balance::Tie, slab::Key};

impl Mux {
    /// Reserves a token for a retry of the call, of the endpoint that it is about to go to, and says when it
    /// is there. `None` if that is not before `latest`: then nothing is reserved.
    pub(crate) fn reserve_retry(
        &mut self,
        key: Key,
        now: Instant,
        latest: Instant,
    ) -> Option<Instant> {
        if !self.is_balanced {
            return Some(now);
        }
        let tie = self.tie(self.calls.get(key).expect("the call is pending"));
        let Some(endpoint) = self.likely_endpoint(tie, now) else {
            // It waits for an endpoint, which is charged when there is one.
            self.call(key).paid_by = None;
            return Some(now);
        };
        let at = self.endpoints[endpoint].budget.reserve(now, latest)?;
        self.call(key).paid_by = Some(endpoint as u32);
        Some(at)
    }

    /// Of those that it may go to, and that are no worse than another, the one that has most tokens.
    fn likely_endpoint(&self, tie: Tie, now: Instant) -> Option<usize> {
        let ranked = |at: usize| {
            let is_elsewhere = tie.home.is_some_and(|home| home != self.endpoints[at].home);
            let rank = self.rank(at, now)?;
            (!tie.is_fast || !is_elsewhere).then_some((rank, is_elsewhere))
        };
        let all = 0..self.endpoints.len();
        let best = all.clone().filter_map(ranked).min()?;
        let tokens = |at: &usize| self.endpoints[*at].budget.tokens_at(now);
        let likely = all.filter(|at| ranked(*at) == Some(best));
        likely.max_by(|one, other| tokens(one).total_cmp(&tokens(other)))
    }

    /// The token of a retry that won't be made goes back to its endpoint.
    #[cold]
    pub(crate) fn refund_retry(&mut self, key: Key) {
        if let Some(endpoint) = self.call(key).paid_by.take() {
            self.endpoints[endpoint as usize].budget.refund();
        }
    }

    /// A retry is sent on a link: its endpoint pays for it, and another one that has paid gets that back.
    pub(super) fn charge_retry(&mut self, key: Key, link: usize) {
        let endpoint = self.endpoint_of(link) as u32;
        if self.is_balanced && self.call(key).paid_by != Some(endpoint) {
            self.refund_retry(key);
            self.endpoints[endpoint as usize].budget.charge();
            self.call(key).paid_by = Some(endpoint);
        }
    }
}
