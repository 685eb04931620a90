//! A simulated world for Redial: the real client and server over a network in memory, in virtual
//! time, with everything decided by one seed; and an oracle that judges what happened and shares no
//! code with either.
//!
//! [`run`] plays the world of a seed, [`judge`] says what was wrong with it, and [`trace`] shows
//! what happened to one call. `cargo xtask sim` does this for many seeds, or shows one.
//!
//! ```
//! use redial_sim::{Subject, judge, run};
//!
//! let run = run(1, Subject::Real);
//! assert!(judge(&run).is_empty());
//! ```

mod acknowledged;
mod bug;
mod caller;
mod clock;
mod cluster;
mod database;
mod discovery;
mod early_ack;
mod frost;
mod host;
mod journal;
mod meddler;
mod middlebox;
mod misrouter;
mod model;
mod net;
mod oracle;
mod panics;
mod rng;
mod scenario;
mod service;
mod shared_store;
mod store;
mod storm;
mod tally;
mod trace;
mod world;

pub use bug::Bug;
pub use host::Subject;
pub use journal::{
    Ack, Change, End, Entry, Event, Executed, Frame, Frozen, Invocation, Method, Way, log,
};
pub use oracle::{Violation, judge};
pub use storm::{
    Bound, Conditions, Count, Figure, Fleet, Mark, Series, Storm, StormRecord, Unit, call, serve,
    storm,
};
pub use tally::Tally;
pub use trace::{calls, trace};
pub use world::{Run, run};
