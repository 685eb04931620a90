//! What the program lets each caller call.

use crate::{
    caller::Caller,
    panics,
    shared::{Policy, Shared},
};

/// Whether the policy, if there is one, refuses a method to a caller.
#[inline]
pub(super) fn is_forbidden(shared: &Shared, caller: &Caller, method: usize) -> bool {
    let policy = shared.policy.as_ref();
    policy.is_some_and(|policy| refuses(policy, caller, &shared.router.method(method).name))
}

/// Out of line, since most servers have no policy. One that panics refuses everything.
#[inline(never)]
pub(super) fn refuses(policy: &Policy, caller: &Caller, name: &str) -> bool {
    !panics::catch(|| policy(caller.principal(), name)).unwrap_or(false)
}
