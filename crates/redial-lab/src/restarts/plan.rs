//! What the clients and the servers of a run are told.

use std::time::Duration;

use crate::harness::mode::Mode;

/// How much later than its deadline a call may end: a timer ends it, on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// What to do.
pub(crate) struct Plan {
    /// What the files of this run begin with.
    pub(crate) name: String,
    /// How many calls each client makes.
    pub(crate) calls: u64,
    pub(crate) clients: usize,
    pub(crate) ids: Mode,
    pub(crate) kills: usize,
    /// The server's flags, beside those of its place and its ledger.
    pub(crate) server: Vec<String>,
    /// The flags of each client, beside those of its calls and its files.
    pub(crate) client: Vec<String>,
    /// How long a call may take.
    pub(crate) call_limit: Duration,
    /// How long all of it may take.
    pub(crate) limit: Duration,
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

impl Plan {
    /// So many calls of so many clients, in this trouble.
    pub(crate) fn new(
        name: String,
        ids: Mode,
        trouble: Trouble,
        (calls, clients): (u64, u64),
        kills: usize,
        seed: u64,
    ) -> Self {
        let Trouble {
            server,
            client,
            deadline_ms,
        } = trouble;
        let server = format!("{server} --seed {seed}");
        let flag = ids.flag().unwrap_or_default();
        let client = format!("{client} --deadline-ms {deadline_ms} --seed {seed} {flag}");
        let words = |flags: String| flags.split_whitespace().map(str::to_owned).collect();
        Self {
            name,
            calls: calls.div_ceil(clients),
            clients: clients as usize,
            ids,
            kills,
            server: words(server),
            client: words(client),
            call_limit: Duration::from_millis(deadline_ms) + SLACK,
            limit: Duration::from_millis(120_000 + calls / 2 + kills as u64 * 2000),
        }
    }

    /// The calls of all clients together.
    pub(crate) fn total(&self) -> u64 {
        self.calls * self.clients as u64
    }
}
