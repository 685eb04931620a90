//! A simulated world for Redial: its real client and server over a network in memory, in virtual
//! time, and everything from one seed; and an oracle that judges what has happened, and shares no
//! code with either.
//!
//! [`run`] plays the world of a seed, [`judge`] says what was wrong with it. `cargo xtask sim`
//! does this for many seeds, and tells the story of one.
//!
//! ```
//! use redial_sim::{Subject, judge, run};
//!
//! let run = run(1, Subject::Real);
//! assert!(judge(&run).is_empty());
//! ```

mod bug;
mod caller;
mod clock;
mod dice;
mod early_ack;
mod host;
mod journal;
mod middlebox;
mod model;
mod net;
mod oracle;
mod panics;
mod scenario;
mod story;
mod tally;
mod workshop;
mod world;

pub use bug::Bug;
pub use host::Subject;
pub use journal::{Ack, Change, End, Entry, Event, Frame, Invocation, Method, Way, log};
pub use oracle::{Violation, judge};
pub use story::{calls, story};
pub use tally::Tally;
pub use world::{Run, run};
