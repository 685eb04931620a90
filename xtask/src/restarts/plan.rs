//! What the clients and the servers of a run are told.

use std::time::Duration;

use crate::mode::Mode;

/// What bounds each call.
const DEADLINE_MS: u64 = 10_000;
/// How long it may take: a second more, since a timer ends it, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_millis(DEADLINE_MS + 1000);
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
    /// How long all of it may take.
    pub(crate) limit: Duration,
}

impl Plan {
    /// So many calls of so many clients, under faults that give restarts something to spoil.
    pub(crate) fn under_load(
        name: String,
        ids: Mode,
        (calls, clients): (u64, u64),
        kills: usize,
        seed: u64,
    ) -> Self {
        // Without lost replies hardly any call would be retried after a restart that had been
        // executed before it. A delay spreads the calls over all they can be in the middle of.
        let server = format!("--delay-ms 2 --drop-reply 0.02 --duplicate 0.01 --seed {seed}");
        let client = format!(
            "--concurrency 16 --attempt-timeout-ms 150 --max-attempts 100 --backoff-ms 10 \
             --backoff-cap-ms 200 --deadline-ms {DEADLINE_MS} --seed {seed} {}",
            ids.flag().unwrap_or_default()
        );
        let words = |flags: String| flags.split_whitespace().map(str::to_owned).collect();
        Self {
            name,
            calls: calls.div_ceil(clients),
            clients: clients as usize,
            ids,
            kills,
            server: words(server),
            client: words(client),
            limit: Duration::from_millis(120_000 + calls / 2 + kills as u64 * 2000),
        }
    }

    /// The calls of all clients together.
    pub(crate) fn total(&self) -> u64 {
        self.calls * self.clients as u64
    }
}
