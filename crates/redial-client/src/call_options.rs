//! What few callers choose about a call.

use redial_protocol::Metadata;
use uuid::Uuid;

use crate::config::CallLimits;

/// Kept in a box of its own, since a call is moved about.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) traceparent: Option<String>,
    pub(crate) meta: Option<Metadata>,
    /// Where these are not the client's.
    pub(crate) limits: Option<CallLimits>,
    /// Where the call is known that this one resumes, or asks about.
    pub(crate) origin: Option<CallOrigin>,
}

/// A call that was made before, as its token names it.
#[derive(Clone, Debug)]
pub(crate) struct CallOrigin {
    pub(crate) id: Uuid,
    /// The table that knows it.
    pub(crate) table: Option<Box<str>>,
}
