//! The task that wakes calls when their time has come: one timer for all the calls that are
//! awaited on one runtime, which then need none of their own.
//!
//! It runs where the calls are awaited, and not beside a connection, so that they end by their
//! deadlines even if the runtime of the connections stands still or is gone.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
};

use tokio::{runtime, task::AbortHandle, time::sleep_until};

use crate::{client::Shared, clock};

/// The keepers of a client, each known by its place.
#[derive(Default)]
pub(crate) struct Keepers(Vec<Option<Keeper>>);

struct Keeper {
    runtime: runtime::Id,
    /// `None` until it is started.
    task: Option<AbortHandle>,
}

impl Keepers {
    /// The keeper of a runtime, and whether it is new and has to be started.
    pub(crate) fn of(&mut self, runtime: runtime::Id) -> (usize, bool) {
        let is_its = |place: &Option<Keeper>| {
            let keeper = place.as_ref();
            keeper.is_some_and(|keeper| keeper.runtime == runtime)
        };
        if let Some(place) = self.0.iter().position(is_its) {
            return (place, false);
        }
        let task = None;
        let keeper = Some(Keeper { runtime, task });
        let Some(free) = self.0.iter().position(Option::is_none) else {
            self.0.push(keeper);
            return (self.0.len() - 1, true);
        };
        self.0[free] = keeper;
        (free, true)
    }

    /// Takes the task of a keeper, unless that is not wanted any more.
    pub(crate) fn set_task(&mut self, keeper: usize, task: &mut Option<AbortHandle>) {
        if let Some(Some(keeper)) = self.0.get_mut(keeper) {
            keeper.task = task.take();
        }
    }

    /// A keeper is gone, with its runtime.
    pub(crate) fn dismiss(&mut self, keeper: usize) {
        if let Some(place) = self.0.get_mut(keeper) {
            *place = None;
        }
    }

    /// The tasks, to be ended.
    pub(crate) fn into_tasks(self) -> impl Iterator<Item = Option<AbortHandle>> {
        self.0.into_iter().flatten().map(|keeper| keeper.task)
    }
}

/// Starts a keeper on this runtime.
pub(crate) fn keep_time(shared: Arc<Shared>, keeper: usize) -> AbortHandle {
    tokio::spawn(keep(Guard { shared, keeper })).abort_handle()
}

/// Tells the calls that rely on a keeper when it is gone, whatever ended it.
struct Guard {
    shared: Arc<Shared>,
    keeper: usize,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Self { shared, keeper } = self;
        shared.with(|state| state.dismiss_keeper(*keeper));
    }
}

async fn keep(guard: Guard) {
    let Guard { shared, keeper } = &guard;
    let mut timer = pin!(sleep_until(clock::now().into()));
    poll_fn(|context| -> Poll<()> {
        loop {
            let now = clock::now();
            let next = shared.with(|state| state.mux.ring(*keeper, now, context.waker()));
            let Some(next) = next else {
                return Poll::Pending;
            };
            if timer.deadline() != next.into() {
                timer.as_mut().reset(next.into());
            }
            ready!(timer.as_mut().poll(context));
        }
    })
    .await;
}
