//! The counter service of the original notebook: `inc` and `get`, as methods that a server
//! implements and a client calls, and what its programs share.

pub mod counters;
pub mod descriptors;
pub mod doors;
pub mod events;
pub mod fault_flags;
pub mod files;
pub mod flags;
pub mod http;
pub mod limit_flags;
pub mod load;
pub mod methods;
pub mod settings;
pub mod stored;
pub mod stored_postgres;
pub mod supervisor;

pub use redial_cli::signals;
