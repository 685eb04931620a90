//! Calls that the table in memory knows as fenced, while the store decides: some have run at another server,
//! and some were left in the middle by one that is gone. Those that may run again do, when an
//! attempt or a question asks for them.

use std::sync::Arc;

use redial_protocol::{CallKey, SessionCall, rpc};

use super::{Dispatcher, attachment::Attachment, call::Call, encoded, rpc::encoded_result};
use crate::{
    never::on_runtime,
    outbox::Outbox,
    recovery, refusal,
    store::{Claimed, Fenced, Left},
    table::Fingerprint,
    waiter::{ReplyKind, Waiter},
};

impl Dispatcher<'_> {
    /// A call that its caller has cancelled: has the store make sure that it never runs, and answers then.
    pub(super) fn fence_cancelled(&mut self, call: &Call<'_, '_>, named: SessionCall) {
        let Some(store) = self.shared.store.clone() else {
            return;
        };
        let waiter = self.later(call);
        let answer = self.when_durable(waiter, |fenced| (cancellation(fenced), ReplyKind::Reply));
        let shared = Arc::clone(self.shared);
        let done = Box::new(move |fenced| {
            shared.settle_fence(named, &fenced);
            answer(fenced);
        });
        store.fence(CallKey::Session(named), done);
        self.scratch.has_stored = true;
    }

    /// Has the store make sure that a call never runs, and answers then; or runs it, if a server that is
    /// gone has left it, and it is the call that an attempt with this fingerprint is of.
    pub(super) fn fence_or_run(
        &mut self,
        waiter: Waiter,
        named: SessionCall,
        fingerprint: Option<Fingerprint>,
    ) {
        let session = self.scratch.session(named.session).cloned();
        let session = session.or_else(|| {
            let owner = self.caller.principal();
            let attached = Attachment::to(self.shared, named.session, owner, self.awake)?;
            Some(Arc::clone(attached.session()))
        });
        let Some(store) = self.shared.store.clone() else {
            return;
        };
        let shared = Arc::clone(self.shared);
        // The shutdown waits for it as for an execution.
        let token = shared.executions.token();
        let done = on_runtime(move |fenced| {
            let is_other =
                |left: &Left| fingerprint.is_some_and(|attempt| attempt.bits() != left.fingerprint);
            match (fenced, session) {
                (Ok(Fenced::Left(left)), _) if is_other(&left) => {
                    waiter.refuse(&shared, &refusal::id_reused());
                }
                (Ok(Fenced::Left(left)), Some(session)) => {
                    recovery::take_over(&shared, session, named, left, waiter);
                }
                (fenced, _) => waiter.say(&shared, named, refusal::fenced, fenced),
            }
            drop(token);
        });
        store.fence(CallKey::Session(named), done);
        self.scratch.has_stored = true;
    }
}

/// The waiter of one who asks for the outcome of a call.
pub(super) fn question(
    outbox: &Arc<Outbox>,
    call: &Call<'_, '_>,
    kind: ReplyKind,
    asks_about: Option<SessionCall>,
) -> Waiter {
    Waiter {
        asks_about,
        ..call.waiter(outbox, &rpc::RESOLVE.into(), kind)
    }
}

/// What `rpc.cancel` answers for a call that was fenced, or found to be on record after all.
fn cancellation(fenced: Fenced) -> Vec<u8> {
    let state = match fenced {
        Fenced::Never | Fenced::Claimed(Claimed::Fenced) => rpc::State::Never,
        Fenced::Left(_) => rpc::State::Running,
        Fenced::Claimed(Claimed::Recorded(_) | Claimed::Interrupted) => rpc::State::Done,
        Fenced::Claimed(Claimed::Acknowledged) => return encoded(&refusal::acknowledged()),
        Fenced::Claimed(Claimed::IdReused | Claimed::SessionUnknown) => {
            return encoded(&refusal::call_unknown());
        }
    };
    encoded_result(&rpc::Cancellation { state })
}
