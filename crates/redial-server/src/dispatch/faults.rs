//! `rpc.faults`: the fault rules, looked at and changed while the server runs, by those who may.

use redial_protocol::rpc;
use serde::{Deserialize, Serialize};

use super::{Dispatcher, call::Call, policy::refuses};
use crate::{fault::FaultRule, refusal};

/// How many rules callers may set in all. Each costs every request a draw.
const MAX_RULES: usize = 64;

/// What `rpc.faults` takes. Without anything it changes nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultsParams {
    /// Remove all rules, before those of `add` are added.
    #[serde(default)]
    clear: bool,
    #[serde(default)]
    add: Vec<FaultRule>,
}

/// What it answers: the rules in force then.
#[derive(Serialize)]
struct RulesInForce {
    rules: Vec<FaultRule>,
}

impl Dispatcher<'_> {
    pub(super) fn faults(&mut self, call: &Call<'_, '_>) {
        self.answer(call, |this, params: FaultsParams| {
            if !this.may_change_faults() {
                return Err(refusal::forbidden(rpc::FAULTS));
            }
            let faults = &this.shared.faults;
            let kept = if params.clear {
                0
            } else {
                faults.rules().len()
            };
            let count = kept + params.add.len();
            if count > MAX_RULES {
                let detail = format!("{count} fault rules; expected at most {MAX_RULES}");
                return Err(refusal::invalid_params(&detail));
            }
            if params.clear {
                faults.set(params.add);
            } else {
                faults.add(params.add);
            }
            Ok(RulesInForce {
                rules: faults.rules().to_vec(),
            })
        });
    }

    fn may_change_faults(&self) -> bool {
        let control = self.shared.fault_control.as_ref();
        let policy = self.shared.policy.as_ref();
        let is_refused = policy.is_some_and(|policy| refuses(policy, self.caller, rpc::FAULTS));
        control.is_some_and(|control| control.lets(self.caller)) && !is_refused
    }
}
