//! What is known of endpoints that are down: since when, and why. Calls that fail fast end by it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Mux, link::Link, slab::Key};
use crate::cause::Cause;

/// What has happened to an endpoint that does not work.
#[derive(Debug)]
pub(super) struct Trouble {
    /// When it began.
    pub(super) since: Instant,
    /// What happened last.
    reason: Arc<str>,
}

impl Link {
    /// It has no connection, because the latest were of no use.
    fn is_refused(&self) -> bool {
        !self.is_connected && self.failures > 0
    }
}

/// Why an endpoint is down that a connection to ended so.
pub(super) fn reason_of(cause: &Cause) -> Arc<str> {
    match cause {
        Cause::Connect(error) => error.reason.to_string().into(),
        Cause::ConnectionLost { reason, .. } => format!("connection lost: {reason}").into(),
        other => other.to_string().into(),
    }
}

/// For people: more digits would say nothing.
fn to_millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Mux {
    /// Something has gone wrong with a connection of the link, or the lack of one. `was_well` if all was well
    /// with its endpoint before.
    pub(super) fn note_trouble(
        &mut self,
        link: usize,
        was_well: bool,
        reason: Arc<str>,
        now: Instant,
    ) {
        let endpoint = self.endpoint_of(link);
        let before = self.endpoints[endpoint].trouble.take();
        let since = before
            .filter(|_| !was_well)
            .map_or(now, |before| before.since);
        self.endpoints[endpoint].trouble = Some(Trouble { since, reason });
        self.wake_hasty();
    }

    /// The calls that are not to wait for a server that is down look whether it is, whatever they wait for.
    fn wake_hasty(&mut self) {
        let Self { calls, wakers, .. } = self;
        let hasty = calls.values_mut().filter(|call| call.flags.fails_fast);
        wakers.extend(hasty.filter_map(|call| call.waker.take()));
    }

    /// Whether no link of the endpoint has failed since it last worked.
    pub(super) fn is_well(&self, endpoint: usize) -> bool {
        let mut pool = self.pool_of(endpoint).iter();
        pool.all(|link| link.failures == 0 && link.losses == 0)
    }

    /// Why the call can't be written anywhere, where every endpoint that it may go to is known to be down.
    /// They are looked after meanwhile, so that this is known no longer when one of them is back.
    pub(crate) fn known_down(&mut self, key: Key, now: Instant) -> Option<Cause> {
        let call = self.calls.get(key).expect("the call is pending");
        if call.may_have_executed() || call.flags.is_resumed {
            return None;
        }
        let tie = self.tie(call);
        let is_open = |at: &usize| !self.endpoints[*at].is_removed;
        let is_its = |at: &usize| {
            let is_elsewhere = tie
                .home
                .is_some_and(|home| home != self.endpoints[*at].home);
            is_open(at) && !(tie.is_fast && is_elsewhere)
        };
        let its = || (0..self.endpoints.len()).filter(is_its);
        if its().any(|at| !self.is_down(at, now)) {
            return None;
        }
        let its: Vec<usize> = its().collect();
        let trouble = |at: &usize| self.endpoints[*at].trouble.as_ref();
        // Since then all of them are down.
        let latest = its.iter().filter(|at| trouble(at).is_some());
        let latest = latest.max_by_key(|at| trouble(at).map(|trouble| trouble.since))?;
        let (latest, others) = (*latest, its.len() - 1);
        let trouble = self.endpoints[latest].trouble.as_ref()?;
        let cause = Cause::EndpointDown {
            peer: self.endpoints[latest].name.clone(),
            since: to_millis(now.saturating_duration_since(trouble.since)),
            reason: trouble.reason.clone(),
            others,
        };
        its.into_iter().for_each(|at| self.probe(at));
        self.count(latest, |counts| counts.failed_fast += 1);
        Some(cause)
    }

    /// Whether the endpoint is left out, or refuses connections. Where it has not been tried for so long that
    /// it may be back, it is not known: the next call finds out.
    fn is_down(&self, endpoint: usize, now: Instant) -> bool {
        let links = &self.links[self.links_of(endpoint)];
        if links.iter().any(Link::is_ready) {
            return false;
        }
        let streak = self.failure_streak(endpoint);
        if self.endpoints[endpoint].accrual.is_ejected(streak, now) {
            return true;
        }
        let is_tried = |link: &Link| link.has_driver || link.not_before.is_some_and(|at| now < at);
        let mut refused = links.iter().filter(|link| link.is_refused());
        !links.iter().any(|link| link.is_connected) && refused.any(is_tried)
    }

    /// Has an endpoint that is down be connected to when its pause is over, though no call waits for that.
    fn probe(&mut self, endpoint: usize) {
        if self.is_balanced {
            self.request_discovery();
        }
        let first = self.links_of(endpoint).start;
        let refused = self.pool_of(endpoint).iter().position(Link::is_refused);
        // One can be started at a time: the next such call starts that of another endpoint.
        if let Some(link) = refused.map(|at| first + at)
            && self.driverless.is_none()
        {
            // It tries once, when the pause is over, and ends if that fails: the next such call starts another.
            self.request_driver(link);
        }
    }
}
