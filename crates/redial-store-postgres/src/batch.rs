//! Calls that wait together share a transaction: their handlers run in it, side by side where each has one statement,
//! and else one after the other; then one statement writes all their records, and one commit makes it all durable.
//!
//! Where one of the calls turns out to be on record already, the transaction is undone, and that batch and some of the next
//! claim their calls before the handlers run (see [`doubt`](crate::doubt)), so that such calls leave their batch.
//!
//! If anything else is out of the ordinary (a handler fails, an id is locked, a commit has no answer), the
//! transaction is undone, and each call of it runs by itself: what a handler wrote is in the
//! transaction, and nowhere else. A batch waits for the locks of others only for a moment, since it holds those of many
//! calls. Where a handler is in the way of others it is tried again as a batch, when what this server does beside it has
//! ended: as calls that each run by themselves they would be in the way of the next batch, and so on for ever.
//!
//! The handlers of one batch run at a time, while the one before commits: no two batches that run wait for rows of each
//! other. Of the calls that are here each batch takes half, so that one half runs while the other commits.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use redial_protocol::{CallKey, SessionCall};
use redial_server::store::{
    Executed, Outcome, OutcomeKind, StoreCall, encoding::session, together,
};
use tokio::{runtime::Handle, sync::Notify, time::timeout};

use crate::{
    connection::Connection,
    doubt::Doubt,
    error::Trouble,
    loose::Loose,
    on_batch::BatchLocations,
    schema::SLOTS,
    store::{Answer, Shared},
    transaction::{Prepared, Transaction},
};

/// The most calls that share a transaction: each of them waits for all.
const MAX_CALLS: usize = 64;

/// How many calls are not divided.
const MIN_CALLS: usize = 8;

/// How long a batch waits for the commit of the one before: one that takes longer than a synced commit usually
/// does is held up by something else.
const GATHERING: Duration = Duration::from_millis(50);

/// How often a batch is tried again when others are in its way.
const MOST_BLOCKED: u32 = 5;

/// A call that waits for a batch.
pub(crate) struct Waiting {
    call: StoreCall,
    prepared: Prepared,
    answer: Answer<Executed>,
    key: SessionCall,
    /// How often others were in the way of its batch.
    blocked: u32,
}

/// The calls that wait, and whether something works on them.
#[derive(Default)]
pub(crate) struct Batches {
    inner: Mutex<BatchQueue>,
    /// There may be [enough](BatchQueue::has_enough) now.
    gathered: Notify,
    loose: Arc<Loose>,
}

#[derive(Default)]
struct BatchQueue {
    waiting: VecDeque<Waiting>,
    /// How many calls each batch has that commits.
    committing: Vec<usize>,
    is_running: bool,
    doubt: Doubt,
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

    /// How many calls the next batch takes: half of those that are here, so that they are run while the other half
    /// commits.
    fn share(&self) -> usize {
        let calls = self.waiting.len() + self.committing.iter().sum::<usize>();
        calls.div_ceil(2).clamp(MIN_CALLS, MAX_CALLS)
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
            blocked: 0,
        }
    }

    fn slot(&self) -> i64 {
        (self.key.number % SLOTS).cast_signed()
    }

    fn location(&self) -> (i64, i64) {
        (session(self.key.session), self.slot())
    }
}

fn locations(batch: &[Waiting]) -> BatchLocations {
    let mut locations = BatchLocations::default();
    for waiting in batch {
        locations.push(waiting.key, waiting.slot(), waiting.call.fingerprint);
    }
    locations
}

impl Batches {
    fn lock(&self) -> MutexGuard<'_, BatchQueue> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if something has to work on it.
    fn push(&self, waiting: Waiting) -> bool {
        let mut inner = self.lock();
        inner.waiting.push_back(waiting);
        if inner.has_enough() {
            self.gathered.notify_one();
        }
        !std::mem::replace(&mut inner.is_running, true)
    }

    /// Whether several calls are here, so that another batch is to be expected.
    fn are_many(&self) -> bool {
        let inner = self.lock();
        inner.waiting.len() + inner.committing.iter().sum::<usize>() > 1
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

    /// The next batch, with a call of each slot at most.
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
        inner.is_running = !batch.is_empty();
        // In one order at every server, so that claims don't lock each other out.
        batch.sort_by_key(Waiting::location);
        batch
    }

    /// For the next batch. True if something has to work on it.
    fn give_back(&self, batch: Vec<Waiting>) -> bool {
        let mut inner = self.lock();
        for waiting in batch.into_iter().rev() {
            inner.waiting.push_front(waiting);
        }
        !std::mem::replace(&mut inner.is_running, true)
    }
}

impl Shared {
    /// Runs a call as soon as a batch can take it.
    pub(crate) fn execute_in_batch(self: &Arc<Self>, waiting: Waiting, runtime: &Handle) {
        if self.batches.push(waiting) {
            self.start_batches(runtime);
        }
    }

    fn start_batches(self: &Arc<Self>, runtime: &Handle) {
        let work = Arc::clone(self).work_on_batches();
        drop(self.steps.spawn_on(work, runtime));
    }

    /// Runs batches until nothing waits.
    async fn work_on_batches(self: Arc<Self>) {
        let mut begun = None;
        loop {
            self.batches.gather().await;
            let batch = self.batches.take();
            if batch.is_empty() {
                return;
            }
            let connection = match begun {
                Some(begun) => begun,
                None => self.begin_batch().await,
            };
            // While this one runs, for the next.
            let begins = async {
                match self.batches.are_many() {
                    true => Some(self.begin_batch().await),
                    false => None,
                }
            };
            ((), begun) = tokio::join!(self.run_batch(connection, batch), begins);
        }
    }

    /// A transaction in which nothing was done yet. Its `BEGIN` does not go out together with what follows: it may be
    /// cancelled, and each statement behind it would commit by itself.
    async fn begin_batch(&self) -> Result<Connection, Trouble> {
        let mut connection = self.connection().await?;
        connection.enter();
        let begun = connection.batch_execute(&self.style.begin_batch).await;
        begun.map_err(|error| Trouble::of(&error))?;
        Ok(connection)
    }

    async fn run_batch(
        self: &Arc<Self>,
        begun: Result<Connection, Trouble>,
        mut batch: Vec<Waiting>,
    ) {
        for waiting in &batch {
            self.note(&waiting.call);
        }
        let ran = match begun {
            Ok(connection) => self.try_batch(connection, &mut batch).await,
            Err(_) => Err(Apart::Alone),
        };
        let ran = match ran {
            Ok(ran) => ran,
            Err(Apart::Blocked) if batch.iter().all(|it| it.blocked < MOST_BLOCKED) => {
                for waiting in &mut batch {
                    waiting.blocked += 1;
                }
                // The loop that runs batches is here, and takes the next.
                self.batches.give_back(batch);
                return self.batches.loose.settle().await;
            }
            Err(_) => return self.run_each(batch, false),
        };
        let (shared, loose) = (Arc::clone(self), Loose::one(&self.batches.loose));
        let committing = Committing::of(self, batch.len());
        // The next batch may begin meanwhile.
        drop(self.steps.spawn(async move {
            let _until_answered = (loose, committing);
            shared.end_batch(batch, ran).await;
        }));
    }

    async fn end_batch(self: &Arc<Self>, batch: Vec<Waiting>, ran: Ran) {
        let locations = locations(&batch);
        let (connection, outcomes, is_claimed) = (ran.connection, ran.outcomes, ran.is_claimed);
        let committed = self
            .commit_batch(connection, &locations, &outcomes, is_claimed)
            .await;
        match committed.map_err(Trouble::from) {
            Ok(()) => {
                if !is_claimed {
                    self.batches.lock().doubt.settle();
                }
                together(|| {
                    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                        waiting.answer.give(Ok(Executed::New(outcome)));
                    }
                });
            }
            // One of them may not run, unless this server may write nothing: their claims will tell.
            Err(Trouble::Fenced) if !is_claimed => {
                self.batches.lock().doubt.arise();
                if self.batches.give_back(batch) {
                    self.start_batches(&Handle::current());
                }
            }
            Err(trouble) => self.run_each(batch, matches!(trouble, Trouble::Unanswered(_))),
        }
    }

    /// Each by itself: what they have come to, if they have, is found out by their claims. `is_uncertain`:
    /// their commit had no answer.
    fn run_each(self: &Arc<Self>, batch: Vec<Waiting>, is_uncertain: bool) {
        for waiting in batch {
            let (shared, loose) = (Arc::clone(self), Loose::one(&self.batches.loose));
            drop(self.steps.spawn(async move {
                let _loose = loose;
                let Waiting {
                    call,
                    prepared,
                    answer,
                    ..
                } = waiting;
                answer.give(shared.execute(call, prepared, is_uncertain).await);
            }));
        }
    }

    /// Runs the handlers in the transaction, which is left open, after their calls are claimed if that is to be.
    async fn try_batch(
        self: &Arc<Self>,
        connection: Connection,
        batch: &mut Vec<Waiting>,
    ) -> Result<Ran, Apart> {
        let is_doubted = self.batches.lock().doubt.claims_first();
        let is_free = |waiting: &Waiting| self.sessions.is_slot_free(waiting.key);
        if is_doubted || !batch.iter().all(is_free) {
            return self.try_claimed(connection, batch).await;
        }
        let connection = Arc::new(connection);
        let outcomes = run(&connection, batch).await?;
        Ran::of(connection, outcomes, false)
    }

    /// Those that are not to run leave the batch, and are answered.
    async fn try_claimed(
        self: &Arc<Self>,
        connection: Connection,
        batch: &mut Vec<Waiting>,
    ) -> Result<Ran, Apart> {
        let claimed = self.claim_batch(&connection, &locations(batch)).await;
        let claimed = claimed.ok().flatten().ok_or(Apart::Alone)?;
        let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(batch)
            .into_iter()
            .partition(|waiting| claimed.contains(&waiting.location()));
        *batch = mine;
        // They are on record, or have to wait.
        self.run_each(others, false);
        let connection = Arc::new(connection);
        let outcomes = run(&connection, batch).await?;
        Ran::of(connection, outcomes, true)
    }
}

/// A batch commits, until this is dropped.
struct Committing {
    shared: Arc<Shared>,
    calls: usize,
}

impl Committing {
    fn of(shared: &Arc<Shared>, calls: usize) -> Self {
        shared.batches.lock().committing.push(calls);
        Self {
            shared: Arc::clone(shared),
            calls,
        }
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        let batches = &self.shared.batches;
        let mut inner = batches.lock();
        let at = inner
            .committing
            .iter()
            .position(|calls| *calls == self.calls);
        at.map(|at| inner.committing.swap_remove(at));
        drop(inner);
        batches.gathered.notify_one();
    }
}

/// A batch whose handlers have run, in a transaction that is open.
struct Ran {
    connection: Connection,
    outcomes: Vec<Outcome>,
    /// Their calls were claimed before.
    is_claimed: bool,
}

impl Ran {
    fn of(
        connection: Arc<Connection>,
        outcomes: Vec<Outcome>,
        is_claimed: bool,
    ) -> Result<Self, Apart> {
        let connection = Arc::into_inner(connection).ok_or(Apart::Alone)?;
        Ok(Self {
            connection,
            outcomes,
            is_claimed,
        })
    }
}

/// Why a batch was undone.
enum Apart {
    /// Others hold what a handler needs for longer than a batch waits.
    Blocked,
    /// Each has to run by itself.
    Alone,
}

impl Apart {
    fn of(is_blocked: bool) -> Self {
        if is_blocked {
            Self::Blocked
        } else {
            Self::Alone
        }
    }
}

/// Runs the handlers. If one of them comes to no result, nothing of what they have written may be kept.
async fn run(connection: &Arc<Connection>, batch: &mut [Waiting]) -> Result<Vec<Outcome>, Apart> {
    if batch.len() > 1 && batch.iter().all(|waiting| waiting.prepared.is_single()) {
        run_together(connection, batch).await
    } else {
        run_in_turn(connection, batch).await
    }
}

/// Runs the handlers one after the other.
async fn run_in_turn(
    connection: &Arc<Connection>,
    batch: &mut [Waiting],
) -> Result<Vec<Outcome>, Apart> {
    let mut transaction = Transaction::on(connection);
    let mut outcomes = Vec::with_capacity(batch.len());
    for waiting in batch {
        let outcome = waiting.prepared.run(&mut transaction, &waiting.call).await;
        if transaction.has_trouble() || outcome.kind() != OutcomeKind::Result {
            return Err(Apart::of(transaction.is_blocked()));
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Runs them side by side, so that their statements go out together, in the order of the batch: each has one at
/// most, so that it comes to the same. If one has a second, all of it is undone.
async fn run_together(
    connection: &Arc<Connection>,
    batch: &mut [Waiting],
) -> Result<Vec<Outcome>, Apart> {
    let crossed = Arc::new(Notify::new());
    let running = batch.iter_mut().map(|waiting| {
        let mut transaction = Transaction::beside(connection, &waiting.prepared, &crossed);
        async move {
            let outcome = waiting.prepared.run(&mut transaction, &waiting.call).await;
            let is_kept = !transaction.has_trouble() && outcome.kind() == OutcomeKind::Result;
            (is_kept.then_some(outcome), transaction.is_blocked())
        }
    });
    let ended = tokio::select! {
        ended = join_all(running) => ended,
        () = crossed.notified() => return Err(Apart::Alone),
    };
    let is_blocked = ended.iter().any(|(_, is_blocked)| *is_blocked);
    let outcomes: Option<Vec<_>> = ended.into_iter().map(|(outcome, _)| outcome).collect();
    outcomes.ok_or(Apart::of(is_blocked))
}
