//! What the benchmark's programs share. They are started by `cargo xtask bench`, and by hand:
//!
//! | program | is |
//! |---|---|
//! | `bench-echo` | a bare echo of frames: the limit that everything is compared to |
//! | `bench-server` | Redial's server with `inc`, the same as a query, and `get` |
//! | `bench-load` | a generator of load that costs next to nothing per call |
//! | `bench-client` | Redial's client, as a program would use it |
//! | `bench-store` | what a durable call is compared to: a log, SQLite in process, Redis |
//! | `bench-growth` | the slowest call while the table of plain ids grows, next to the slowest after |
//! | `bench-count` | so many calls through one end in memory, for an instruction counter |

pub mod clock;
pub mod counters;
pub mod cpu;
pub mod durable;
pub mod flags;
pub mod in_memory;
pub mod load;
pub mod methods;
pub mod slices;
pub mod summary;
