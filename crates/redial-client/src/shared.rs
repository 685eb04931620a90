//! What the calls, the drivers and the timer tasks of a client share, and the one lock around it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::Instant,
};

use tokio::{runtime, task::AbortHandle};

use crate::{
    config::Config,
    mux::{Mux, slab::Key},
    retry::context::RetryContext,
    tasks::Tasks,
    wake_list::WakeList,
};

/// What every clone of a client holds. When the last one is dropped, its connections are closed.
pub(crate) struct ClientHandle {
    pub(crate) shared: Arc<Shared>,
}

/// What calls, drivers and timer tasks share.
pub(crate) struct Shared {
    state: Mutex<SharedState>,
    pub(crate) config: Config,
    pub(crate) peer: Arc<str>,
    spawner: Box<dyn SpawnDriver>,
}

/// What is behind the lock.
pub(crate) struct SharedState {
    pub(crate) mux: Mux,
    pub(crate) retry: RetryContext,
    pub(crate) tasks: Tasks,
    is_closed: bool,
}

/// Starts drivers, whatever the type of their connections.
pub(crate) trait SpawnDriver: Send + Sync {
    fn spawn(&self, shared: Arc<Shared>, link: usize) -> AbortHandle;
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        let tasks = self.shared.with(|state| {
            state.is_closed = true;
            if let Some(link) = state.mux.begin_close() {
                // It writes the last acks and then ends by itself.
                state.tasks.drivers[link] = None;
            }
            state.tasks.take_all()
        });
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }
}

impl SharedState {
    pub(crate) fn new(mux: Mux, retry: RetryContext, links: usize) -> Self {
        Self {
            mux,
            retry,
            tasks: Tasks::new(links),
            is_closed: false,
        }
    }

    /// Has the timer task of the runtime wake the call then. Gives the timer task that is to be
    /// started for that, if there is none yet.
    pub(crate) fn set_timer(
        &mut self,
        runtime: runtime::Id,
        key: Key,
        at: Instant,
    ) -> Option<usize> {
        let (timer, is_new) = self.tasks.timer_of(runtime);
        self.mux.set_timer(timer, key, at);
        is_new.then_some(timer)
    }

    /// A timer task is gone, with its runtime.
    pub(crate) fn remove_timer_task(&mut self, timer: usize) {
        self.tasks.remove_timer(timer);
        self.mux.remove_timer_task(timer);
    }
}

impl Shared {
    pub(crate) fn new(
        state: SharedState,
        config: Config,
        peer: String,
        spawner: Box<dyn SpawnDriver>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            config,
            peer: peer.into(),
            spawner,
        }
    }

    /// The one way to the state. What is to be woken is woken outside the lock.
    pub(crate) fn with<T>(&self, access: impl FnOnce(&mut SharedState) -> T) -> T {
        // A panic under the lock is a bug, but not one to hang every other call for.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = access(&mut state);
        if state.mux.wakers.is_empty() {
            return result;
        }
        let wakers = WakeList::take(&mut state.mux.wakers);
        drop(state);
        wakers.wake();
        result
    }

    /// The same for those who wake many, and have a list for them that keeps its allocation.
    pub(crate) fn with_many<T>(
        &self,
        wakers: &mut Vec<Waker>,
        access: impl FnOnce(&mut SharedState) -> T,
    ) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = access(&mut state);
        std::mem::swap(&mut state.mux.wakers, wakers);
        drop(state);
        wakers.drain(..).for_each(Waker::wake);
        result
    }

    /// Starts the driver of a link that has work and no driver.
    pub(crate) fn start_driver(self: &Arc<Self>, link: usize) {
        let task = self.spawner.spawn(self.clone(), link);
        self.set_driver(link, task);
    }

    /// Keeps a driver's task, to be aborted when the client is dropped.
    pub(crate) fn set_driver(&self, link: usize, task: AbortHandle) {
        let rejected = self.with(|state| {
            if state.is_closed {
                return Some(task);
            }
            state.tasks.drivers[link] = Some(task);
            None
        });
        rejected.inspect(AbortHandle::abort);
    }
}
