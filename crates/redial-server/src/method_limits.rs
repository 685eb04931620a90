//! What bounds the calls of one method, beside what bounds all of them.

use std::time::Duration;

/// Limits of one method: see [`ServerBuilder::method_limits`](crate::ServerBuilder::method_limits).
///
/// ```
/// use std::time::Duration;
/// use redial_server::{MethodLimits, Server};
///
/// let builder = Server::builder()
///     .query("report", async |(): ()| Ok("all of it"))
///     .method_limits("report", MethodLimits {
///         execution_timeout: Some(Duration::from_secs(30)),
///         max_running: Some(4),
///     });
/// # builder.build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodLimits {
    /// In place of [`Config::execution_timeout`](crate::Config::execution_timeout) for this method.
    /// Default `None`, which leaves that of the server; `Duration::MAX` is no timeout. More than 0. Not for
    /// methods that run inside a transaction of a store, which ends them itself.
    pub execution_timeout: Option<Duration>,
    /// How many calls of the method run at once, from all peers together; 1 or more. Default `None`: as many
    /// as [`Config::max_running`](crate::Config::max_running) and the shares of it allow. Beyond, they
    /// queue, and take no run permit from other methods meanwhile. The smaller, the sooner callers of
    /// this method wait.
    pub max_running: Option<usize>,
}
