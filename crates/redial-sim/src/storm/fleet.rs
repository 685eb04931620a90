//! The two fleets: what a plain one does, and what Redial does by default. The only file in which they differ.

use std::time::Duration;

use redial_client::{Backoff, Config as ClientConfig, Jitter, RetryBudget};
use redial_server::{Config as ServerConfig, Overload};
use serde::Serialize;

/// How long a naive client waits for a reply before it gives that request up, and sends the call at once as a new one,
/// for as long as its caller has a use for the value: twice, where that is two seconds.
pub(crate) const NAIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// More than any storm needs.
const ENOUGH: usize = 10_000_000;

/// Room for the connections of the largest fleet. That is no tuning but the size of the fleet.
const CONNECTIONS: usize = 20_000;

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fleet {
    /// Clients with a fixed timeout, each retry at once and as a new request, and a server that takes everything,
    /// first come, first served, with as many at once as there are workers.
    Naive,
    /// Clients and servers as they are by default. They know nothing of the workers.
    Redial,
}

impl Fleet {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Naive, Self::Redial];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Redial => "redial",
        }
    }

    pub(crate) fn client(self, seed: u64) -> ClientConfig {
        let config = ClientConfig {
            seed: Some(seed),
            ..ClientConfig::default()
        };
        match self {
            Self::Naive => ClientConfig {
                assume_plain: true,
                extensions: false,
                sessions: false,
                retry_budget: RetryBudget::unlimited(),
                reconnect: constant(),
                max_in_flight: 65_536,
                ..config
            },
            Self::Redial => config,
        }
    }

    /// For a server with so many workers, which only the naive one knows.
    pub(crate) fn server(self, workers: usize) -> ServerConfig {
        let config = ServerConfig {
            max_connections: CONNECTIONS,
            max_sessions: CONNECTIONS,
            ..ServerConfig::default()
        };
        match self {
            Self::Naive => ServerConfig {
                max_running: workers,
                running_reserve_percent: 0,
                max_queued: ENOUGH,
                max_records: ENOUGH,
                max_record_bytes: usize::MAX,
                max_in_flight: 65_536,
                overload: Overload::off(),
                ..config
            },
            Self::Redial => config,
        }
    }
}

/// The same wait each time, for all.
fn constant() -> Backoff {
    let wait = Duration::from_millis(100);
    Backoff::new(wait, 1.0, wait, Jitter::None).expect("the numbers are in range")
}
