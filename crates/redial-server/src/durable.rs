//! Calls that a store takes part in: how they are handed to it, and what its answers mean to those who
//! wait. Nothing is answered before the store says that it is durable.

use std::any::Any;

use tokio::sync::oneshot;

use crate::{
    execution::{Ended, Execution},
    handler::{Completion, HandlerFuture},
    never, refusal,
    store::{
        Acknowledged, Begun, Claimed, Done, Executed, Intent, OutcomeKind, Resumable, Store,
        StoreCall, StoreError,
    },
    table::{Fingerprint, TableKey},
};

impl Execution {
    /// Hands a transaction to the store, which ends the execution. To be flushed.
    pub(crate) fn submit(mut self, transaction: Box<dyn Any + Send>, fingerprint: Fingerprint) {
        let Some(store) = self.shared.store.clone() else {
            return self.end_failed(&StoreError::nothing_done("there is no store"));
        };
        let call = self.store_call(fingerprint);
        // The shutdown waits for it as for any other execution.
        let token = self.shared.executions.token();
        // With a permit that becomes free, a queued call may start, which takes a runtime.
        let done: Done<Executed> = never::on_runtime(move |executed| {
            self.end_transaction(executed);
            drop(token);
        });
        store.execute(call, transaction, done);
    }

    fn end_transaction(&mut self, executed: Result<Executed, StoreError>) {
        match executed {
            Ok(Executed::New(outcome)) => {
                let is_recorded = outcome.kind() != OutcomeKind::NoEffect;
                self.complete(Completion {
                    outcome: outcome.into_bytes(),
                    is_recorded,
                });
            }
            Ok(Executed::Claimed(claimed)) => self.end_claimed(claimed),
            Err(error) => self.end_failed(&error),
        }
    }

    /// Runs a handler between its intent and its outcome, both durable.
    pub(crate) async fn run_recorded(
        &mut self,
        future: HandlerFuture,
        fingerprint: Fingerprint,
        resumable: Option<Resumable>,
    ) -> Ended {
        let Some(store) = self.shared.store.clone() else {
            return Ended::Completed(self.run_handler(future).await);
        };
        let call = self.store_call(fingerprint);
        let begun = ask(&*store, |store, done| {
            store.begin(call, Intent { resumable }, done);
        });
        match begun.await {
            Ok(Begun::Start) => {}
            Ok(Begun::Claimed(claimed)) => return Ended::Claimed(claimed),
            Err(error) => return Ended::StoreFailed(error),
        }
        let mut completion = self.run_handler(future).await;
        let Some(key) = self.key.as_ref().map(TableKey::call_key) else {
            return Ended::Completed(completion);
        };
        self.shared.config.fit_to_frame(&mut completion.outcome);
        let outcome = completion.is_recorded.then(|| completion.outcome.clone());
        let finished = ask(&*store, |store, done| store.finish(key, outcome, done));
        match finished.await {
            Ok(()) => Ended::Completed(completion),
            // It ran, so nothing that says otherwise may be believed.
            Err(error) => Ended::StoreFailed(StoreError::uncertain(error.message)),
        }
    }

    /// The id was claimed before, as the table in memory did not know.
    pub(crate) fn end_claimed(&mut self, claimed: Claimed) {
        let error = match claimed {
            Claimed::Recorded(outcome) => {
                return self.complete(Completion {
                    outcome,
                    is_recorded: true,
                });
            }
            Claimed::Interrupted => {
                return self.complete(Completion::recorded_error(&refusal::interrupted()));
            }
            Claimed::IdReused => refusal::id_reused(),
            Claimed::Acknowledged => refusal::acknowledged(),
            Claimed::Fenced => refusal::fenced(),
            Claimed::SessionUnknown => match &self.key {
                Some(TableKey::Session(session, _)) => refusal::session_unknown(session.id()),
                _ => refusal::call_unknown(),
            },
        };
        self.refuse(&error);
    }

    /// The store failed. If it may have recorded the call all the same, the call must neither run again
    /// nor be waited for, so that is its outcome for as long as this server lives.
    pub(crate) fn end_failed(&mut self, error: &StoreError) {
        if error.is_uncertain && self.shared.is_store_shared() {
            // Another server may record it, so that nothing is kept here that would say otherwise.
            let key = self.key.as_ref();
            let joined = key.map(|key| self.shared.table.reopen(key));
            let error = refusal::outcome_not_known_yet(&error.message);
            self.refuse_all(joined.unwrap_or_default(), &error);
        } else if error.is_uncertain {
            let unknown = refusal::store_uncertain(&error.message);
            self.complete(Completion::recorded_error(&unknown));
        } else {
            self.refuse(&refusal::store_unavailable(&error.message));
        }
    }

    fn store_call(&self, fingerprint: Fingerprint) -> StoreCall {
        let shared = &self.shared;
        StoreCall {
            key: self.key.as_ref().map(TableKey::call_key),
            fingerprint: fingerprint.bits(),
            max_outcome_bytes: shared.config.max_outcome_bytes(),
            acknowledged: match &self.key {
                Some(TableKey::Session(session, _)) => session.acknowledged(),
                _ => Acknowledged::default(),
            },
            awake: shared.awake.elapsed(),
            failure_texts: self.method().failure_texts.clone(),
        }
    }
}

/// Asks the store for something, and starts it.
async fn ask<T: Send + 'static>(
    store: &dyn Store,
    question: impl FnOnce(&dyn Store, Done<T>),
) -> Result<T, StoreError> {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |answer| drop(sender.send(answer)));
    question(store, done);
    store.flush();
    receiver
        .await
        .unwrap_or_else(|_| Err(StoreError::uncertain("the store ended without an answer")))
}
