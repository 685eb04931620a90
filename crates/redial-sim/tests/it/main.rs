//! The simulation and its oracle, tested: the worlds, their seeds, and the bugs that must be found.

mod bugs;
mod determinism;
mod seeds;
