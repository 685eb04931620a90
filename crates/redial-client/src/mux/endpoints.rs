//! The endpoints: the addresses at which the servers are, each with a pool of links and a spare of its
//! own.
//!
//! The links of endpoint `e` lie side by side, `connections` of them and then its spare, so that the
//! number of a link says whose it is. A client of one address has one endpoint, and chooses none.

use std::{
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use super::{Mux, attempt::Attempt, down::Trouble, link::Link};
use crate::{
    cause::{Cause, ConnectError},
    endpoint_stats::{EndpointHealth, EndpointStats},
    policy::{
        accrual::FailureAccrual,
        adaptive_timeout::MethodLatencies,
        budget::{RetryBudget, TokenBucket},
        pace::Pace,
    },
    report::AttemptEnd,
    retry_stats::RetryStats,
    small_vec::SmallVec,
    wake_list::replace_waker,
};

/// One address.
#[derive(Debug)]
pub(super) struct EndpointState {
    /// What errors and reports call it.
    pub(super) name: Arc<str>,
    /// Its table, as an index among the client's. Until its server has said which it is, it is one of
    /// its own.
    pub(super) home: usize,
    pub(super) accrual: FailureAccrual,
    /// What has gone wrong with it last.
    pub(super) trouble: Option<Trouble>,
    /// What retries that go there take from, where there are several.
    pub(super) budget: TokenBucket,
    /// How long the calls took there that adapt their timeouts to it.
    pub(super) latencies: MethodLatencies,
    /// How much longer calls take there than elsewhere.
    pub(super) pace: Pace,
    /// It is no longer among the addresses of the service: what is open there ends.
    pub(super) is_removed: bool,
    /// Its servers have, or had, sessions: one that denies it is another one.
    pub(super) has_had_sessions: bool,
    /// The link of its pool that had the latest turn, counted from its first.
    pub(super) turn: usize,
    pub(super) connects: u64,
    pub(super) failures: u64,
    pub(super) retries: RetryStats,
}

impl EndpointState {
    pub(super) fn new(
        name: Arc<str>,
        home: usize,
        connections: usize,
        budget: RetryBudget,
    ) -> Self {
        Self {
            name,
            home,
            accrual: FailureAccrual::default(),
            trouble: None,
            budget: TokenBucket::new(budget),
            latencies: MethodLatencies::new(),
            pace: Pace::default(),
            is_removed: false,
            has_had_sessions: false,
            turn: connections.saturating_sub(1),
            connects: 0,
            failures: 0,
            retries: RetryStats::default(),
        }
    }
}

impl Mux {
    /// How many links an endpoint has, the spare included.
    pub(crate) fn stride(&self) -> usize {
        self.pool + 1
    }

    pub(super) fn endpoint_of(&self, link: usize) -> usize {
        link / self.stride()
    }

    /// The numbers of an endpoint's links, the spare included.
    pub(crate) fn links_of(&self, endpoint: usize) -> std::ops::Range<usize> {
        let first = endpoint * self.stride();
        first..first + self.stride()
    }

    /// The links of an endpoint's pool. Its spare comes after them.
    pub(super) fn pool_of(&self, endpoint: usize) -> &[Link] {
        let first = endpoint * self.stride();
        &self.links[first..first + self.pool]
    }

    pub(super) fn spare_of(&self, endpoint: usize) -> usize {
        endpoint * self.stride() + self.pool
    }

    /// What errors call the other end of the link.
    pub(crate) fn peer(&self, link: usize) -> Arc<str> {
        self.endpoints[self.endpoint_of(link)].name.clone()
    }

    /// What errors call the endpoints.
    pub(crate) fn peers(&self) -> Vec<Arc<str>> {
        let names = self.endpoints().map(|at| self.endpoints[at].name.clone());
        names.collect()
    }

    pub(crate) fn set_peer(&mut self, endpoint: usize, name: Arc<str>) {
        self.endpoints[endpoint].name = name;
    }

    /// The endpoint whose reply ended a call, or to which it was sent last.
    pub(crate) fn endpoint_name(&self, attempts: &SmallVec<Attempt>) -> Option<Arc<str>> {
        let replied = |one: &&Attempt| matches!(one.ended, Some((_, AttemptEnd::Reply)));
        let mut sent = attempts.iter().filter(|one| one.was_sent());
        let answered = attempts.iter().find(replied);
        Some(self.peer(answered.or(sent.next_back())?.link))
    }

    /// The endpoint of this name is one of the service's from now on. Gives its number, and whether
    /// it is new.
    pub(crate) fn add_endpoint(&mut self, name: &Arc<str>) -> (usize, bool) {
        let mut known = self.endpoints.iter();
        if let Some(at) = known.position(|known| known.name == *name) {
            self.endpoints[at].is_removed = false;
            self.wake_homeless();
            return (at, false);
        }
        self.forget_tables();
        let home = self.fresh_table();
        let new = EndpointState::new(name.clone(), home, self.pool, self.endpoint_budget);
        let is_free = |at: &usize| {
            let mut links = self.links[self.links_of(*at)].iter();
            self.endpoints[*at].is_removed && links.all(|link| !link.has_driver)
        };
        let at = (0..self.endpoints.len()).find(is_free);
        let at = at.unwrap_or(self.endpoints.len());
        if at == self.endpoints.len() {
            self.endpoints.push(new);
            let links = self.links.len() + self.stride();
            self.links.resize_with(links, Link::default);
        } else {
            self.endpoints[at] = new;
        }
        for link in self.links_of(at) {
            self.attempts_before += self.links[link].attempts;
            let epoch = self.links[link].epoch.wrapping_add(1);
            self.links[link] = Link::of_several(home, epoch, self.sessions.are_wanted);
        }
        self.wake_homeless();
        (at, true)
    }

    /// It is not known which endpoints there are, or how one can be connected to.
    pub(crate) fn handle_no_endpoints(&mut self, error: &ConnectError) {
        if self.endpoints().next().is_none() {
            let reason = error.reason.to_string().into();
            self.sessions.refusal = Some(Cause::NoEndpoint(reason));
        }
        self.note_not_connected(error);
    }

    /// A client that is being made hears why it has no connection.
    pub(super) fn note_not_connected(&mut self, error: &ConnectError) {
        if self.is_balanced && self.connects == 0 {
            self.connect_error = Some(error.clone());
            self.wakers.extend(self.connecting.take());
        }
    }

    /// Ready when some connection stands, or each endpoint has failed.
    pub(crate) fn poll_connected(&mut self, waker: &Waker) -> Poll<Result<(), ConnectError>> {
        if self.connects > 0 {
            return Poll::Ready(Ok(()));
        }
        let is_over = self.endpoints().all(|at| self.endpoints[at].failures > 0);
        if let Some(error) = self.connect_error.clone().filter(|_| is_over) {
            return Poll::Ready(Err(error));
        }
        self.wakers
            .extend(replace_waker(&mut self.connecting, waker));
        Poll::Pending
    }

    /// The endpoints that are of the service, by number.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = usize> + use<> {
        let are_there: Vec<_> = self.endpoints.iter().map(|one| !one.is_removed).collect();
        (0..are_there.len()).filter(move |at| are_there[*at])
    }

    /// Whether the endpoint has this name.
    pub(crate) fn is_named(&self, endpoint: usize, name: &str) -> bool {
        &*self.endpoints[endpoint].name == name
    }

    /// The endpoint no longer belongs to the service: its connections end when nothing is owed on
    /// them. Gives the links that have none, and whose drivers are to end.
    pub(crate) fn remove_endpoint(&mut self, endpoint: usize, now: Instant) -> Vec<usize> {
        self.endpoints[endpoint].is_removed = true;
        let mut idle = Vec::new();
        for number in self.links_of(endpoint) {
            if self.links[number].is_connected {
                self.send_no_more(number);
                self.links[number].surplus_at = Some(now);
                self.wakers.extend(self.links[number].driver.take());
            } else {
                idle.push(number);
            }
        }
        idle
    }

    /// Whether the link's endpoint no longer belongs to the service.
    pub(super) fn is_removed(&self, link: usize) -> bool {
        self.endpoints[self.endpoint_of(link)].is_removed
    }

    /// How often the endpoint has failed since it last worked: as often as the best of its links.
    pub(super) fn failure_streak(&self, endpoint: usize) -> u32 {
        let pool = self.pool_of(endpoint).iter();
        pool.map(|link| link.losses).min().unwrap_or_default()
    }

    /// A connection of the link failed, fell silent, or could not be made.
    pub(super) fn note_failure(&mut self, link: usize, now: Instant) {
        if !self.is_balanced || self.is_spare(link) {
            return;
        }
        self.links[link].losses = self.links[link].losses.saturating_add(1);
        let endpoint = self.endpoint_of(link);
        let streak = self.failure_streak(endpoint);
        let (threshold, backoff) = (self.max_endpoint_failures, self.hello_backoff);
        let state = &mut self.endpoints[endpoint];
        state.failures += 1;
        let rng = &mut self.balance;
        state
            .accrual
            .on_failure(streak, threshold, backoff, now, rng);
        self.is_refresh_wanted = true;
        self.wakers.extend(self.discovery.take());
    }

    /// How each endpoint is doing.
    pub(crate) fn endpoint_stats(&self, now: Instant) -> Vec<EndpointStats> {
        let stats = |at: usize| {
            let (state, links) = (&self.endpoints[at], &self.links[self.links_of(at)]);
            let name = self.sessions.tables[state.home].name.as_deref();
            EndpointStats {
                address: state.name.to_string(),
                table: name.map(str::to_owned),
                health: self.health(at, now),
                in_flight: links.iter().map(|link| link.in_flight).sum(),
                attempts: links.iter().map(|link| link.attempts).sum(),
                retries: state.retries,
                connects: state.connects,
                failures: state.failures,
            }
        };
        self.endpoints().map(stats).collect()
    }

    fn health(&self, endpoint: usize, now: Instant) -> EndpointHealth {
        let mut links = self.links[self.links_of(endpoint)].iter();
        let streak = self.failure_streak(endpoint);
        if self.endpoints[endpoint].accrual.is_ejected(streak, now) {
            EndpointHealth::Ejected
        } else if links.any(Link::is_ready) {
            EndpointHealth::Ready
        } else if self.pool_of(endpoint).iter().any(|link| link.is_suspect) {
            EndpointHealth::Silent
        } else if self.pool_of(endpoint).iter().any(|link| link.is_leaving) {
            EndpointHealth::Draining
        } else {
            EndpointHealth::Connecting
        }
    }
}
