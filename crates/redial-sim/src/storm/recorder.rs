//! Notes every call, and what the server says about its queue, moment by moment.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_protocol::ErrorCode;
use redial_server::{Event, EventKind, Observer};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::clock;

/// The step of a storm's time series.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cohort {
    /// Of those who are to be served well.
    Watched,
    /// Of those who get in their way.
    Other,
}

/// A call that has ended.
#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    /// Its number in the ledger.
    pub(crate) call: u32,
    pub(crate) cohort: Cohort,
    /// Since the storm's beginning, as all moments.
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    /// Whether it gave its value while its caller still had a use for it.
    pub(crate) is_good: bool,
    /// How long the attempt took that gave the value.
    pub(crate) last_attempt: Duration,
    /// When it was sent again.
    pub(crate) retries: Vec<Duration>,
}

/// What happened at the server in one step.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ServerStep {
    /// Calls that left the queue of the server, and how long they had been there together.
    pub(crate) started: u32,
    pub(crate) queued: Duration,
    /// Calls that got a worker, and how long they had waited for one together.
    pub(crate) served: u32,
    pub(crate) waited: Duration,
    /// Attempts that were refused for want of room.
    pub(crate) sheds: u32,
    /// Calls that were dropped since their callers had no use for them any more.
    pub(crate) expired: u32,
}

/// Notes what happens. The storm's own, and so are its times.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: Instant,
    calls: Mutex<Vec<CallRecord>>,
    server: Mutex<Vec<ServerStep>>,
}

impl Recorder {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            calls: Mutex::default(),
            server: Mutex::default(),
        }
    }

    pub(crate) fn ended(&self, call: CallRecord) {
        lock(&self.calls).push(call);
    }

    /// A call waited so long for a worker.
    pub(crate) fn waited(&self, time: Duration) {
        self.step(|step| {
            step.served += 1;
            step.waited += time;
        });
    }

    /// What a server in another process has noted, whose time began so much later.
    pub(crate) fn add_server(&self, steps: Vec<ServerStep>, later: Duration) {
        let before = std::iter::repeat_n(ServerStep::default(), step_of(later));
        *lock(&self.server) = before.chain(steps).collect();
    }

    pub(crate) fn calls(&self) -> MutexGuard<'_, Vec<CallRecord>> {
        lock(&self.calls)
    }

    pub(crate) fn server(&self) -> MutexGuard<'_, Vec<ServerStep>> {
        lock(&self.server)
    }

    fn step(&self, note: impl FnOnce(&mut ServerStep)) {
        let at = step_of(clock::now() - self.start);
        let mut steps = lock(&self.server);
        if steps.len() <= at {
            steps.resize(at + 1, ServerStep::default());
        }
        note(&mut steps[at]);
    }
}

/// Which step of the series a moment falls into.
pub(crate) fn step_of(moment: Duration) -> usize {
    (moment.as_micros() / STEP.as_micros()) as usize
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a server of the storm reports.
pub(crate) struct ServerNotes(pub(crate) std::sync::Arc<Recorder>);

impl Observer for ServerNotes {
    fn wants(&self, kind: EventKind) -> bool {
        matches!(kind, EventKind::Started | EventKind::Refused(_))
    }

    fn observe(&self, event: &Event<'_>) {
        self.0.step(|step| match event.kind {
            EventKind::Started => {
                step.started += 1;
                step.queued += event.queued;
            }
            EventKind::Refused(ErrorCode::OVERLOADED) => step.sheds += 1,
            EventKind::Refused(ErrorCode::DEADLINE_PASSED) => step.expired += 1,
            _ => {}
        });
    }
}
