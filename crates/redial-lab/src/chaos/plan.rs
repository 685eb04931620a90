//! The programs' flags, and how often something is done to them.

use std::{ops::Range, time::Duration};

use crate::harness::{command_line::words, mode::Mode};

/// What bounds each call.
const DEADLINE_MS: u64 = 10_000;
/// How long it may take: more, since a timer ends it, on a machine that is busy with chaos.
pub(crate) const LIMIT: Duration = Duration::from_millis(DEADLINE_MS + 3000);
/// Few, so that floods reach the limit.
pub(crate) const MAX_CONNECTIONS: usize = 250;
/// Clients that save their calls; each is started hundreds of times.
pub(crate) const TOKEN_CLIENTS: u64 = 3;
/// Between two kills of the server, in milliseconds.
pub(crate) const SERVER_KILLS_MS: Range<u64> = 800..3500;
/// How many of them are not `kill -9` but SIGTERM, as when a new version is rolled out.
pub(crate) const DRAINS: f64 = 0.25;
/// How many servers forget a session so soon after its last connection that clients lose it while
/// they connect anew.
pub(crate) const SHORT_LEASES: f64 = 0.4;
pub(crate) const LEASE_MS: u64 = 20;
/// Between two kills of clients, in milliseconds.
pub(crate) const CLIENT_KILLS_MS: Range<u64> = 200..1200;
/// How long a server stays away: sometimes its clients hardly notice.
pub(crate) const AWAY_MS: Range<u64> = 0..250;

/// What to do.
pub(crate) struct ChaosPlan {
    pub(crate) seconds: u64,
    pub(crate) clients: usize,
    pub(crate) seed: u64,
    pub(crate) ids: Mode,
    /// The server's flags, beside those of its address and its ledger.
    pub(crate) server: Vec<String>,
    /// The flags of each client, beside those of the address, its keys and its files.
    pub(crate) client: Vec<String>,
}

impl ChaosPlan {
    pub(crate) fn new(seconds: u64, clients: usize, seed: u64, ids: Mode) -> Self {
        // The delay keeps calls in flight when something happens to their connection, and the load
        // at what a small machine does beside all the rest. There is room for a few calls less than
        // there are at once, so that refusals cross retries.
        let server = format!(
            "--delay-ms 10 --max-running 12 --queue 8 --drop-request 0.005 --drop-reply 0.01 --duplicate 0.01 --cut 0.001 \
             --max-connections {MAX_CONNECTIONS} --seed {seed}"
        );
        let client = format!(
            "--calls 1000000000 --concurrency 4 --backoff-ms 10 --backoff-cap-ms 200 --seed {seed} \
             {}",
            ids.flag().unwrap_or_default()
        );
        Self {
            seconds,
            clients,
            seed,
            ids,
            server: words(&server),
            client: words(&client),
        }
    }

    /// Whether a client's connections lead through the proxy.
    pub(crate) fn is_proxied(client: usize) -> bool {
        client.is_multiple_of(2)
    }

    /// The flags that only some clients have: most are patient; some send copies on a second
    /// connection; some give up so soon that they hear *not executed*, which must then be true.
    pub(crate) fn own_flags(&self, client: usize) -> Vec<String> {
        let patient =
            format!("--attempt-timeout-ms 150 --max-attempts 100 --deadline-ms {DEADLINE_MS}");
        let flags = match client % 4 {
            2 if self.ids != Mode::Naive => format!("{patient} --connections 2 --hedge-ms 40"),
            3 => "--attempt-timeout-ms 30 --max-attempts 4 --deadline-ms 1000".to_owned(),
            _ => patient,
        };
        words(&flags)
    }
}
