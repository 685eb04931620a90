//! What the calls, the drivers and the timer tasks of a client share, and the one lock around it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::Waker,
    time::Instant,
};

use tokio::{
    runtime::{self, TryCurrentError},
    task::AbortHandle,
};

use crate::{
    clock,
    config::Config,
    discovery::{self, Discovery},
    mux::{Mux, balance::DISCOVERY, slab::Key},
    origin::Origin,
    retry::context::RetryContext,
    suspension::Suspension,
    tasks::Tasks,
    token_source::TokenSource,
    wake_list::WakeList,
};

/// What calls, drivers and timer tasks share.
pub(crate) struct Shared {
    state: Mutex<SharedState>,
    pub(crate) config: Config,
    /// Where tokens come from, if the client shows any.
    pub(crate) tokens: Option<TokenSource>,
    /// Where the endpoints come from, while no task looks after them.
    pub(crate) discovery: Mutex<Option<Discovery>>,
    /// How often this client has found itself in a forked process.
    forks: AtomicU32,
}

/// What is behind the lock.
pub(crate) struct SharedState {
    pub(crate) mux: Mux,
    pub(crate) retry: RetryContext,
    pub(crate) tasks: Tasks,
    /// Of each endpoint.
    pub(crate) spawners: Vec<Arc<dyn SpawnDriver>>,
    is_closed: bool,
    /// The process whose tasks, connections and sessions these are.
    process: u32,
    suspension: Suspension,
}

/// The runtime on which a call is awaited, and the client's timer task there, if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    runtime: runtime::Id,
    timer: Option<usize>,
}

/// Starts drivers, whatever the type of their connections.
pub(crate) trait SpawnDriver: Send + Sync {
    fn spawn(&self, shared: Arc<Shared>, link: usize) -> AbortHandle;
}

impl SharedState {
    pub(crate) fn new(mux: Mux, retry: RetryContext) -> Self {
        Self {
            tasks: Tasks::new(mux.link_count()),
            spawners: Vec::new(),
            mux,
            retry,
            is_closed: false,
            process: std::process::id(),
            suspension: Suspension::new(),
        }
    }

    /// Keeps the task that looks after the endpoints, or gives it back if it is not to run.
    pub(crate) fn set_discovery(&mut self, task: AbortHandle) -> Option<AbortHandle> {
        if self.is_closed {
            return Some(task);
        }
        self.tasks.discovery = Some(task);
        None
    }

    /// Has the timer task of the runtime wake the call then. Gives the timer task that is to be
    /// started for that, unless it runs already.
    #[inline]
    pub(crate) fn set_timer(&mut self, entered: Entered, key: Key, at: Instant) -> Option<usize> {
        let new = entered
            .timer
            .is_none()
            .then(|| self.tasks.add_timer(entered.runtime));
        if let Some(timer) = entered.timer.or(new) {
            self.mux.set_timer(timer, key, at);
        }
        new
    }

    /// To be called before calls are woken that may be sent again.
    pub(crate) fn check_suspension(&mut self, now: Instant) {
        if self.suspension.has_been() {
            self.mux.handle_suspension(now);
        }
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
        tokens: Option<TokenSource>,
        discovery: Option<Discovery>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            config,
            tokens,
            discovery: Mutex::new(discovery),
            forks: AtomicU32::new(0),
        }
    }

    /// A call is about to be awaited on the runtime that polls it. A forked process has to make one of
    /// its own, so only a runtime that is new may be that of another process. A call that has begun
    /// in the one before is woken, since much has changed for it.
    #[inline(always)]
    pub(crate) fn enter(
        &self,
        state: &mut SharedState,
        waker: &Waker,
    ) -> Result<Entered, TryCurrentError> {
        let runtime = runtime::Handle::try_current()?.id();
        let timer = state.tasks.find_timer(runtime);
        if timer.is_none() {
            self.enter_runtime(state, waker);
        }
        Ok(Entered { runtime, timer })
    }

    #[cold]
    fn enter_runtime(&self, state: &mut SharedState, waker: &Waker) {
        if self.enter_process(state, std::process::id(), Origin::here) {
            waker.wake_by_ref();
        }
    }

    /// In a process that was forked from the one before, all that is in flight is that one's.
    fn enter_process(
        &self,
        state: &mut SharedState,
        process: u32,
        origin: impl FnOnce() -> Origin,
    ) -> bool {
        if std::mem::replace(&mut state.process, process) == process {
            return false;
        }
        self.forks.fetch_add(1, Relaxed);
        self.mix_randomness(state, &origin());
        let links = state.mux.link_count();
        // To abort a task, or to wait for it, takes locks of a runtime that isn't here.
        std::mem::forget(std::mem::replace(&mut state.tasks, Tasks::new(links)));
        state.mux.handle_fork(clock::now());
        true
    }

    /// Has what is random be drawn as no copy of this client draws it, unless a seed is to repeat.
    pub(crate) fn mix_randomness(&self, state: &mut SharedState, origin: &Origin) {
        if self.config.seed.is_some() {
            return;
        }
        state.mux.mix_ids(origin);
        if self.config.jitter_seed.is_none() {
            origin.mix_into(&mut state.retry.jitter);
        }
    }

    /// See the field. What belongs to a task of before a fork is not to be touched by it.
    pub(crate) fn forks(&self) -> u32 {
        self.forks.load(Relaxed)
    }

    /// The one way to the state. What is to be woken is woken outside the lock.
    #[inline]
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

    /// The driver of a link is dropped while its connection stands. Whether there may be something that
    /// should still be written: the last acks, and the goodbye of a client that is gone.
    pub(crate) fn end_link(&self, link: usize) -> bool {
        self.with(|state| state.is_closed || state.mux.flush_last_acks(link))
    }

    /// The client is gone: closes its connections.
    pub(crate) fn close(&self) {
        let tasks = self.with(|state| {
            state.is_closed = true;
            for link in state.mux.begin_close() {
                // It writes the last acks and then ends by itself.
                drop(state.tasks.take_driver(link));
            }
            state.tasks.take_all()
        });
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }

    /// Starts the driver of a link that has work and no driver, or the discovery of endpoints.
    pub(crate) fn start_driver(self: &Arc<Self>, link: usize) {
        if link == DISCOVERY {
            discovery::start(self);
            return;
        }
        let spawner = self.with(|state| state.spawners[link / state.mux.stride()].clone());
        let task = spawner.spawn(self.clone(), link);
        self.set_driver(link, task);
    }

    /// Starts the drivers of an endpoint's pool that don't run.
    pub(crate) fn start_drivers(self: &Arc<Self>, endpoint: usize) {
        let links = self.with(|state| {
            let pool = state.mux.links_of(endpoint).take(self.config.connections);
            pool.filter(|link| state.mux.claim_driver(*link))
                .collect::<Vec<_>>()
        });
        links.into_iter().for_each(|link| self.start_driver(link));
    }

    /// Keeps a driver's task, to be aborted when the client is dropped.
    pub(crate) fn set_driver(&self, link: usize, task: AbortHandle) {
        let rejected = self.with(|state| {
            if state.is_closed {
                return Some(task);
            }
            state.tasks.set_driver(link, task);
            None
        });
        rejected.inspect(AbortHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    /// Says by its process whether it is a copy, once, and whatever the runtime.
    #[test]
    fn a_client_in_another_process_lets_go_of_what_is_the_first_ones() {
        let client = Client::builder().connect_lazy("127.0.0.1:7077").unwrap();
        let shared = client.shared();
        let (own, other) = (std::process::id(), std::process::id() + 1);
        let origin = || Origin::new(0, 0, [0; 32]);
        shared.with(|state| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.unwrap().handle().id();
            assert!(state.mux.claim_driver(0));
            state.tasks.add_timer(runtime);
            assert!(!shared.enter_process(state, own, origin));
            assert!(state.tasks.find_timer(runtime).is_some() && !state.mux.claim_driver(0));
            assert!(shared.enter_process(state, other, origin));
            assert!(state.tasks.find_timer(runtime).is_none() && state.mux.claim_driver(0));
            assert!(!shared.enter_process(state, other, origin));
        });
        assert_eq!(shared.forks(), 1);
    }
}
