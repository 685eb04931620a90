//! Hedging: another copy of a call that takes longer than most, on another connection.
//!
//! The idea, and the 95th percentile as the moment for it, are those of Dean and Barroso, "The
//! Tail at Scale" (CACM 56(2), 2013): a few per cent more requests take off most of the tail.

use std::time::Duration;

/// When a copy of a call goes out although its attempt has not timed out.
///
/// A copy is an attempt: it counts against [`max_attempts`](crate::CallLimits::max_attempts), and
/// it takes a token of the [`RetryBudget`](crate::RetryBudget) or isn't made. It goes out on
/// another connection of the pool, where there is one, and whichever is answered first ends the
/// call.
///
/// **What it is good for.** A query is executed twice, so it helps against everything that made
/// the first execution slow. A mutation is executed once: its copy helps if the request, the reply
/// or their connection are slow or lost, and does nothing if the handler is slow, because the
/// copy joins the execution that runs.
///
/// ```
/// use std::time::Duration;
/// use redial_client::{CallLimits, Hedge};
///
/// let limits = CallLimits {
///     hedge: Hedge::P95 { at_least: Duration::from_millis(5) },
///     ..CallLimits::default()
/// };
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hedge {
    /// Never. The default.
    #[default]
    Off,
    /// This long after the attempt was handed to its connection.
    After(Duration),
    /// After as long as 95 % of the calls took lately that are hedged this way, queries and
    /// mutations of the client together, so that about one in twenty is. Not before 100 of them
    /// have been answered.
    P95 {
        /// But no sooner than this.
        at_least: Duration,
    },
}
