//! The task that wakes calls when their time has come: one timer for all calls that are awaited on
//! one runtime, which then need none of their own.
//!
//! It runs where the calls are awaited, and not beside a connection, so that they end by their
//! deadlines even if the runtime of the connections stands still or is gone. If it comes late, it has
//! the connections read first.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
};

use tokio::{task::AbortHandle, time::sleep_until};

use crate::{
    clock,
    lateness::{is_late, look_until},
    shared::Shared,
};

/// Starts the timer task that the calls of this runtime need.
pub(crate) fn start(shared: &Arc<Shared>, timer: usize) {
    let guard = TimerGuard {
        forks: shared.forks(),
        shared: shared.clone(),
        timer,
    };
    let mut handle = Some(tokio::spawn(run(guard)).abort_handle());
    shared.with(|state| state.tasks.set_timer_handle(timer, &mut handle));
    // The client was dropped meanwhile.
    handle.inspect(AbortHandle::abort);
}

/// Has the calls that rely on a timer task find another when it is gone, whatever ended it.
struct TimerGuard {
    shared: Arc<Shared>,
    timer: usize,
    forks: u32,
}

impl Drop for TimerGuard {
    fn drop(&mut self) {
        let Self {
            shared,
            timer,
            forks,
        } = self;
        if shared.forks() == *forks {
            shared.with(|state| state.remove_timer_task(*timer));
        }
    }
}

async fn run(guard: TimerGuard) {
    let TimerGuard { shared, timer, .. } = &guard;
    let mut sleep = pin!(sleep_until(clock::now().into()));
    let mut looks_until = None;
    poll_fn(|context| -> Poll<()> {
        loop {
            let now = clock::now();
            let next = shared.with(|state| {
                let due = state.mux.timer_due(*timer);
                if let Some(due) = due.filter(|due| is_late(*due, now)) {
                    let until = *looks_until.get_or_insert_with(|| look_until(due, now));
                    if now < until {
                        return Some(until);
                    }
                }
                looks_until = None;
                state.check_suspension(now);
                state.mux.handle_timeout(*timer, now, context.waker())
            });
            let Some(next) = next else {
                return Poll::Pending;
            };
            if sleep.deadline() != next.into() {
                sleep.as_mut().reset(next.into());
            }
            ready!(sleep.as_mut().poll(context));
        }
    })
    .await;
}
