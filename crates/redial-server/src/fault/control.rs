//! Who may change the fault rules of a running server.

use redial_protocol::Principal;

use crate::caller::Caller;

/// Who may look at the fault rules of a running server and change them, with `rpc.faults`
/// ([`ServerBuilder::fault_control`](crate::ServerBuilder::fault_control)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FaultControl {
    /// Callers on this machine: from a loopback address, over a Unix socket, or on a transport without
    /// addresses. Behind a proxy on this machine that is everyone.
    Local,
    /// These principals, wherever they are.
    Principals(Vec<Principal>),
}

impl FaultControl {
    pub(crate) fn lets(&self, caller: &Caller) -> bool {
        match self {
            Self::Local => caller.is_local(),
            Self::Principals(those) => caller
                .principal()
                .is_some_and(|caller| those.contains(caller)),
        }
    }
}
