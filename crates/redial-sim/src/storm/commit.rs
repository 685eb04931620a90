//! A database that makes calls durable in groups: a commit takes its time, and takes all along that wait for
//! one, up to a limit.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::sleep,
};

use super::{call_ledger::CallLedger, recorder::Recorder};
use crate::clock;

/// The most calls of one commit.
const GROUP: usize = 16;

/// The database. All clones are the same one.
#[derive(Clone)]
pub(crate) struct GroupCommit(Arc<CommitShared>);

struct CommitShared {
    waiting: Mutex<VecDeque<WaitingCall>>,
    arrived: Notify,
    /// How long a commit takes.
    commit: watch::Sender<Duration>,
}

/// A call that waits for its commit.
struct WaitingCall {
    call: u32,
    done: oneshot::Sender<()>,
}

impl GroupCommit {
    /// Starts it.
    pub(crate) fn start(commit: Duration, ledger: Arc<CallLedger>) -> Self {
        let database = Self(Arc::new(CommitShared {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            commit: watch::Sender::new(commit),
        }));
        tokio::spawn(database.clone().run(ledger));
        database
    }

    /// From now on a commit takes this long.
    pub(crate) fn set_commit(&self, commit: Duration) {
        self.0.commit.send_replace(commit);
    }

    /// How many calls a naive server has wait for it at once: what a pool of connections would be.
    pub(crate) const CONNECTIONS: usize = 64;

    /// How many calls it makes durable in a second, at most.
    pub(crate) fn capacity(commit: Duration) -> f64 {
        GROUP as f64 / commit.as_secs_f64()
    }

    /// Makes a call durable.
    pub(crate) async fn commit(&self, call: u32, recorder: &Recorder) {
        let arrived = clock::now();
        let (done, is_done) = oneshot::channel();
        self.lock().push_back(WaitingCall { call, done });
        self.0.arrived.notify_one();
        let _ = is_done.await;
        let commit = *self.0.commit.borrow();
        recorder.waited((clock::now() - arrived).saturating_sub(commit));
    }

    async fn run(self, ledger: Arc<CallLedger>) {
        loop {
            let group: Vec<_> = {
                let mut waiting = self.lock();
                let size = waiting.len().min(GROUP);
                waiting.drain(..size).collect()
            };
            if group.is_empty() {
                self.0.arrived.notified().await;
                continue;
            }
            let commit = *self.0.commit.borrow();
            sleep(commit).await;
            for WaitingCall { call, done } in group {
                ledger.effect(call);
                // Its handler may have been cut off.
                let _ = done.send(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<WaitingCall>> {
        (self.0.waiting.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}
