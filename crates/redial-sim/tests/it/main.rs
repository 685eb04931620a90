//! Tests of the simulation: the real client and server keep GUARANTEES.md, the oracle finds every
//! bug, and a seed always plays the same world.

mod bugs;
mod determinism;
mod seeds;
mod storms;
