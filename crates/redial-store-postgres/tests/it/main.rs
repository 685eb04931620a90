//! The store through its public interface, on a cluster of the tests' own.

mod batches;
mod between;
mod calls;
mod chained;
mod closing;
mod conformance;
mod failover;
mod frozen;
mod hosts;
mod opening;
mod rig;
mod statements;
mod unanswered;
mod unbegun;
mod unclaimed;
