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

use tokio::{task::AbortHandle, time::sleep_until};

use crate::{client::Shared, clock};

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
