//! The store through its public interface.

mod conformance;
mod rig;
