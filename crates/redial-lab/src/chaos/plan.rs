//! The programs' flags, and how often something is done to them.

use std::{ops::Range, time::Duration};

use rand::{Rng, RngExt};

use super::doors::Transport;
use crate::{
    crash::check::Promise,
    harness::{command_line::words, mode::Mode},
};

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
/// How many servers forget records of plain ids so soon that a freeze can be longer, and for how
/// long they keep them.
pub(crate) const SHORT_TTLS: f64 = 0.5;
pub(crate) const TTL_MS: u64 = 4000;
/// How long clients with plain ids send a call again: with the wait of a late balancer well within
/// the shorter of both times.
const RESEND_WINDOW_MS: u64 = 1000;
/// Between the end of one freeze of the server and the next one, in milliseconds; and of any client.
pub(crate) const SERVER_FREEZES_MS: Range<u64> = 300..2500;
pub(crate) const CLIENT_FREEZES_MS: Range<u64> = 500..3000;
/// A server that is to be killed while it is frozen is killed so in this share of cases; else it
/// thaws first.
pub(crate) const KILLED_FROZEN: f64 = 0.3;
/// How long a server stays away: sometimes its clients hardly notice.
pub(crate) const AWAY_MS: Range<u64> = 0..250;

/// How a client's connections reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Proxy,
    Balancer,
    Direct,
}

/// How long a process is frozen: mostly for some attempts, and at times for longer than a lease, a
/// short TTL, a call's deadline or the usual TTL.
pub(crate) fn frozen(rng: &mut impl Rng) -> Duration {
    let ms = match rng.random_range(0..100) {
        0..60 => rng.random_range(20..800),
        60..97 => rng.random_range(TTL_MS + 200..TTL_MS + 1500),
        _ => rng.random_range(10_500..12_000),
    };
    Duration::from_millis(ms)
}

/// What to do.
pub(crate) struct ChaosPlan {
    pub(crate) seconds: u64,
    pub(crate) clients: usize,
    pub(crate) seed: u64,
    pub(crate) ids: Mode,
    pub(crate) transport: Transport,
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
            transport: Transport::Tcp,
            server: words(&server),
            client: words(&client),
        }
    }

    /// How client number `client` reaches the server.
    pub(crate) fn route(client: usize) -> Route {
        match client % 8 {
            0 | 2 | 4 => Route::Proxy,
            1 | 6 | 7 => Route::Balancer,
            _ => Route::Direct,
        }
    }

    /// How client number `client` names its calls. Where sessions are asked for, some have plain ids
    /// all the same. None of them is behind the proxy, which holds requests back for longer than a
    /// server knows such an id.
    pub(crate) fn ids_of(&self, client: usize) -> Mode {
        if self.ids == Mode::Session && matches!(client % 8, 5 | 7) {
            return Mode::Plain;
        }
        self.ids
    }

    /// What is promised to client number `client`. If all are to have other ids than those of
    /// sessions, they are judged as if they had them, and fail.
    pub(crate) fn promise(&self, client: usize) -> Promise {
        match (self.ids, self.ids_of(client)) {
            (Mode::Session, Mode::Plain) => Promise::Plain,
            (ids, _) => Promise::of(ids),
        }
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
        let mut flags = words(&flags);
        if self.promise(client) == Promise::Plain {
            let window = format!("--no-sessions --resend-window-ms {RESEND_WINDOW_MS}");
            flags.extend(words(&window));
        }
        flags
    }
}
