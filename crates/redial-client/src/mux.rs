//! The pending calls and the bytes on their way out. No tokio, no clock, no socket: time comes in
//! as an argument, and the wakers to be woken go out as a list.
//!
//! A call is pending from its first poll to its end, over all its attempts and connections: the
//! reply to any attempt finds it. Events come in through `handle_*` (`handle.rs`, `handshake.rs`),
//! and what a driver has to do goes out through `poll_*` (`poll.rs`).

mod acks;
pub(crate) mod attempt;
mod auth;
pub(crate) mod balance;
pub(crate) mod call_ids;
pub(crate) mod control;
mod disconnect;
mod down;
mod endpoint_budget;
mod endpoints;
mod fork;
mod goaway;
mod greeted;
mod handle;
mod handshake;
mod handshake_wait;
mod latencies;
mod left_session;
pub(crate) mod link;
pub(crate) mod link_auth;
mod no_reply;
pub(crate) mod pending_call;
mod permits;
pub(crate) mod poll;
pub(crate) mod replies;
mod retention;
mod retry_counts;
pub(crate) mod send;
mod session;
mod session_loss;
pub(crate) mod sessions;
pub(crate) mod slab;
pub(crate) mod spare;
mod tables;
mod timers;
mod waiting;
mod write_limit;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    task::Waker,
    time::{Duration, Instant},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use redial_protocol::{Dialect, Priority, ReplyMeta};
use uuid::Uuid;

use self::{
    attempt::Attempt,
    endpoints::EndpointState,
    link::Link,
    pending_call::{Answer, PendingCall},
    sessions::Sessions,
    slab::{Key, Slab},
    timers::Timers,
};
use crate::{
    cause::ConnectError,
    config::Config,
    policy::{backoff::Backoff, budget::RetryBudget, pace::CommonPace},
    report::AttemptEnd,
    retry_stats::RetryStats,
    wake_list::replace_waker,
};

/// A hello is waited for as long as an attempt is by default, between these bounds: it is answered
/// at once, so a longer wait gains nothing; and a connection that is silent on three of them is
/// closed, which a slow moment must not be enough for.
const MIN_HELLO_TIMEOUT: Duration = Duration::from_millis(250);
const MAX_HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// The pending calls of a client and the buffers of its connections.
#[derive(Debug)]
pub(crate) struct Mux {
    calls: Slab<PendingCall>,
    /// The calls whose id is no number in a session of this client.
    by_id: HashMap<Uuid, Key, BuildHasherDefault<IdHasher>>,
    sessions: Sessions,
    /// Those of each endpoint: its pool, and after it the spare.
    links: Vec<Link>,
    /// How many links the pool of an endpoint has.
    pool: usize,
    endpoints: Vec<EndpointState>,
    /// There are several endpoints, or may be, so that one is chosen for each call.
    is_balanced: bool,
    /// How long calls take at all endpoints, where there are several.
    pace: CommonPace,
    /// Decides which two endpoints are compared.
    balance: ChaCha8Rng,
    /// After how many failures in a row an endpoint is left out.
    max_endpoint_failures: u32,
    /// Of each of several.
    endpoint_budget: RetryBudget,
    /// Calls that wait for an endpoint of their table, or for any.
    homeless: VecDeque<Key>,
    /// A task looks after the set of endpoints.
    pub(crate) has_discovery: bool,
    /// Its waker.
    pub(crate) discovery: Option<Waker>,
    /// Waits for the first connection, or for the failure of all.
    connecting: Option<Waker>,
    /// Why there was no connection yet.
    connect_error: Option<ConnectError>,
    /// Some endpoint has failed, since when the set was not asked for.
    pub(crate) is_refresh_wanted: bool,
    /// How long the spare's connection may have nothing to do.
    spare_idle: Duration,
    timers: Timers,
    ids: ChaCha8Rng,
    dialect: Dialect,
    extensions: bool,
    /// Of calls that say none.
    priority: Priority,
    max_frame_bytes: usize,
    max_buffered_bytes: u64,
    max_in_flight: usize,
    max_retained_calls: usize,
    /// How long a hello is waited for before it is sent again.
    hello_timeout: Duration,
    hello_backoff: Backoff,
    /// The client is gone.
    is_closing: bool,
    /// Waits for all connections to end.
    closer: Option<Waker>,
    /// To be woken once the lock is released.
    pub(crate) wakers: Vec<Waker>,
    /// The link that has work and no driver. The sender of the request takes it, and starts one.
    pub(crate) driverless: Option<usize>,
    pub(crate) connects: u64,
    /// When the machine was last suspended.
    suspended_at: Option<Instant>,
    pub(crate) unmatched_replies: u64,
    pub(crate) retries: RetryStats,
    /// Attempts that were sent to endpoints which are no longer any.
    attempts_before: u64,
    /// Requests and notifications of servers.
    pub(crate) peer_requests: u64,
    /// Frames that held no message.
    pub(crate) protocol_errors: u64,
    /// At how many of them a connection is closed.
    max_protocol_errors: u32,
}

impl Mux {
    pub(crate) fn new(config: &Config, ids: ChaCha8Rng) -> Self {
        let endpoint_budget = config.retry_budget.of_endpoint();
        Self {
            calls: Slab::new(),
            by_id: HashMap::default(),
            sessions: Sessions::new(config.extensions && config.sessions, config.assume_plain),
            links: (0..=config.connections).map(|_| Link::default()).collect(),
            pool: config.connections,
            endpoints: vec![EndpointState::new(
                "the server".into(),
                0,
                config.connections,
                endpoint_budget,
            )],
            is_balanced: false,
            pace: CommonPace::default(),
            balance: ChaCha8Rng::from_seed([0; 32]),
            max_endpoint_failures: config.max_endpoint_failures,
            endpoint_budget,
            homeless: VecDeque::new(),
            has_discovery: false,
            discovery: None,
            connecting: None,
            connect_error: None,
            is_refresh_wanted: false,
            spare_idle: config.keepalive,
            timers: Timers::default(),
            ids,
            dialect: config.dialect,
            extensions: config.extensions,
            priority: config.priority,
            max_frame_bytes: config.max_frame_bytes,
            max_buffered_bytes: config.max_buffered_bytes as u64,
            max_in_flight: config.max_in_flight,
            max_retained_calls: config.max_retained_calls,
            hello_timeout: config
                .call
                .attempt_timeout
                .clamp(MIN_HELLO_TIMEOUT, MAX_HELLO_TIMEOUT),
            hello_backoff: config.reconnect,
            is_closing: false,
            closer: None,
            wakers: Vec::new(),
            driverless: None,
            connects: 0,
            suspended_at: None,
            unmatched_replies: 0,
            retries: RetryStats::default(),
            attempts_before: 0,
            peer_requests: 0,
            protocol_errors: 0,
            max_protocol_errors: config.max_protocol_errors,
        }
    }

    /// The same for several endpoints, or none yet, which are chosen by `balance`.
    pub(crate) fn balanced(config: &Config, ids: ChaCha8Rng, balance: ChaCha8Rng) -> Self {
        let mut mux = Self::new(config, ids);
        (mux.is_balanced, mux.balance) = (true, balance);
        mux.links.clear();
        mux.endpoints.clear();
        mux
    }

    pub(crate) fn call(&mut self, key: Key) -> &mut PendingCall {
        self.calls
            .get_mut(key)
            .expect("a call is pending from its first poll to its end")
    }

    /// Wakes the call, from now on by this waker, when something happens to it.
    #[inline]
    pub(crate) fn listen(&mut self, key: Key, waker: &Waker) {
        let call = self.calls.get_mut(key).expect("the call is pending");
        self.wakers.extend(replace_waker(&mut call.waker, waker));
    }

    /// When the answer came that the call has not taken yet.
    pub(crate) fn answered_at(&self, key: Key) -> Option<Instant> {
        self.calls.get(key)?.answered_at
    }

    /// Takes the result of a call of one attempt to which nothing else has happened, as is the case
    /// for almost every call.
    pub(crate) fn take_result(&mut self, key: Key) -> Option<(Answer, ReplyMeta, Instant)> {
        let call = self.calls.get_mut(key)?;
        let (Some(Answer::Result(_, meta)), Some(at)) = (&call.answer, call.answered_at) else {
            return None;
        };
        let meta = *meta;
        let is_replied = |only: &Attempt| matches!(only.ended, Some((_, AttemptEnd::Reply)));
        if call.rolled_back > 0
            || call.signal.is_some()
            || !call.attempts.only().is_some_and(is_replied)
        {
            return None;
        }
        Some((call.answer.take()?, meta, at))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// How many attempts on the link's connection may still be answered.
    pub(crate) fn in_flight_on(&self, link: usize) -> usize {
        self.links[link].in_flight
    }

    /// How many attempts may be unanswered at once on a connection to a server of this table.
    fn max_in_flight(&self, home: usize) -> usize {
        let announced = self.sessions.current(home).map(|session| session.window());
        announced.map_or(self.max_in_flight, |announced| {
            announced.min(self.max_in_flight)
        })
    }

    /// The largest frame that may be sent on a connection of the link.
    fn max_frame_bytes(&self, link: usize) -> usize {
        match self.sessions.current(self.links[link].home) {
            Some(session) if !self.links[link].is_plain => {
                session.max_frame_bytes.min(self.max_frame_bytes)
            }
            _ => self.max_frame_bytes,
        }
    }
}

/// Hashes ids, which are random already or were counted. It has no seed, so that a simulation's map
/// has one order.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            // Both halves of the product, so that every bit of the id reaches every bit of the
            // hash: ids that are counted differ in their last bytes alone.
            let mixed = u128::from(self.0 ^ u64::from_le_bytes(word)) * 0x9E37_79B9_7F4A_7C15;
            self.0 = (mixed as u64) ^ (mixed >> 64) as u64;
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
