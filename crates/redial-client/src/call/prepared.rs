//! A call that is not sent yet. It is small, since it is moved from hand to hand until it is awaited.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use uuid::Uuid;

use super::state::CallExtra;
use crate::{
    call_options::CallOptions, cause::Cause, config::CallLimits, config::Config,
    inline_bytes::InlineBytes, meter::Metered, mux::pending_call::CallFlags, token::Retention,
};

/// What a call is, before its first poll.
pub(super) struct PreparedCall {
    pub(super) method: Cow<'static, str>,
    /// Empty, and no JSON, where they are left out.
    pub(super) params: InlineBytes,
    /// What few calls have.
    pub(super) options: Option<Box<CallOptions>>,
    /// Keeps the call's number from being acknowledged while a token of it lives.
    pub(super) retention: Option<Arc<Retention>>,
    pub(super) extra: Option<Box<CallExtra>>,
    /// Chosen by the caller, or its token's.
    pub(super) id: Option<Uuid>,
    pub(super) flags: CallFlags,
    pub(super) metered: Metered,
}

impl PreparedCall {
    pub(super) fn new(method: Cow<'static, str>, params: InlineBytes) -> Self {
        Self {
            method,
            params,
            options: None,
            retention: None,
            extra: None,
            id: None,
            flags: CallFlags::default(),
            metered: Metered::No,
        }
    }

    /// The same call once more, with nothing around it.
    pub(super) fn bare(&self) -> Self {
        Self {
            method: self.method.clone(),
            params: self.params.clone(),
            options: self.options.clone(),
            retention: self.retention.clone(),
            extra: None,
            id: self.id,
            flags: self.flags,
            metered: Metered::No,
        }
    }

    /// The first thing that is wrong with the call is what ends it.
    #[cold]
    pub(super) fn set_problem(&mut self, problem: Cause) {
        if !matches!(self.extra.as_deref(), Some(CallExtra::Problem(_))) {
            self.extra = Some(Box::new(CallExtra::Problem(problem)));
        }
    }

    /// How long after a request that may have arrived the call may be sent again: a query for ever, a
    /// mutation while its server is sure to know it, and a notification, which no server knows, not
    /// at all.
    pub(super) fn resend_window(&self, config: &Config) -> Option<Duration> {
        if self.flags.is_notification {
            return Some(Duration::ZERO);
        }
        (!self.flags.is_query).then_some(config.resend_window)
    }

    /// `default_limits` are those of calls that have none of their own.
    pub(super) fn debug(
        &self,
        name: &str,
        default_limits: Option<&CallLimits>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let own = self.options.as_ref().and_then(|it| it.limits.as_ref());
        debug_call(name, &self.method, self.id, own.or(default_limits), f)
    }
}

/// How a call shows, whether or not it has begun.
pub(super) fn debug_call(
    name: &str,
    method: &str,
    id: Option<Uuid>,
    limits: Option<&CallLimits>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.debug_struct(name)
        .field("method", &method)
        .field("id", &id)
        .field("limits", &limits)
        .finish_non_exhaustive()
}
