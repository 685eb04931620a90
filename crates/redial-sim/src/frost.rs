//! A process that stands still, as after SIGSTOP: none of its code runs, while the time of the world
//! goes on and bytes go on arriving.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Whether a process is frozen. All clones are about the same one.
#[derive(Clone, Default)]
pub(crate) struct Frost(Arc<Mutex<FrostState>>);

#[derive(Default)]
struct FrostState {
    is_frozen: bool,
    /// For how long it has been frozen in all.
    total: Duration,
    /// What would have run meanwhile.
    waiting: Vec<Waker>,
}

impl Frost {
    pub(crate) fn freeze(&self) {
        self.lock().is_frozen = true;
    }

    /// Ends a freeze that has lasted so long.
    pub(crate) fn thaw(&self, lasted: Duration) {
        let mut state = self.lock();
        state.is_frozen = false;
        state.total += lasted;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The sum of all freezes that have ended.
    pub(crate) fn total(&self) -> Duration {
        self.lock().total
    }

    /// Whether the process is frozen. If so, the task is woken when it thaws.
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        if !state.is_frozen {
            return false;
        }
        let waker = context.waker();
        if !state.waiting.iter().any(|other| other.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        true
    }

    /// Runs this while the process is not frozen.
    pub(crate) async fn around<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.holds(context) {
                return Poll::Pending;
            }
            work.as_mut().poll(context)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, FrostState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
