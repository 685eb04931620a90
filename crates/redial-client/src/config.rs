//! Every limit of a client, with its default and what it costs.

mod text;

use std::time::Duration;

use redial_protocol::{Dialect, Limits, Priority};

use crate::policy::{
    adaptive_timeout::AdaptiveTimeout, backoff::Backoff, budget::RetryBudget, hedge::Hedge,
};

/// The most connections that a client may have.
const MAX_CONNECTIONS: usize = 65_536;

/// The largest frame whose length 4 bytes can say, in bytes.
const MAX_FRAME_BYTES: usize = u32::MAX as usize;

/// The limits of one call: a client has defaults, and each call may have its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CallLimits {
    /// How long to wait for a reply before the next attempt. Default 1 s. A late reply still
    /// counts, so a short timeout costs the server lookups, never the call its value.
    pub attempt_timeout: Duration,
    /// Has attempts be waited for as long as calls took lately, and some. Default no. The
    /// [`attempt_timeout`](Self::attempt_timeout) is the most then. Costs 256 bytes for each method and
    /// endpoint.
    pub adaptive_timeout: Option<AdaptiveTimeout>,
    /// How many attempts a call may have, the first included. Default 5. After the last one has
    /// timed out, a call that may still be answered goes on listening until its deadline. What was
    /// not written to any connection is no attempt: a call outlasts a server that is away for as
    /// long as its deadline allows.
    pub max_attempts: u32,
    /// How long the call may take in all: connecting, attempts and the waits between them. Default
    /// 10 s.
    pub deadline: Duration,
    /// How long to wait between attempts. Default 50 ms, doubled up to 2 s, full jitter.
    pub backoff: Backoff,
    /// When a copy of the call goes out although its attempt has not timed out. Default never.
    /// Each copy is an attempt, and takes a token of the retry budget.
    pub hedge: Hedge,
    /// Whether the call ends at once, as *not executed*, while every endpoint that it could go to is known to
    /// be down: it refuses connections, or was left out
    /// ([`max_endpoint_failures`](Config::max_endpoint_failures)). Default no: it waits until the deadline,
    /// which outlasts a restart of the server. It is gRPC's `wait_for_ready`, the other way round. A call that
    /// may have been executed is never ended so. Endpoints that are down are connected to again after
    /// [`reconnect`](Config::reconnect) while calls are made, and the first connection that stands ends it.
    pub fail_fast: bool,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(1),
            adaptive_timeout: None,
            max_attempts: 5,
            deadline: Duration::from_secs(10),
            backoff: Backoff::default(),
            hedge: Hedge::Off,
            fail_fast: false,
        }
    }
}

impl CallLimits {
    /// The first number that makes no sense, if there is one.
    pub(crate) fn problem(&self) -> Option<String> {
        let zero = |name| Some(format!("{name} is 0; expected more than 0"));
        match self {
            _ if self.attempt_timeout.is_zero() => zero("attempt_timeout"),
            _ if self.max_attempts == 0 => zero("max_attempts"),
            _ if self.deadline.is_zero() => zero("deadline"),
            _ => self.adaptive_timeout?.problem(),
        }
    }
}

/// Every limit and option of a client, with its default.
///
/// ```
/// use std::time::Duration;
/// use redial_client::{CallLimits, Config};
///
/// let config = Config {
///     connections: 2,
///     call: CallLimits { deadline: Duration::from_secs(5), ..CallLimits::default() },
///     ..Config::default()
/// };
/// # let _ = config;
/// ```
///
/// A file can say it, too: see its [`Deserialize`](#impl-Deserialize%3C'de%3E-for-Config).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The limits of calls that don't set their own.
    pub call: CallLimits,
    /// How much it matters that the calls are served which say nothing of it themselves
    /// ([`Call::priority`](crate::Call::priority)). Default [`Priority::Default`], which is not sent and costs
    /// nothing; another one costs 23 bytes a request. For a program of which all calls are batch work, say.
    pub priority: Priority,
    /// How requests are spelled. Default JSON-RPC 2.0. Replies are read in either dialect.
    pub dialect: Dialect,
    /// Whether requests may carry Redial's own member. Default yes; it is left out by itself for
    /// a peer that has no [`sessions`](Self::sessions), if those are asked for. Without it there
    /// are no sessions.
    pub extensions: bool,
    /// Whether the server is asked for a session, with a hello on every connection. Default yes.
    /// In a session a call is executed at most once, however late a retry arrives and whatever
    /// happens to the server meanwhile. It costs one request per connection, for whose reply the
    /// first calls of the client wait, and at most one small notification per 20 ms of idling.
    /// A server without sessions is recognised by its reply to the hello: -32601, or anything else
    /// that is not a hello's. Silence and a closed connection show nothing, since a load balancer
    /// may accept before its backend is up: the hello is sent again, on a new connection after three
    /// without a reply, and calls wait until their deadline. A client that ever had a session never
    /// does without: calls then wait for a server that knows sessions, whatever another one replies.
    pub sessions: bool,
    /// Says that the server has no sessions, so that it is not asked. Default no. Only for servers
    /// that neither reply to a method that they don't know nor can be taught to: where such a one
    /// is asked, no call is ever sent. All calls get plain ids, with their smaller guarantee, and
    /// requests have no member of Redial's own.
    pub assume_plain: bool,
    /// How many connections share the calls, to each endpoint. Default 1, at most 65,536. Each costs a task, 64 KiB to
    /// read into, and up to twice [`max_buffered_bytes`](Self::max_buffered_bytes). Where nothing is
    /// heard on any of them for an attempt's timeout, or where their servers shut down, there is one
    /// more for a while.
    pub connections: usize,
    /// How long making one connection may take: looking a name up, and trying its addresses.
    /// Default 5 s. One that can't be made costs no call
    /// an attempt: the calls wait for the next one, which [`reconnect`](Self::reconnect) paces.
    pub connect_timeout: Duration,
    /// The wait before connecting again after a connection that failed or was of no use.
    /// Default 50 ms, doubled up to 2 s, full jitter.
    pub reconnect: Backoff,
    /// How often in a row an endpoint may fail before it is left out. Default 5. A failure is a
    /// connection that can't be made, is lost, or brings nothing for an attempt's timeout; a reply
    /// makes up for all before it. It gets no calls then while another endpoint takes them, for as long
    /// as [`reconnect`](Self::reconnect) says, and is tried again. More of them cost calls that were
    /// sent to a server in trouble; fewer leave one out for a moment's. Says nothing for a client of
    /// one address.
    pub max_endpoint_failures: u32,
    /// How long a connection may be silent after something was written to it, whether or not a
    /// call still waits, before it is asked for a sign of life; silent for as long again, it
    /// counts as lost. Default 10 s; less where calls in flight have less time: a quarter of the
    /// shortest deadline among them, but at least a second, so that a dead peer is found before they
    /// end. A client that stood still itself reads before it judges.
    pub keepalive: Duration,
    /// The largest frame to send or to receive, in bytes. Default 1 MiB, at most 4,294,967,295. A
    /// server with sessions announces what it takes, which is obeyed too. A larger reply is passed
    /// over, without a buffer for it, and ends the one call that it answers: it was executed, and is
    /// not sent again.
    pub max_frame_bytes: usize,
    /// The largest frame that is passed over if it is larger than that, in bytes. Default 128 MiB: a
    /// larger one closes the connection, since the first four letters of any text, taken for a length,
    /// say more. The time that it takes to arrive is what it costs. 0 passes none over.
    pub max_skipped_frame_bytes: usize,
    /// How many frames of one connection may hold no message: no JSON, or neither an id nor a method
    /// in it. Default 10, then the connection is closed, since a server that sends so much of it is
    /// hardly one. Fewer take a connection, and the replies to all calls on it, for less.
    pub max_protocol_errors: u32,
    /// How much of what is to be sent may wait in memory per connection, in bytes. Default
    /// 1 MiB; one frame may go over it. At the limit calls wait for room.
    pub max_buffered_bytes: usize,
    /// How many requests may be unanswered at once per connection. Default 512, which is as much
    /// as a server takes by default before it reads no more. At the limit a call takes another
    /// connection of the pool, or waits for a permit until its deadline. A request that has timed
    /// out keeps its permit until its call ends, since its reply may still come; the call's retries
    /// and pings need none. A server with sessions announces its own limit, and the lower one
    /// counts; for a server without, set it no higher than that server's.
    pub max_in_flight: usize,
    /// How many calls that have ended keep their record at the server because a token of them lives,
    /// or was serialised and not [forgotten](crate::Client::forget). Default 1,024; each costs the
    /// server a record. When they take half of a session's window, new calls get another session; of
    /// 15 the oldest goes, and where the server has no room for another they take three quarters of
    /// the window at most, so that new calls always find room. At the limit the call that ended first
    /// is let go: its record is acknowledged, and who asks for its outcome hears that it is unknown.
    /// To drop tokens that are not needed, or to forget them, makes room for others.
    pub max_retained_calls: usize,
    /// How many retries all calls together may make, and of several endpoints those to each.
    pub retry_budget: RetryBudget,
    /// How long after a request that may have arrived a call with a plain id may be sent again.
    /// Default 8 s, which is 2 s less than a server keeps its record of such a call by default:
    /// after that another attempt could be taken for a new call and be executed twice. Queries are
    /// not bound by it, and neither are the calls of a [session](Self::sessions). Set it below the
    /// server's own figure by the longest delay of the network. A machine that was suspended counts it
    /// as over where it can know (Linux); a paused virtual machine can't, and needs a session.
    pub resend_window: Duration,
    /// Makes everything random repeat: ids, jitter. **Only for simulations**: two clients with
    /// one seed make the same ids, and a server takes the calls of one for those of the other.
    pub seed: Option<u64>,
    /// Makes the jitter repeat, and nothing else.
    pub jitter_seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            call: CallLimits::default(),
            priority: Priority::Default,
            dialect: Dialect::JsonRpc2,
            extensions: true,
            sessions: true,
            assume_plain: false,
            connections: 1,
            connect_timeout: Duration::from_secs(5),
            reconnect: Backoff::default(),
            max_endpoint_failures: 5,
            keepalive: Duration::from_secs(10),
            max_frame_bytes: Limits::default().max_frame_bytes,
            max_skipped_frame_bytes: 128 * 1024 * 1024,
            max_protocol_errors: 10,
            max_buffered_bytes: 1024 * 1024,
            max_in_flight: 512,
            max_retained_calls: 1_024,
            retry_budget: RetryBudget::default(),
            resend_window: Duration::from_secs(8),
            seed: None,
            jitter_seed: None,
        }
    }
}

impl Config {
    /// The first number that makes no sense, if there is one.
    pub(crate) fn problem(&self) -> Option<String> {
        let zero = |name| Some(format!("{name} is 0; expected more than 0"));
        let above = |name, found, most| Some(format!("{name} is {found}; expected at most {most}"));
        match self {
            _ if self.connections == 0 => zero("connections"),
            _ if self.connections > MAX_CONNECTIONS => {
                above("connections", self.connections, MAX_CONNECTIONS)
            }
            _ if self.connect_timeout.is_zero() => zero("connect_timeout"),
            _ if self.max_endpoint_failures == 0 => zero("max_endpoint_failures"),
            _ if self.keepalive.is_zero() => zero("keepalive"),
            _ if self.max_frame_bytes == 0 => zero("max_frame_bytes"),
            _ if self.max_frame_bytes > MAX_FRAME_BYTES => {
                above("max_frame_bytes", self.max_frame_bytes, MAX_FRAME_BYTES)
            }
            _ if self.max_protocol_errors == 0 => zero("max_protocol_errors"),
            _ if self.max_buffered_bytes == 0 => zero("max_buffered_bytes"),
            _ if self.max_in_flight == 0 => zero("max_in_flight"),
            _ => self.call.problem().or_else(|| {
                self.retry_budget
                    .problem()
                    .map(|text| format!("retry_budget: {text}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problem() {
        assert_eq!(Config::default().problem(), None);
    }

    #[test]
    fn every_zero_is_named() {
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 14] = [
            ("connections", |c| c.connections = 0),
            ("connect_timeout", |c| c.connect_timeout = Duration::ZERO),
            ("max_endpoint_failures", |c| c.max_endpoint_failures = 0),
            ("keepalive", |c| c.keepalive = Duration::ZERO),
            ("max_frame_bytes", |c| c.max_frame_bytes = 0),
            ("max_buffered_bytes", |c| c.max_buffered_bytes = 0),
            ("max_in_flight", |c| c.max_in_flight = 0),
            ("max_protocol_errors", |c| c.max_protocol_errors = 0),
            ("attempt_timeout", |c| {
                c.call.attempt_timeout = Duration::ZERO
            }),
            ("adaptive_timeout.floor", |c| {
                let (floor, multiplier) = (Duration::ZERO, 2.0);
                c.call.adaptive_timeout = Some(AdaptiveTimeout { floor, multiplier });
            }),
            ("adaptive_timeout.multiplier", |c| {
                let (floor, multiplier) = (Duration::from_millis(1), f64::NAN);
                c.call.adaptive_timeout = Some(AdaptiveTimeout { floor, multiplier });
            }),
            ("max_attempts", |c| c.call.max_attempts = 0),
            ("deadline", |c| c.call.deadline = Duration::ZERO),
            ("burst", |c| c.retry_budget.burst = 0.5),
        ];
        for (name, change) in changes {
            let mut config = Config::default();
            change(&mut config);
            let problem = config.problem().unwrap_or_default();
            assert!(problem.contains(name), "{name}: {problem:?}");
        }
    }
}
