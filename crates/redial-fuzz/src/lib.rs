//! What any bytes must not do to Redial: one function for each thing that reads bytes of a peer.
//! Each takes bytes and panics if something is wrong.
//!
//! `cargo xtask fuzz` lets libFuzzer look for such bytes (`fuzz/` holds the few lines for that, in
//! a workspace of their own, so that nothing else needs cargo-fuzz). The cases in `corpus/` go
//! through the same functions in every `cargo test`.

pub mod client;
pub mod connection;
pub mod frames;
pub mod message;
pub mod reply;
mod script;
