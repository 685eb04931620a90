//! Whether the server takes new calls, and if not, why.

use std::fmt;

use redial_protocol::rpc;

use crate::shared::Shared;

/// Whether a server takes new calls: what `rpc.health` answers, and what a balancer asks before it sends
/// any.
///
/// ```
/// use redial_server::{Readiness, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), redial_server::BuildError> {
/// let server = Server::builder().build()?;
/// assert_eq!(server.readiness(), Readiness::Ready);
/// server.shutdown().await;
/// assert_eq!(server.readiness().to_string(), "the server is shutting down");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// It does.
    Ready,
    /// It shuts down: running calls finish, new ones are -32006.
    Draining,
    /// Its store can record nothing, for this reason: new mutations are -32006, queries go on.
    StoreFailing(String),
}

impl Readiness {
    /// Whether it takes new calls.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// Why not, in the word that stands on the wire; `None` if it is ready.
    #[must_use]
    pub fn why(&self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::Draining => Some(rpc::DRAINING),
            Self::StoreFailing(_) => Some(rpc::STORE_FAILING),
        }
    }
}

/// For people. The reason of a store may name its file or its host.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Draining => f.write_str("the server is shutting down"),
            Self::StoreFailing(why) => write!(f, "the store records nothing: {why}"),
        }
    }
}

impl Shared {
    pub(crate) fn readiness(&self) -> Readiness {
        if self.is_draining() {
            return Readiness::Draining;
        }
        match self.store.as_ref().and_then(|store| store.problem()) {
            Some(problem) => Readiness::StoreFailing(problem.message),
            None => Readiness::Ready,
        }
    }
}
