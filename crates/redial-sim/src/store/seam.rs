//! What the server asks of the store on a model disk, and the methods that run on it.

use super::*;

impl Store for DiskStore {
    fn table(&self) -> String {
        "model".to_owned()
    }

    fn recover(&self, recovered: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        let mut table = self.lock().table.clone();
        if self.has(Bug::SessionForgotten) {
            table.sessions.clear();
        }
        for (session, acknowledged) in &table.sessions {
            recovered(Recovered::Session {
                session: *session,
                owner: None,
                acknowledged: acknowledged.clone(),
            });
        }
        for (key, record) in table.records.values() {
            if let Some(Claimed::Acknowledged | Claimed::SessionUnknown) = table.claim(key, None) {
                continue;
            }
            recovered(Recovered::Record {
                key: key.clone(),
                fingerprint: record.fingerprint,
                state: match &record.state {
                    DurableState::Finished(_) if self.has(Bug::OutcomeForgotten) => {
                        RecoveredState::Started(None)
                    }
                    DurableState::Finished(outcome) => RecoveredState::Finished(outcome.clone()),
                    DurableState::Fenced => RecoveredState::Fenced,
                    DurableState::Started { resumable, .. } => {
                        RecoveredState::Started(resumable.clone())
                    }
                },
            });
        }
        Ok(())
    }

    fn execute(&self, call: StoreCall, transaction: Box<dyn Any + Send>, done: Done<Executed>) {
        let asked = *transaction.downcast::<Asked>().expect("its own methods");
        let bug = self.0.bug;
        self.push(done, move |state| Ok(state.execute(call, &asked, bug)));
    }

    fn begin(&self, call: StoreCall, intent: Intent, done: Done<Begun>) {
        let life = self.0.life;
        self.push(done, move |state| state.begin(call, intent, life));
    }

    fn finish(&self, key: CallKey, outcome: Option<Vec<u8>>, done: Done<()>) {
        self.push(done, move |state| {
            state.finish(&key, outcome);
            Ok(())
        });
    }

    fn fence(&self, key: CallKey, done: Done<Fenced>) {
        self.push(done, move |state| match state.table.claim(&key, None) {
            None => {
                let record = DurableRecord {
                    fingerprint: 0,
                    state: DurableState::Fenced,
                };
                state.table.put(key, record);
                Ok(Fenced::Never)
            }
            Some(Claimed::Fenced) => Ok(Fenced::Never),
            Some(claimed) => Ok(Fenced::Claimed(claimed)),
        });
    }

    fn open_session(&self, session: SessionId, _: Option<&Principal>, done: Done<()>) {
        self.push(done, move |state| {
            state.table.sessions.entry(session).or_default();
            Ok(())
        });
    }

    fn forget_session(&self, session: SessionId) {
        self.push(Box::new(drop), move |state| {
            state.table.sessions.remove(&session);
            let of_it =
                |key: &CallKey| matches!(key, CallKey::Session(call) if call.session == session);
            state.table.records.retain(|_, (key, _)| !of_it(key));
            Ok(())
        });
    }

    fn flush(&self) {
        let mut state = self.lock();
        if state.is_working || state.is_dead || state.waiting.is_empty() {
            return;
        }
        state.is_working = true;
        drop(tokio::spawn(
            self.0.frost.clone().around(self.clone().work()),
        ));
    }

    fn acknowledge(&self, session: SessionId, acknowledged: Acknowledged) {
        self.push(Box::new(drop), move |state| {
            state.table.acknowledge(session, &acknowledged);
            Ok(())
        });
    }

    fn tick(&self, _: Duration) {}

    fn problem(&self) -> Option<StoreError> {
        None
    }

    fn close(&self) {
        self.sync();
        self.write();
        self.sync();
        self.lock().is_dead = true;
    }
}

/// A call as its transaction gets it.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) params: Params,
}

/// A method whose effect lies in a store of this type.
pub(crate) struct Transactional(pub(crate) Method, pub(crate) TypeId);

impl TransactionMethod for Transactional {
    fn store_type(&self) -> TypeId {
        self.1
    }

    fn prepare(
        &self,
        params: Option<&str>,
        _: Context,
    ) -> Result<Box<dyn Any + Send>, ErrorObject> {
        let (method, params) = (self.0, decode(params)?);
        Ok(Box::new(Asked { method, params }))
    }
}
