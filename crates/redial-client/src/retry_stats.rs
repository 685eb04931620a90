//! What a client's retries come to: how many, why, and what kept others from being made.

/// What the retries of a client come to, or those that went to one of its endpoints
/// ([`Stats::retries`](crate::Stats::retries), [`EndpointStats::retries`](crate::EndpointStats::retries)).
///
/// ```no_run
/// # async fn f(client: redial_client::Client) {
/// let stats = client.stats();
/// let share = stats.retries.made() as f64 / stats.attempts.max(1) as f64;
/// println!("{:.1} % of what was sent were retries", 100.0 * share);
/// for endpoint in client.endpoints() {
///     println!("{}: {:?}", endpoint.address, endpoint.retries);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryStats {
    /// Attempts that were made because the one before had no reply within its timeout.
    pub after_timeout: u64,
    /// Attempts that were made because a server had refused the one before, unexecuted.
    pub after_refusal: u64,
    /// Attempts that were made because the connection of the one before was lost.
    pub after_loss: u64,
    /// Retries that had to wait for a token of the [`RetryBudget`](crate::RetryBudget).
    pub postponed: u64,
    /// Retries that were not made because the [`RetryBudget`](crate::RetryBudget) had no token for them before
    /// their call's deadline.
    pub suppressed: u64,
    /// Waits that a server has asked for (`retry_after_ms`).
    pub hint_waits: u64,
    /// Calls that ended at once because every endpoint was down
    /// ([`fail_fast`](crate::CallLimits::fail_fast)), counted for the endpoint that their error names.
    pub failed_fast: u64,
}

impl RetryStats {
    /// How many retries were made: attempts that were no call's first, and no hedges.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.after_timeout + self.after_refusal + self.after_loss
    }
}
