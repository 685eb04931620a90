//! What a server says of how it is doing: `rpc.health` and `rpc.stats`.

use std::borrow::Cow;

use serde::Serialize;

use crate::json::object::objects;

/// Says whether the server takes calls, and if not, why: answers [`Health`], to every caller.
pub const HEALTH: &str = "rpc.health";

/// Says what the server has done and what it holds: answers [`ServerStats`], to callers that may ask.
pub const STATS: &str = "rpc.stats";

/// [`Health::why`] of a server that shuts down.
pub const DRAINING: &str = "draining";

/// [`Health::why`] of a server whose store can record nothing.
pub const STORE_FAILING: &str = "store_failing";

objects! {
    /// What `rpc.health` answers.
    ///
    /// ```
    /// use redial_protocol::rpc::{DRAINING, Health};
    ///
    /// let health: Health = serde_json::from_str(r#"{"live":true,"ready":false,"why":"draining"}"#)?;
    /// assert_eq!(health.why.as_deref(), Some(DRAINING));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct Health<'a> {
        /// It answers.
        pub live: bool,
        /// It admits new calls.
        pub ready: bool,
        /// Why it is not ready, in one word: [`DRAINING`], [`STORE_FAILING`], or one of a later version.
        #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
        pub why: Option<Cow<'a, str>>,
        /// The same in words for people. Left out for callers that may not ask for `rpc.stats`, since it
        /// may name a file or a host.
        #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
        pub detail: Option<Cow<'a, str>>,
    }

    /// What `rpc.stats` answers. Counts are those since the server was made; durations are in
    /// microseconds. A server of another version may leave members out, which are 0 then, and add others.
    ///
    /// ```
    /// use redial_protocol::rpc::ServerStats;
    ///
    /// let stats: ServerStats = serde_json::from_str(r#"{"in_flight":3,"later":1}"#)?;
    /// assert_eq!((stats.in_flight, stats.queued), (3, 0));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
    pub struct ServerStats {
        /// How long the server has been awake, in milliseconds.
        #[serde(default)]
        pub awake_ms: u64,
        /// Executions that started.
        #[serde(default)]
        pub started: u64,
        /// Executions that finished.
        #[serde(default)]
        pub finished: u64,
        /// Executions that ran into their timeout; they count as finished, too.
        #[serde(default)]
        pub timed_out: u64,
        /// Attempts that joined the execution of an earlier attempt.
        #[serde(default)]
        pub joined: u64,
        /// Attempts that were answered with a recorded reply.
        #[serde(default)]
        pub replayed: u64,
        /// Attempts that were refused.
        #[serde(default)]
        pub refused: u64,
        /// The same by error code; codes without a refusal are left out.
        #[serde(default)]
        pub refusals: Vec<Refusals>,
        /// TLS handshakes that came to nothing.
        #[serde(default)]
        pub failed_handshakes: u64,
        /// Calls that run now.
        #[serde(default)]
        pub in_flight: u64,
        /// Calls that are queued now.
        #[serde(default)]
        pub queued: u64,
        /// Calls that have left the queue to run.
        #[serde(default)]
        pub dequeued: u64,
        /// How long those have waited in it together.
        #[serde(default)]
        pub queue_delay_us: u64,
        /// Calls that were refused because they were queued for too long.
        #[serde(default)]
        pub shed: u64,
        /// Calls that have left the queue because no caller waited for them any more.
        #[serde(default)]
        pub given_up: u64,
        /// Calls that have left a full queue for another one.
        #[serde(default)]
        pub displaced: u64,
        /// Calls that were refused because the queue was full.
        #[serde(default)]
        pub queue_full: u64,
        /// Whether calls are queued for too long now.
        #[serde(default)]
        pub overloaded: bool,
        /// How many calls may run at once now.
        #[serde(default)]
        pub running_limit: u64,
        /// Connections that are open now.
        #[serde(default)]
        pub connections: u64,
        /// Sessions that are kept now.
        #[serde(default)]
        pub sessions: u64,
        /// Records of calls of sessions now.
        #[serde(default)]
        pub session_records: u64,
        /// What those keep in memory, in bytes.
        #[serde(default)]
        pub session_bytes: u64,
        /// Records of calls with plain ids now.
        #[serde(default)]
        pub records: u64,
        /// What those keep in memory, in bytes.
        #[serde(default)]
        pub record_bytes: u64,
        /// Commits of the store; 0 without one.
        #[serde(default)]
        pub commits: u64,
        /// The steps that those have made durable together: calls, and what else is recorded.
        #[serde(default)]
        pub committed: u64,
        /// The most steps of one commit.
        #[serde(default)]
        pub largest_commit: u64,
        /// The methods whose executions have taken longest on average, the slowest first: of those
        /// that had to wait for something. One that finishes at once is not measured.
        #[serde(default)]
        pub slowest: Vec<MethodTimes>,
    }

    /// How many attempts were refused with a code.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    pub struct Refusals {
        /// The error code; 0 stands for all that have no row of their own.
        pub code: i32,
        /// How many attempts.
        pub count: u64,
    }

    /// How long the executions of a method that had to wait have held their run permits.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct MethodTimes {
        /// The method's name.
        pub method: String,
        /// How many executions.
        pub count: u64,
        /// How long one took on average, in microseconds.
        pub mean_us: u64,
        /// How long the slowest took, in microseconds.
        pub max_us: u64,
    }
}
