//! How the server is doing: `rpc.health` for everyone, `rpc.stats` for those who may ask.

use redial_protocol::rpc;

use super::{Dispatcher, call::Call, refuses, rpc::NoParams};
use crate::refusal;

impl Dispatcher<'_> {
    pub(super) fn health(&mut self, call: &Call<'_, '_>) {
        self.answer(call, |this, NoParams {}| {
            let readiness = this.shared.readiness();
            let detail = (!readiness.is_ready() && this.may_see_stats())
                .then(|| readiness.to_string().into());
            Ok(rpc::Health {
                live: true,
                ready: readiness.is_ready(),
                why: readiness.why().map(Into::into),
                detail,
            })
        });
    }

    pub(super) fn stats(&mut self, call: &Call<'_, '_>) {
        self.answer(call, |this, NoParams {}| {
            let may = this.may_see_stats();
            may.then(|| this.shared.wire_stats())
                .ok_or_else(|| refusal::forbidden(rpc::STATS))
        });
    }

    /// What a server does in all is no stranger's business: a caller shows who it is, or is on this
    /// machine; and the policy, if there is one, lets it.
    fn may_see_stats(&self) -> bool {
        let is_known = self.caller.principal().is_some() || self.caller.is_local();
        let policy = self.shared.policy.as_ref();
        let is_refused = policy.is_some_and(|policy| refuses(policy, self.caller, rpc::STATS));
        self.is_admitted() && is_known && !is_refused
    }
}
