//! Every limit of a server: its unit, its default, its cost, and what happens when it is reached.

mod text;

use std::{fmt::Debug, time::Duration};

use redial_protocol::{Limits, encode_error};

use crate::{
    admission::AdmissionLimits,
    clock::YEAR,
    error::BuildError,
    overload::Overload,
    refusal,
    table::{MAX_TTL, PlainLimits, SessionLimits},
};

/// The largest window that a session may have.
const MAX_IN_FLIGHT: usize = 64 * 1024;

/// The most that one method and one peer may be made to leave to others.
const MAX_RESERVE_PERCENT: u32 = 90;

/// How long a session that a store shares with other servers is held here after its last connection has
/// ended, and no longer: the store knows it, and a client that was cut off comes back at once.
const HELD_FOR: Duration = Duration::from_secs(10);

/// The limits of a server. All have defaults that suit a small service.
///
/// Times after which something expires or is closed are counted while the server is awake: a gap
/// in which its process was stopped, its machine suspended, or its runtime stuck counts as a second
/// at most, or as an eighth of the shortest of these times if that is less (but not as less than
/// 64 ms). What lay in a socket meanwhile is read before anything expires.
///
/// ```
/// use std::time::Duration;
/// use redial_server::Config;
///
/// let config = Config { ttl: Duration::from_secs(60), max_running: 64, ..Config::default() };
/// assert_eq!(config.max_queued, 1_024);
/// ```
///
/// A file can say it, too: see its [`Deserialize`](#impl-Deserialize%3C'de%3E-for-Config).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Frame size, batch size and nesting: see [`Limits`].
    pub limits: Limits,
    /// How long the outcome of a finished call with a plain id is kept, counted from its end,
    /// in time awake. Default 10 s, as in the notebook; from 1 ms to 20 days. A retry that comes later runs the
    /// handler again, so this must be longer than any client goes on trying. Memory grows as
    /// rate x `ttl`. Calls of a session have no such window.
    pub ttl: Duration,
    /// The most calls with plain ids on record, running and finished. Default 1,000,000, at about
    /// 180 bytes each for short replies. So at most `max_records / ttl` new mutations a second can
    /// be admitted, 100,000 with the defaults. At the limit: -32001 for new mutations; nothing is
    /// evicted. A principal may have 15 of 16 parts of what others leave.
    pub max_records: usize,
    /// The most memory that records may keep, in bytes. Default 256 MiB. Checked before a call is
    /// admitted, when running calls count as long as the latest outcomes, if those have 4 KiB or
    /// more; so the first long outcomes after short ones may exceed it. At the limit: -32001.
    pub max_record_bytes: usize,
    /// How long a session is kept after its last connection has ended. Default 30 min, as in
    /// MongoDB's retryable writes (`localLogicalSessionTimeoutMinutes`); 1 ms or more. A client that
    /// comes back later gets a new one, and its unresolved calls end as unknown. A client that
    /// says goodbye costs nothing from then on. One that goes without a word (`process::exit`, a
    /// crash) costs 500 bytes for so long, and the records of what it has not acknowledged.
    pub session_lease: Duration,
    /// The most sessions at once. Default 10,000, at less than 1 KiB each without records. At the
    /// limit a session goes whose last connection ended 10 s ago or earlier: one with no call in
    /// flight and no outcome on record, else the longest abandoned one of the peer that has most,
    /// if the new one's peer has fewer or is that peer. If that peer has abandoned more than three
    /// quarters of its share, the 10 s don't count. What goes is unknown from then on, and its calls
    /// are never executed again. If there isn't one, or if the peer has 15 of 16 parts of what
    /// others leave attached to connections, new clients are refused (-32001). One connection may
    /// open 16.
    pub max_sessions: usize,
    /// The most memory that the records of one session may keep, in bytes. Default 16 MiB.
    /// Checked before a call is admitted. At the limit: -32001 for its new mutations, until it
    /// acknowledges some.
    pub max_session_bytes: usize,
    /// The same for all sessions together. Default 256 MiB. Those of one peer may keep 15 of 16
    /// parts of what others leave, and 31 of 32 where a session has a 1,024th of the limit or less;
    /// calls that run count as long as the session's latest outcomes. Beyond: -32001.
    pub max_all_session_bytes: usize,
    /// How many attempts may wait for one running call. Default 64. Beyond: -32001.
    pub max_joined: usize,
    /// How many calls run at once, at most. Default 256; [`Overload::adaptive`] may lower it. Beyond, they
    /// queue. Freed permits go round the peers, so that each has them for as long, and within a peer
    /// to what matters most, round its methods.
    pub max_running: usize,
    /// How long a handler may run, in time awake, where its method has no timeout of
    /// [its own](crate::MethodLimits). Default `None`: as long as it likes. More than 0. Beyond, its
    /// future is dropped and the call ends as -32008, which is recorded as its outcome: its run permit is
    /// free, and no attempt executes it again. Counted from when it first waits, and only a handler that
    /// waits can be stopped: one that computes, or a thread that it has started, goes on, and whatever
    /// it comes to changes nothing. Handlers inside a transaction of a store have no timeout. Too short,
    /// calls end with an effect that their callers don't know of.
    pub execution_timeout: Option<Duration>,
    /// What the calls of one method that one peer sends leave to others, in per cent of the run
    /// permits that those don't have; all calls of a peer, and all of a method, leave half of that.
    /// Default 25: alone they get three quarters of `max_running` (192; 3 of 4; all of 3 or fewer), and
    /// handlers that hang leave room for other methods. The larger, the fewer calls of one kind
    /// run at once on a server with nothing else to do. 0 to 90; 0 reserves nothing. Beyond, calls
    /// queue.
    pub running_reserve_percent: u32,
    /// How many calls are queued until others finish. Default 1,024. A call whose deadline passes there,
    /// or a query whose connection ends, leaves the queue unexecuted, within a second; and calls that are queued
    /// for too long all the time are [refused](Self::overload). Beyond: -32001, with a `retry_after_ms` that
    /// grows with the queue. A full queue takes a call of a peer that has fewer in it than another, one that
    /// matters more than another of its peer, or one of a method that its peer has fewer of, in place of the
    /// newest of what matters least there, which is refused without having been executed.
    pub max_queued: usize,
    /// What the server does that has more to do than it can: see [`Overload`].
    pub overload: Overload,
    /// How many connections are open at once. Default 1,024, each at one partly received frame, a
    /// bounded write buffer and a socket. At the limit a new connection takes the place of the
    /// longest idle one of the peer that holds most, if its own peer holds fewer, or of one of its
    /// own peer that has been idle for 10 s; else it is refused. Connections that have yet to shake hands,
    /// or to show who they are where that is asked for, take the place of others until they have a sixteenth
    /// of all, and then that of one another: of the peer that has most of them, or the one that has been
    /// idle longest, for 1 s at least. Both hear why (-32001, id null)
    /// before they are closed, 64 refused ones at a time. A peer is a principal; without one an
    /// IPv4 address, the first 64 bits of an IPv6 address, or all transports without addresses.
    pub max_connections: usize,
    /// How many calls of one connection are unanswered at once, and how many of one session are
    /// unacknowledged: its window. Default 512. A session's window full of replies of 100 bytes
    /// takes about 100 KiB. `rpc.hello` announces the figure, and clients wait at it; twice as many
    /// are let pass, since acknowledgements may be on their way, then: -32001. At most 65,536. At
    /// the limit of a connection the server dispatches no more of its requests until a reply
    /// leaves: up to 64 KiB of them wait, among which `rpc.ping` is still answered, and then it
    /// stops reading.
    pub max_in_flight: usize,
    /// How many unsent reply bytes stop the reading from a connection, those included that wait
    /// for the rest of their batch. Default 1 MiB. Calls that were read before may still answer,
    /// so a connection can come to hold this and `max_in_flight` replies.
    pub unsent_pause_bytes: usize,
    /// How long a peer may read none of the bytes that wait for it. Default 10 s, then closed.
    pub write_timeout: Duration,
    /// How long a frame may take from its first byte to its last. Default 10 s, then closed.
    pub frame_timeout: Duration,
    /// How long a connection may be silent with nothing to wait for. Default 300 s, then closed.
    pub idle_timeout: Duration,
    /// How old a connection may get, give or take a tenth. Default `None`: as old as it likes. More than
    /// 0. A client that said hello is then told (`rpc.goaway`) to go on with another connection, of which
    /// it makes one where it has none; when nothing is owed on the old one for 100 ms it is closed, and
    /// after `drain_timeout` nothing more is read on it. So clients find servers that were added, and
    /// leave those that have more than their share. It costs a handshake for each client and age; a
    /// peer that doesn't know `rpc.goaway` meets a closed connection. A few minutes are short.
    pub max_connection_age: Option<Duration>,
    /// How many messages of one connection may be no requests (-32700, -32600). Default 10, then
    /// closed.
    pub max_protocol_errors: u32,
    /// How long a connection may take to show who it is, where the server asks for that
    /// ([`authenticate`](crate::ServerBuilder::authenticate)), at first and once its token has expired; and how
    /// long the verification of a token may take. Default 10 s, then closed.
    pub auth_timeout: Duration,
    /// How many tokens of one connection may be rejected. Default 10, then closed. Each rejection comes
    /// 100 ms later than the one before.
    pub max_auth_failures: u32,
    /// How many tokens of one address may be rejected, on all its connections, before further ones have to
    /// wait. Default 512; each 100 ms one rejection is forgiven. Beyond, a token that this address has not
    /// shown before is verified in its turn, 10 of them a second. If its turn would not come within half of
    /// `auth_timeout`, or less on a connection that has shown a wrong one, it is refused (-32001), and the
    /// connection is closed. A token with which this address was let in before waits for nothing; one that
    /// was wrong before is verified ten times as often as a new one. It costs 192 KiB, for any number of
    /// addresses. Those of one IPv6 network (the first 64 bits) count as one, and so do all transports
    /// without addresses. Behind a balancer that hides their addresses all clients share what one has.
    pub max_peer_auth_failures: u32,
    /// How many TLS handshakes of one address may begin at once; each 10 ms it may begin one more. Default
    /// 512. Beyond, a handshake waits for its turn, 100 of them a second, before the
    /// server does anything that costs; one that would wait for more than half of the handshake timeout
    /// is closed. It costs 64 KiB for a server with TLS. What counts as one address is as with
    /// `max_peer_auth_failures`: behind a balancer this has to be as large as the fleet that comes back at
    /// once.
    pub max_peer_handshakes: u32,
    /// How long a shutdown waits for running calls. Default 10 s; then they are cut off, and their
    /// callers get -32008.
    pub drain_timeout: Duration,
    /// Whether to listen on an address that other machines can reach, without TLS and without
    /// authentication. Default false: only loopback addresses are accepted.
    pub insecure: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            ttl: Duration::from_secs(10),
            max_records: 1_000_000,
            max_record_bytes: 256 * 1024 * 1024,
            session_lease: Duration::from_secs(30 * 60),
            max_sessions: 10_000,
            max_session_bytes: 16 * 1024 * 1024,
            max_all_session_bytes: 256 * 1024 * 1024,
            max_joined: 64,
            max_running: 256,
            execution_timeout: None,
            running_reserve_percent: 25,
            max_queued: 1_024,
            overload: Overload::default(),
            max_connections: 1_024,
            max_in_flight: 512,
            unsent_pause_bytes: 1024 * 1024,
            write_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            max_connection_age: None,
            max_protocol_errors: 10,
            auth_timeout: Duration::from_secs(10),
            max_auth_failures: 10,
            max_peer_auth_failures: 512,
            max_peer_handshakes: 512,
            drain_timeout: Duration::from_secs(10),
            insecure: false,
        }
    }
}

/// By how much the age of a connection differs from the limit at most, so that those which were made
/// together don't end together: as in gRPC.
const AGE_JITTER: f64 = 0.1;

impl Config {
    /// How old a connection may get, if that is limited, where `random` is from 0 to 1.
    pub(crate) fn connection_age(&self, random: f64) -> Option<Duration> {
        let jitter = 1.0 + AGE_JITTER * (2.0 * random - 1.0);
        Some(self.max_connection_age?.min(YEAR).mul_f64(jitter))
    }

    /// Whether every limit lets something through and can be kept.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let (least, ttl) = (Duration::from_millis(1), self.ttl);
        require(
            (least..=MAX_TTL).contains(&ttl),
            "ttl",
            ttl,
            "1 ms to 20 days",
        )?;
        let lease = self.session_lease;
        require(lease >= least, "session_lease", lease, "1 ms or more")?;
        if let Some(timeout) = self.execution_timeout {
            let is_met = timeout > Duration::ZERO;
            require(is_met, "execution_timeout", timeout, "more than 0, or None")?;
        }
        if let Some(age) = self.max_connection_age {
            let is_met = age > Duration::ZERO;
            require(is_met, "max_connection_age", age, "more than 0, or None")?;
        }
        let at_least_one = [
            ("limits.max_frame_bytes", self.limits.max_frame_bytes),
            ("limits.max_batch_entries", self.limits.max_batch_entries),
            ("limits.max_depth", self.limits.max_depth),
            ("max_records", self.max_records),
            ("max_record_bytes", self.max_record_bytes),
            ("max_sessions", self.max_sessions),
            ("max_session_bytes", self.max_session_bytes),
            ("max_all_session_bytes", self.max_all_session_bytes),
            ("max_running", self.max_running),
            ("overload.min_running", self.overload.min_running),
            ("max_connections", self.max_connections),
            ("max_in_flight", self.max_in_flight),
            ("unsent_pause_bytes", self.unsent_pause_bytes),
            ("max_protocol_errors", self.max_protocol_errors as usize),
            ("max_auth_failures", self.max_auth_failures as usize),
            (
                "max_peer_auth_failures",
                self.max_peer_auth_failures as usize,
            ),
            ("max_peer_handshakes", self.max_peer_handshakes as usize),
        ];
        for (name, value) in at_least_one {
            require(value > 0, name, value, "1 or more")?;
        }
        let Overload {
            target, interval, ..
        } = self.overload;
        if self.overload.is_seen() {
            let is_met = target > Duration::ZERO && target <= interval;
            let expected = "more than 0 and at most overload.interval, or Duration::MAX";
            require(is_met, "overload.target", target, expected)?;
        }
        require(
            self.running_reserve_percent <= MAX_RESERVE_PERCENT,
            "running_reserve_percent",
            self.running_reserve_percent,
            "at most 90, or hardly a call could run",
        )?;
        require(
            self.max_in_flight <= MAX_IN_FLIGHT,
            "max_in_flight",
            self.max_in_flight,
            "at most 65536, since a session may take memory for all of them at once",
        )?;
        require(
            self.limits.max_frame_bytes <= u32::MAX as usize,
            "limits.max_frame_bytes",
            self.limits.max_frame_bytes,
            "at most 4294967295, what 4 bytes can hold",
        )
    }

    /// Replaces an outcome that a peer with our own limits could not receive. The effect has
    /// happened, so the call must not look as if it had not.
    #[inline]
    pub(crate) fn fit_to_frame(&self, outcome: &mut Vec<u8>) {
        let room = self.max_outcome_bytes();
        if outcome.len() > room {
            replace_too_large(outcome, room);
        }
    }

    /// The longest outcome that fits into a frame, in bytes. What is wrapped around it is little,
    /// except that an id may be all escapes.
    pub(crate) fn max_outcome_bytes(&self) -> usize {
        let max = self.limits.max_frame_bytes;
        max.saturating_sub(1024).max(max / 2)
    }

    pub(crate) fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            lease: self.session_lease,
            window: self.max_in_flight,
            max_sessions: self.max_sessions,
            max_bytes: self.max_session_bytes,
            max_total_bytes: self.max_all_session_bytes,
            max_joined: self.max_joined,
            is_shared: false,
        }
    }

    /// The same where the store is shared: it keeps the leases.
    pub(crate) fn shared_session_limits(&self) -> SessionLimits {
        SessionLimits {
            lease: self.session_lease.min(HELD_FOR),
            is_shared: true,
            ..self.session_limits()
        }
    }

    pub(crate) fn admission_limits(&self) -> AdmissionLimits {
        AdmissionLimits {
            max_running: self.max_running,
            max_queued: self.max_queued,
            reserve_percent: self.running_reserve_percent,
            overload: self.overload,
        }
    }

    pub(crate) fn plain_limits(&self) -> PlainLimits {
        PlainLimits {
            ttl: self.ttl,
            max_records: self.max_records,
            max_bytes: self.max_record_bytes,
            max_joined: self.max_joined,
        }
    }
}

fn require(
    is_met: bool,
    name: &'static str,
    found: impl Debug,
    expected: &'static str,
) -> Result<(), BuildError> {
    if is_met {
        return Ok(());
    }
    Err(BuildError::Limit {
        name,
        found: format!("{found:?}"),
        expected,
    })
}

#[cold]
fn replace_too_large(outcome: &mut Vec<u8>, room: usize) {
    let bytes = outcome.len();
    outcome.clear();
    encode_error(outcome, &refusal::outcome_too_large(bytes, room));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections that were made together, and end together.
    #[test]
    fn ages_differ_by_a_tenth_in_both_directions() {
        let age = Duration::from_secs(100);
        let config = Config {
            max_connection_age: Some(age),
            ..Config::default()
        };
        assert_eq!(config.connection_age(0.0), Some(Duration::from_secs(90)));
        assert_eq!(config.connection_age(0.5), Some(age));
        assert!(config.connection_age(0.999) < Some(Duration::from_secs(110)));
        assert_eq!(Config::default().connection_age(0.5), None);
        let endless = Config {
            max_connection_age: Some(Duration::MAX),
            ..Config::default()
        };
        assert!(endless.connection_age(0.999) > Some(YEAR));
    }
}
