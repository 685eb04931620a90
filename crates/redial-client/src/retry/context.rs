//! What the retries of all calls of a client share.

use rand_chacha::ChaCha8Rng;

use crate::{
    config::CallLimits,
    mux::pending_call::RemovedCall,
    policy::{budget::TokenBucket, latency::Latency},
};

/// The budget, the jitter and the measured latency of a client.
#[derive(Debug)]
pub(crate) struct RetryContext {
    pub(crate) bucket: TokenBucket,
    pub(crate) jitter: ChaCha8Rng,
    /// Of the calls that are hedged by it.
    pub(crate) latency: Latency,
    pub(crate) hedges: u64,
    /// The limits of calls that have none of their own.
    pub(crate) limits: CallLimits,
}

impl RetryContext {
    /// Counts the hedges of a call that has ended.
    pub(crate) fn count_hedges(&mut self, removed: &RemovedCall) {
        let hedges = removed.attempts.iter().filter(|attempt| attempt.is_hedge);
        self.hedges += hedges.count() as u64;
    }
}
