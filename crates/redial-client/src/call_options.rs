//! What few callers choose about a call, or ask of it.

use std::sync::Arc;

use redial_protocol::{Metadata, Priority};
use uuid::Uuid;

use crate::{attempt_spans::AttemptSpans, config::CallLimits};

/// Kept in a box of its own, since a call is moved about.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) traceparent: Option<String>,
    pub(crate) meta: Option<Metadata>,
    /// Where it is not the client's.
    pub(crate) priority: Option<Priority>,
    /// Where these are not the client's.
    pub(crate) limits: Option<CallLimits>,
    /// Where the call is known that this one resumes, or asks about.
    pub(crate) origin: Option<CallOrigin>,
    /// The spans of its attempts.
    pub(crate) spans: AttemptSpans,
    /// Where the call has ended, unless it has a result and no report was asked for.
    pub(crate) place: Option<CallPlace>,
}

/// Where a call ended.
#[derive(Clone, Debug)]
pub(crate) struct CallPlace {
    /// The endpoint that answered, or was sent the call last.
    pub(crate) endpoint: Option<Arc<str>>,
    /// The name of the table that knows the call.
    pub(crate) table: Option<Box<str>>,
}

/// A call that was made before, as its token names it.
#[derive(Clone, Debug)]
pub(crate) struct CallOrigin {
    pub(crate) id: Uuid,
    /// The table that knows it.
    pub(crate) table: Option<Box<str>>,
}
