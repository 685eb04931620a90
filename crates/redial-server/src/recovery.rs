//! How a server begins where the one before it on the same store has ended: every session and every
//! record comes back, and calls that may be run again are.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use redial_protocol::{CallKey, SessionCall, SessionId};

use crate::{
    admission::Lane,
    caller::Known,
    context::Context,
    execution::{self, Execution, InterruptedCall, Job, Stage, Work},
    handler::Completion,
    peer::Peer,
    refusal,
    router::MethodBody,
    shared::Shared,
    store::{Claimed, Fenced, Left, Recovered, RecoveredState, Resumable, Store, StoreError},
    table::{Fingerprint, Restored, RestoredCall, Session, Table, TableKey, TakenOver},
    traces::ExecutionSpan,
    waiter::Waiter,
};

/// Fills the table in memory with what the store has kept.
pub(crate) fn recover(
    store: &dyn Store,
    table: &Table<Waiter>,
    now: Instant,
) -> Result<Vec<InterruptedCall>, StoreError> {
    let mut recovery = Recovery {
        table,
        now,
        interrupted_bytes: Completion::recorded_error(&refusal::interrupted()).outcome,
        sessions: HashMap::new(),
        interrupted: Vec::new(),
        error: None,
    };
    table.sessions.set_table(store.table());
    store.recover(&mut |recovered| recovery.take(recovered))?;
    if let Some(error) = recovery.error {
        return Err(error);
    }
    for session in recovery.sessions.into_values() {
        // Their leases start anew.
        table.sessions.detach(&session, now);
    }
    Ok(recovery.interrupted)
}

struct Recovery<'t> {
    table: &'t Table<Waiter>,
    now: Instant,
    /// The outcome of a call whose handler can't be run again.
    interrupted_bytes: Vec<u8>,
    sessions: HashMap<SessionId, Arc<Session<Waiter>>>,
    interrupted: Vec<InterruptedCall>,
    /// The first thing that was wrong.
    error: Option<StoreError>,
}

impl Recovery<'_> {
    fn take(&mut self, recovered: Recovered) {
        let Recovered::Record {
            key,
            fingerprint,
            state,
        } = recovered
        else {
            if let Recovered::Session {
                session,
                owner,
                acknowledged,
            } = recovered
            {
                let restored = self
                    .table
                    .sessions
                    .restore(session, owner, &acknowledged, self.now);
                self.sessions.insert(session, restored);
            }
            return;
        };
        let fingerprint = Fingerprint::from_bits(fingerprint);
        match key {
            CallKey::Session(call) => self.session_call(call, fingerprint, state),
            key => self.plain_call(key, fingerprint, state),
        }
    }

    fn session_call(&mut self, call: SessionCall, fingerprint: Fingerprint, state: RecoveredState) {
        // A record of a session that was forgotten is on its way out.
        let Some(session) = self.sessions.get(&call.session) else {
            return;
        };
        let restored = match &state {
            RecoveredState::Finished(outcome) => RestoredCall::Finished(fingerprint, outcome),
            RecoveredState::Fenced => RestoredCall::Fenced,
            RecoveredState::Started(Some(_)) => RestoredCall::Running(fingerprint),
            RecoveredState::Started(None) => {
                RestoredCall::Finished(fingerprint, &self.interrupted_bytes)
            }
        };
        let restored = session.restore_call(call.number, restored);
        if restored == Restored::TooFar {
            self.error.get_or_insert_with(|| {
                StoreError::nothing_done(format!(
                    "call {} of session {} is further from the calls before it than any window \
                     allows; expected a store that was not changed by others",
                    call.number, call.session
                ))
            });
        }
        if restored == Restored::Placed
            && let RecoveredState::Started(Some(resumable)) = state
        {
            let key = TableKey::Session(Arc::clone(session), call.number);
            self.interrupt(key, fingerprint, resumable);
        }
    }

    fn plain_call(&mut self, key: CallKey, fingerprint: Fingerprint, state: RecoveredState) {
        let plain = &self.table.plain;
        let key = plain.key(key);
        match state {
            // To fence a plain id promises nothing: another attempt may always come.
            RecoveredState::Fenced => {}
            RecoveredState::Finished(outcome) => {
                plain.restore(&key, fingerprint, self.now);
                plain.finish(&key, &outcome, self.now);
            }
            RecoveredState::Started(None) => {
                plain.restore(&key, fingerprint, self.now);
                plain.finish(&key, &self.interrupted_bytes, self.now);
            }
            RecoveredState::Started(Some(resumable)) => {
                plain.restore(&key, fingerprint, self.now);
                self.interrupt(TableKey::Plain(key), fingerprint, resumable);
            }
        }
    }

    fn interrupt(&mut self, key: TableKey<Waiter>, fingerprint: Fingerprint, resumable: Resumable) {
        self.interrupted.push(InterruptedCall {
            key,
            fingerprint,
            resumable,
        });
    }
}

/// Runs the interrupted calls again, on the runtime of the first connection or listener.
pub(crate) fn resume(shared: &Arc<Shared>) {
    let interrupted = std::mem::take(&mut *shared.lock_interrupted());
    for call in interrupted {
        resume_call(shared, call);
    }
}

/// Runs a call of a session again that a server which is gone has left, for one who waits for it.
pub(crate) fn take_over(
    shared: &Arc<Shared>,
    session: Arc<Session<Waiter>>,
    call: SessionCall,
    left: Left,
    waiter: Waiter,
) {
    let fingerprint = Fingerprint::from_bits(left.fingerprint);
    match session.take_over(call.number, fingerprint, waiter) {
        TakenOver::Runs => {}
        TakenOver::Starts => resume_call(
            shared,
            InterruptedCall {
                key: TableKey::Session(session, call.number),
                fingerprint,
                resumable: left.resumable,
            },
        ),
        TakenOver::Ended(waiter, outcome) => {
            let ended = Fenced::Claimed(Claimed::Recorded(outcome));
            waiter.say(shared, call, refusal::fenced, Ok(ended));
        }
        TakenOver::Acknowledged(waiter) => waiter.refuse(shared, &refusal::acknowledged()),
    }
}

fn resume_call(shared: &Arc<Shared>, call: InterruptedCall) {
    let InterruptedCall {
        key,
        fingerprint,
        resumable,
    } = call;
    let method = shared.router.find(&resumable.method);
    let owner = key.owner().cloned();
    let lane = Lane {
        peer: shared
            .admission
            .enter(&owner.map_or(Peer::Recovered, Peer::Principal)),
        method: method.unwrap_or_default(),
    };
    let mut execution = Execution {
        shared: Arc::clone(shared),
        lane,
        key: Some(key),
        origin: None,
        deadline: None,
        stage: Stage::Started(shared.awake.now()),
        queued: Duration::ZERO,
        started: shared.clock_if_observed(),
        event_context: None,
        span: ExecutionSpan::default(),
    };
    let mut context = Context::new(1, None, None, None);
    if let Some(key) = &execution.key {
        key.name_in(&mut context);
        if let Some(owner) = key.owner() {
            context.set_known(&Arc::new(Known::of(owner)));
        }
    }
    let future = method.and_then(|method| match &shared.router.method(method).body {
        MethodBody::Handler(handler) => handler.prepare(resumable.params.as_deref(), context).ok(),
        MethodBody::Transaction(_) => None,
    });
    shared.admission.take_run_permit(lane);
    // Its slot lives as long as its permit.
    shared.admission.leave(lane.peer);
    let Some(future) = future else {
        // The program has the method no longer, or with other params.
        execution.complete(Completion::recorded_error(&refusal::interrupted()));
        return;
    };
    execution::spawn(Job {
        execution,
        work: Work::Recorded {
            future,
            fingerprint,
            resumable: Some(resumable),
        },
        delay: None,
    });
}
