//! The calls that wait for a batch, and the transactions that have begun for the next batches.
//!
//! Of the calls that are here each batch takes half, so that one half runs while the other commits. Where another batch
//! is to be expected, a commit begins a transaction for it, too, which saves the round trip of a `BEGIN`.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use redial_protocol::{CallKey, SessionCall};
use redial_server::store::{Executed, StoreCall, StoreError, encoding::session};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    answer::Answer, connection::Connection, doubt::Doubt, loose::Loose, schema::SLOTS,
    transaction::Prepared,
};

/// The most calls that share a transaction: each of them waits for all.
const MAX_CALLS: usize = 64;

/// How many calls are not divided.
const MIN_CALLS: usize = 8;

/// How long a batch waits for the commit of the one before: one that takes longer than a synced commit usually
/// does is held up by something else. A transaction that has begun is not older than that when it is used: its `now()` is
/// that of its beginning.
const GATHERING: Duration = Duration::from_millis(50);

/// How long calls are waited for when none are left, before what has begun for them is undone.
const LINGERING: Duration = Duration::from_millis(5);

/// A call that waits for a batch.
pub(crate) struct Waiting {
    pub(crate) call: StoreCall,
    pub(crate) prepared: Prepared,
    pub(crate) answer: Answer<Executed>,
    pub(crate) key: SessionCall,
    pub(crate) claim: BatchClaim,
    /// How often others were in the way of its batch.
    pub(crate) blocked: u32,
}

/// What the transaction of a batch has done for the record of a call before its handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchClaim {
    /// Nothing: its slot is known to be free, and is written with its outcome.
    None,
    /// It is claimed, in this slot.
    In(i64),
    /// It needs a claim, and has none.
    Missing,
}

/// The calls that wait, and whether something works on them.
#[derive(Default)]
pub(crate) struct Batches {
    inner: Mutex<BatchQueue>,
    /// There may be [enough](BatchQueue::has_enough) now.
    gathered: Notify,
    /// There is a transaction that has begun.
    kept: Notify,
    pub(crate) loose: Arc<Loose>,
}

#[derive(Default)]
struct BatchQueue {
    waiting: VecDeque<Waiting>,
    /// How many calls each batch has that commits.
    committing: Vec<usize>,
    is_running: bool,
    is_closed: bool,
    /// Whether a call followed within [`LINGERING`] the last time that none was left.
    is_steady: bool,
    /// The next batch waits for a transaction.
    is_beginning: bool,
    begun: VecDeque<Begun>,
    doubt: Doubt,
}

/// A transaction in which nothing was done yet.
struct Begun {
    connection: Connection,
    since: Instant,
}

impl Begun {
    fn is_usable(&self) -> bool {
        self.since.elapsed() < GATHERING && !self.connection.is_closed()
    }
}

impl BatchQueue {
    /// Whether there are enough calls for a batch to begin now: beside one that commits as many as that has, since a
    /// small one costs hardly less than a large one; and beside two a full one.
    fn has_enough(&self) -> bool {
        let enough = match *self.committing {
            [] => 0,
            [calls] => calls,
            _ => MAX_CALLS,
        };
        self.waiting.len() >= enough
    }

    fn calls(&self) -> usize {
        self.waiting.len() + self.committing.iter().sum::<usize>()
    }

    /// How many calls the next batch takes: half of those that are here, so that they are run while the other half
    /// commits.
    fn share(&self) -> usize {
        self.calls().div_ceil(2).clamp(MIN_CALLS, MAX_CALLS)
    }
}

impl Waiting {
    /// Whether the call may share a transaction: it is one of a session, and of a method that says so.
    pub(crate) fn is_for(call: &StoreCall, prepared: &Prepared) -> bool {
        prepared.is_batchable() && matches!(call.key, Some(CallKey::Session(_)))
    }

    pub(crate) fn new(call: StoreCall, prepared: Prepared, answer: Answer<Executed>) -> Self {
        let Some(CallKey::Session(key)) = call.key else {
            unreachable!("it is a call of a session");
        };
        Self {
            call,
            prepared,
            answer,
            key,
            claim: BatchClaim::None,
            blocked: 0,
        }
    }

    pub(crate) fn slot(&self) -> i64 {
        (self.key.number % SLOTS).cast_signed()
    }

    /// Whether its record may not be written without a claim that it does not have.
    pub(crate) fn lacks_claim(&self) -> bool {
        self.claim == BatchClaim::Missing
    }

    pub(crate) fn location(&self) -> (i64, i64) {
        (session(self.key.session), self.slot())
    }
}

impl Batches {
    fn lock(&self) -> MutexGuard<'_, BatchQueue> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if something has to work on it.
    pub(crate) fn push(&self, waiting: Waiting) -> bool {
        let mut inner = self.lock();
        if inner.is_closed {
            drop(inner);
            refuse(vec![waiting]);
            return false;
        }
        inner.waiting.push_back(waiting);
        if inner.has_enough() {
            self.gathered.notify_one();
        }
        !std::mem::replace(&mut inner.is_running, true)
    }

    /// For the next batch. True if something has to work on it.
    pub(crate) fn give_back(&self, batch: Vec<Waiting>) -> bool {
        let mut inner = self.lock();
        if inner.is_closed {
            drop(inner);
            refuse(batch);
            return false;
        }
        for waiting in batch.into_iter().rev() {
            inner.waiting.push_front(waiting);
        }
        !std::mem::replace(&mut inner.is_running, true)
    }

    /// The next batch. `None` if no call has come for a while: what works on them ends.
    pub(crate) async fn next(&self) -> Option<Vec<Waiting>> {
        loop {
            self.gather().await;
            let batch = self.take();
            if !batch.is_empty() {
                return Some(batch);
            }
            if !self.linger().await {
                return None;
            }
        }
    }

    /// Waits while batches commit, unless there are enough calls for one beside them.
    async fn gather(&self) {
        let gathered = async {
            while !self.lock().has_enough() {
                self.gathered.notified().await;
            }
        };
        // A commit may take longer.
        drop(timeout(GATHERING, gathered).await);
    }

    /// With a call of each slot at most.
    fn take(&self) -> Vec<Waiting> {
        let mut inner = self.lock();
        let mut locations = HashSet::new();
        let mut batch = Vec::new();
        let share = inner.share();
        while batch.len() < share
            && let Some(next) = inner.waiting.front()
            && locations.insert(next.location())
        {
            batch.extend(inner.waiting.pop_front());
        }
        // In one order at every server, so that claims don't lock each other out.
        batch.sort_by_key(Waiting::location);
        batch
    }

    /// Waits for a call. False if none comes.
    async fn linger(&self) -> bool {
        let is_over = timeout(LINGERING, self.gathered.notified()).await.is_err();
        let mut inner = self.lock();
        if !inner.waiting.is_empty() {
            inner.is_steady = true;
        } else if is_over {
            inner.is_steady = false;
            inner.is_running = false;
            let unused = std::mem::take(&mut inner.begun);
            drop(inner);
            drop(unused);
            return false;
        }
        true
    }

    /// A transaction that has begun for the next batch. Without one the batch waits for it from now on.
    pub(crate) fn begun(&self) -> Option<Connection> {
        loop {
            let mut inner = self.lock();
            let begun = inner.begun.pop_front();
            inner.is_beginning = begun.is_none();
            drop(inner);
            let begun = begun?;
            if begun.is_usable() {
                return Some(begun.connection);
            }
        }
    }

    /// The batch has begun a transaction itself.
    pub(crate) fn has_begun(&self) {
        self.lock().is_beginning = false;
    }

    /// Refuses the calls that wait, and those that come.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let (waiting, begun) = (
            inner.waiting.drain(..).collect(),
            std::mem::take(&mut inner.begun),
        );
        drop(inner);
        drop(begun);
        refuse(waiting);
    }

    /// Waits until another may have begun.
    pub(crate) async fn kept(&self) {
        self.kept.notified().await;
    }

    /// Undoes those that have begun, so that their connections are free.
    pub(crate) fn release(&self) {
        let begun = std::mem::take(&mut self.lock().begun);
        drop(begun);
    }

    /// Whether several calls are here, so that another batch is to be expected.
    pub(crate) fn are_many(&self) -> bool {
        self.lock().calls() > 1
    }

    /// Keeps a transaction that has begun, if something works on what waits. `is_wanted`: others wait for a connection.
    pub(crate) fn keep(&self, connection: Connection, since: Instant, is_wanted: bool) {
        let mut inner = self.lock();
        let (usable, mut unusable): (VecDeque<_>, VecDeque<_>) =
            inner.begun.drain(..).partition(Begun::is_usable);
        inner.begun = usable;
        let begun = Begun { connection, since };
        if inner.is_running && !inner.is_closed && (!is_wanted || inner.is_beginning) {
            inner.begun.push_back(begun);
            self.kept.notify_one();
        } else {
            unusable.push_back(begun);
        }
        drop(inner);
        drop(unusable);
    }

    /// A batch commits from now on. `may_begin`: its commit may begin a transaction for another.
    pub(crate) fn commit(self: &Arc<Self>, calls: usize, may_begin: bool) -> Committing {
        let mut inner = self.lock();
        let is_another_expected = inner.calls() > 0 || inner.is_steady;
        let begins = may_begin && is_another_expected;
        inner.committing.push(calls);
        Committing {
            batches: Arc::clone(self),
            calls,
            begins,
        }
    }

    /// See [`Doubt`].
    pub(crate) fn claims_first(&self) -> bool {
        self.lock().doubt.claims_first()
    }

    pub(crate) fn arise_doubt(&self) {
        self.lock().doubt.arise();
    }

    pub(crate) fn settle_doubt(&self) {
        self.lock().doubt.settle();
    }
}

/// What they did in transactions before, if anything, is undone.
fn refuse(calls: Vec<Waiting>) {
    if calls.is_empty() {
        return;
    }
    // On another thread, since nothing is called back from within.
    drop(thread::spawn(move || {
        for waiting in calls {
            let refused = StoreError::nothing_done("the store is closed");
            waiting.answer.give(Err(refused));
        }
    }));
}

/// A batch commits, until this is dropped.
pub(crate) struct Committing {
    batches: Arc<Batches>,
    calls: usize,
    /// Whether its commit is to begin a transaction for another.
    pub(crate) begins: bool,
}

impl Drop for Committing {
    fn drop(&mut self) {
        let mut inner = self.batches.lock();
        let mut committing = inner.committing.iter();
        let at = committing.position(|calls| *calls == self.calls);
        at.map(|at| inner.committing.swap_remove(at));
        drop(inner);
        self.batches.gathered.notify_one();
    }
}
