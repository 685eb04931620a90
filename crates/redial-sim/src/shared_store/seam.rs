//! What the server asks of the store on a model database.

use std::any::Any;

use redial_protocol::{CallKey, Principal};
use redial_server::store::{
    Begun, Executed, Fenced, Intent, Recovered, SharedStore, Store, StoreCall,
};

use super::*;
use crate::store::Asked;

impl Store for SharedTableStore {
    fn table(&self) -> String {
        "model".to_owned()
    }

    fn recover(&self, _: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        Ok(())
    }

    fn execute(&self, call: StoreCall, transaction: Box<dyn Any + Send>, done: Done<Executed>) {
        let asked = *transaction.downcast::<Asked>().expect("its own methods");
        self.run(done, self.clone().execute_call(call, asked));
    }

    fn begin(&self, call: StoreCall, intent: Intent, done: Done<Begun>) {
        self.run(done, self.clone().begin_call(call, intent));
    }

    fn finish(&self, key: CallKey, outcome: Option<Vec<u8>>, done: Done<()>) {
        self.run(done, self.clone().finish_call(key, outcome));
    }

    fn fence(&self, key: CallKey, done: Done<Fenced>) {
        self.run(done, self.clone().fence_call(key));
    }

    fn open_session(&self, session: SessionId, _: Option<&Principal>, done: Done<()>) {
        self.run(done, self.clone().enter_session(session));
    }

    fn forget_session(&self, session: SessionId) {
        let mut state = self.lock();
        let known = state.known.remove(&session).unwrap_or_default();
        state.over.insert(session, known.acknowledged);
        drop(state);
        let store = self.clone();
        // Lost, it costs memory for a lease.
        self.run(Box::new(drop), async move {
            let ended = store.end_session(session).await;
            ended.map_err(Trouble::into_error)
        });
    }

    /// Each step has begun when it was handed in.
    fn flush(&self) {}

    fn acknowledge(&self, session: SessionId, acknowledged: Acknowledged) {
        self.lock().acknowledge(session, &acknowledged);
    }

    fn tick(&self, _: Duration) {}

    fn as_shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }

    fn problem(&self) -> Option<StoreError> {
        self.lock().problem.clone()
    }

    fn close(&self) {
        self.save_all_and_leave();
    }
}

impl SharedStore for SharedTableStore {
    fn find_session(
        &self,
        session: SessionId,
        _: Option<&Principal>,
        done: Done<Option<Acknowledged>>,
    ) {
        self.run(done, self.clone().look_for(session));
    }

    fn leave_session(&self, session: SessionId) {
        let mut state = self.lock();
        let known = state.known.entry(session).or_default();
        (known.is_left, known.is_unsaved) = (true, true);
        let known = known.acknowledged.clone();
        drop(state);
        let store = self.clone();
        self.run(Box::new(drop), async move {
            let saved = store.save(session, known.clone(), false).await;
            saved.map_err(Trouble::into_error)?;
            store.lock().note_saved(session, &known);
            Ok(())
        });
    }
}
