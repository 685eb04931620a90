//! How the endpoints of a client are doing.

use crate::retry_stats::RetryStats;

/// How one of a client's endpoints is doing ([`Client::endpoints`](crate::Client::endpoints)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its address, as errors and reports name it.
    pub address: String,
    /// The table of calls that its server has, once it has said so. Endpoints with one table share a
    /// session, and calls may be sent again to any of them.
    pub table: Option<String>,
    /// Whether it can be called.
    pub health: EndpointHealth,
    /// Attempts that may still be answered there.
    pub in_flight: usize,
    /// Attempts that were sent there.
    pub attempts: u64,
    /// The retries among them, and what kept others from being made.
    pub retries: RetryStats,
    /// Connections that were made.
    pub connects: u64,
    /// Connections that could not be made, were lost, or fell silent. Counted for clients of several
    /// addresses.
    pub failures: u64,
}

/// Whether an endpoint can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointHealth {
    /// It has a connection that takes calls.
    Ready,
    /// It is being connected to, or will be when it is needed.
    Connecting,
    /// Nothing was heard on its connections for an attempt's timeout: it gets no calls while another
    /// endpoint can take them, and was sent a ping.
    Silent,
    /// Its server shuts down, or closes a connection because of its age.
    Draining,
    /// It has failed [`max_endpoint_failures`](crate::Config::max_endpoint_failures) times in a row:
    /// it gets no calls while another endpoint can take them, and is probed from time to time.
    Ejected,
}
