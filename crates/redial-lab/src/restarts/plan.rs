//! The flags of the clients and the servers of a run.

use std::time::Duration;

use crate::{
    crash::stored::IncKind,
    harness::{command_line::words, mode::Mode},
};

/// How much later than its deadline a call may end: a timer ends it, on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// What to do.
pub(crate) struct RestartPlan {
    /// What the files of this run begin with.
    pub(crate) name: String,
    /// How many calls each client makes.
    pub(crate) calls: u64,
    pub(crate) clients: usize,
    pub(crate) ids: Mode,
    pub(crate) kills: usize,
    pub(crate) seed: u64,
    /// What `inc` is, if the server keeps its calls in a store.
    pub(crate) store: Option<IncKind>,
    /// Whether the clients reach the server through a balancer.
    pub(crate) is_balanced: bool,
    /// The server's flags, beside those of its address and its ledger.
    pub(crate) server: Vec<String>,
    /// The flags of each client, beside those of its calls and its files.
    pub(crate) client: Vec<String>,
    /// The deadline of each call.
    pub(crate) deadline: Duration,
    /// How long a call may take.
    pub(crate) call_limit: Duration,
    /// How long all of it may take.
    pub(crate) limit: Duration,
}

/// How much is asked of the programs.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Of all clients together.
    pub(crate) calls: u64,
    pub(crate) clients: u64,
    pub(crate) kills: usize,
    pub(crate) seed: u64,
}

/// What is made to go wrong beside the kills.
#[derive(Clone, Copy)]
pub(crate) struct Trouble {
    server: &'static str,
    client: &'static str,
    deadline_ms: u64,
}

/// Requests, replies and connections are lost, and some requests come twice. Without lost replies
/// hardly any call would be retried after a restart that had been executed before it. A delay
/// spreads the calls over all they can be in the middle of.
pub(crate) const LOSSES: Trouble = Trouble {
    server: "--delay-ms 2 --drop-request 0.01 --drop-reply 0.02 --cut 0.002 --duplicate 0.01",
    client: "--concurrency 16 --connections 2 --attempt-timeout-ms 150 --max-attempts 100 \
             --backoff-ms 10 --backoff-cap-ms 200",
    deadline_ms: 10_000,
};

/// The same, and a server that refuses some of the calls, late at times, to clients that soon
/// give up: so that there are calls that end as not executed, and refusals that cross retries.
pub(crate) const REFUSALS: Trouble = Trouble {
    server: "--delay-ms 2 --max-running 8 --queue 16 --drop-request 0.01 --drop-reply 0.02 \
             --cut 0.002 --duplicate 0.05 --reply-delay-ms 50 --reply-delay-p 0.2",
    client: "--concurrency 16 --connections 2 --attempt-timeout-ms 30 --max-attempts 4 \
             --backoff-ms 10 --backoff-cap-ms 50",
    deadline_ms: 1000,
};

/// The same losses for a server with a store, and clients that wait for as many restarts as it takes: no
/// call is to end unsettled.
pub(crate) const STORED: Trouble = Trouble {
    server: LOSSES.server,
    client: "--concurrency 16 --connections 2 --attempt-timeout-ms 150 --max-attempts 10000 \
             --backoff-ms 10 --backoff-cap-ms 200",
    deadline_ms: 30_000,
};

/// Nothing but the kills, and both programs with all their defaults.
pub(crate) const DEFAULTS: Trouble = Trouble {
    server: "",
    client: "",
    deadline_ms: 10_000,
};

impl RestartPlan {
    /// This load, in this trouble. The files' names begin with `name`.
    pub(crate) fn new(name: &str, ids: Mode, trouble: Trouble, load: Load) -> Self {
        let Trouble {
            server,
            client,
            deadline_ms,
        } = trouble;
        let seed = load.seed;
        let flag = ids.flag().unwrap_or_default();
        let (server_flags, client_flags) = if client.is_empty() {
            (String::new(), flag.to_owned())
        } else {
            (
                format!("{server} --seed {seed}"),
                format!("{client} --deadline-ms {deadline_ms} --seed {seed} {flag}"),
            )
        };
        Self {
            name: name.to_owned(),
            calls: load.calls.div_ceil(load.clients),
            clients: load.clients as usize,
            ids,
            kills: load.kills,
            seed,
            store: None,
            is_balanced: false,
            server: words(&server_flags),
            client: words(&client_flags),
            deadline: Duration::from_millis(deadline_ms),
            call_limit: Duration::from_millis(deadline_ms) + SLACK,
            limit: Duration::from_millis(120_000 + load.calls / 2 + load.kills as u64 * 2000),
        }
    }

    /// The calls of all clients together.
    pub(crate) fn total(&self) -> u64 {
        self.calls * self.clients as u64
    }
}
