//! A store whose commits wait until the test lets them happen, or fail.

use std::{
    any::Any,
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use redial_protocol::{CallKey, Principal, SessionId};
use redial_server::store::{
    Acknowledged, Begun, Done, Executed, Fenced, Intent, Recovered, Store, StoreCall, StoreError,
};

/// All clones are the same store.
#[derive(Clone, Default)]
pub struct HeldStore(Arc<Mutex<HeldState>>);

#[derive(Default)]
struct HeldState {
    waiting: Vec<Box<dyn FnOnce(Option<StoreError>) + Send>>,
    is_held: bool,
    problem: Option<StoreError>,
}

impl HeldStore {
    /// From now on nothing becomes durable but by [`commit`](Self::commit).
    pub fn hold(&self) {
        self.state().is_held = true;
    }

    /// What waits becomes durable, or fails if there is a problem: on a thread of the store's.
    pub fn commit(&self) {
        let mut state = self.state();
        let (waiting, problem) = (mem::take(&mut state.waiting), state.problem.clone());
        drop(state);
        let committing = std::thread::spawn(move || {
            for done in waiting {
                done(problem.clone());
            }
        });
        committing.join().unwrap();
    }

    /// Nothing can be recorded, or all is well again.
    pub fn set_problem(&self, problem: Option<&str>) {
        self.state().problem = problem.map(StoreError::nothing_done);
    }

    /// How many steps wait for a commit.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    fn push<T: Send + 'static>(&self, done: Done<T>, value: T) {
        let done = Box::new(move |problem: Option<StoreError>| {
            done(problem.map_or(Ok(value), Err));
        });
        self.state().waiting.push(done);
    }

    fn state(&self) -> MutexGuard<'_, HeldState> {
        self.0.lock().unwrap()
    }
}

impl Store for HeldStore {
    fn table(&self) -> String {
        "held".to_owned()
    }

    fn recover(&self, _: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        Ok(())
    }

    fn execute(&self, _: StoreCall, _: Box<dyn Any + Send>, _: Done<Executed>) {
        unreachable!("no test has a transaction method")
    }

    fn begin(&self, _: StoreCall, _: Intent, done: Done<Begun>) {
        self.push(done, Begun::Start);
    }

    fn finish(&self, _: CallKey, _: Option<Vec<u8>>, done: Done<()>) {
        self.push(done, ());
    }

    fn fence(&self, _: CallKey, done: Done<Fenced>) {
        self.push(done, Fenced::Never);
    }

    fn open_session(&self, _: SessionId, _: Option<&Principal>, done: Done<()>) {
        self.push(done, ());
    }

    fn forget_session(&self, _: SessionId) {}

    fn flush(&self) {
        if !self.state().is_held {
            let store = self.clone();
            tokio::spawn(async move { store.commit() });
        }
    }

    fn acknowledge(&self, _: SessionId, _: Acknowledged) {}

    fn tick(&self, _: Duration) {}

    fn problem(&self) -> Option<StoreError> {
        self.state().problem.clone()
    }

    fn close(&self) {
        self.commit();
    }
}
