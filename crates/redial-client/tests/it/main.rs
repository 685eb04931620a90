//! What `crates/GUARANTEES.md` promises of a client, one module per promise.

mod acknowledgements;
mod adaptive_timeouts;
mod beside_the_params;
mod call_layers;
mod cancelling;
mod closing;
mod connections;
mod discovered;
#[cfg(feature = "tls")]
mod encrypted;
mod fail_fast;
mod foreign_objects;
mod forgetting;
mod frozen_clients;
mod full_servers;
mod handlers_errors;
mod hedging;
mod hellos;
mod hints;
mod kept_errors;
mod late_replies;
mod leaving;
mod limits;
mod no_replies;
mod other_tables;
mod outages;
mod oversized;
mod peer;
mod peers;
mod plain_servers;
mod poor_connections;
mod refusals;
mod resolving;
mod retry_budgets;
mod retry_counts;
mod runtimes;
mod session_lost;
mod sessions;
mod several_servers;
mod sharing;
mod silent_peers;
#[cfg(feature = "tower")]
mod tower_services;
mod window;
