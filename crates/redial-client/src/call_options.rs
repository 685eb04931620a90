//! What few callers choose about a call.

use redial_protocol::Metadata;

use crate::config::CallLimits;

/// Kept in a box of its own, since a call is moved about.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) traceparent: Option<String>,
    pub(crate) meta: Option<Metadata>,
    /// Where these are not the client's.
    pub(crate) limits: Option<CallLimits>,
}
