//! Calls that wait together share a transaction: their handlers run in it, side by side where each has one statement,
//! and else one after the other; then one statement writes their records, and one commit makes it all durable. Calls
//! whose slots may not be free are claimed before the handlers run, and their records finished in the end.
//!
//! Where one of the others turns out to be on record already, the transaction is undone, and that batch and some of the next
//! claim all their calls (see [`doubt`](crate::doubt)), so that such calls leave their batch.
//!
//! If anything else is out of the ordinary (a handler fails, an id is locked, a commit has no answer), the
//! transaction is undone, and each call of it runs by itself: what a handler wrote is in the
//! transaction, and nowhere else. A batch waits for the locks of others only for a moment, since it holds those of many
//! calls. Where a handler is in the way of others it is tried again as a batch, when what this server does beside it has
//! ended: as calls that each run by themselves they would be in the way of the next batch, and so on for ever.
//!
//! The handlers of one batch run at a time, while the one before commits: no two batches that run wait for rows of each
//! other.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use futures_util::future::join_all;
use redial_server::store::{Executed, Outcome, OutcomeKind, together};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    clock::now,
    connection::Connection,
    error::Trouble,
    loose::Loose,
    on_batch::{BatchOutcomes, BatchRecords, Ran},
    queue::{BatchClaim, Waiting},
    store::Shared,
    transaction::Transaction,
};

/// How often a batch is tried again when others are in its way.
const MOST_BLOCKED: u32 = 5;

/// What the calls have come to: those that were not claimed before, and those that were.
fn split<'a>(batch: &[Waiting], outcomes: &'a [Outcome]) -> [BatchOutcomes<'a>; 2] {
    let mut all = <[BatchOutcomes<'_>; 2]>::default();
    for (waiting, outcome) in batch.iter().zip(outcomes) {
        let (of, slot) = match waiting.claim {
            BatchClaim::In(slot) => (&mut all[1], slot),
            _ => (&mut all[0], waiting.slot()),
        };
        of.records.push(waiting.key, slot, waiting.call.fingerprint);
        of.replies.push(outcome.bytes());
    }
    all
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
        while let Some(batch) = self.batches.next().await {
            let connection = self.next_transaction().await;
            // While this one runs, for the next.
            let begins = async {
                if !self.may_chain() && self.batches.are_many() {
                    let since = now();
                    if let Ok(connection) = self.begin_batch().await {
                        self.batches.keep(connection, since, false);
                    }
                }
            };
            tokio::join!(self.run_batch(connection, batch), begins);
        }
    }

    /// Whether a commit may begin another transaction.
    fn may_chain(&self) -> bool {
        self.style.begin_after.is_some() && self.pools.keeps_statements.load(Relaxed)
    }

    /// One that has begun, or one that begins. If no connection is free, a commit may bring it.
    async fn next_transaction(&self) -> Result<Connection, Trouble> {
        let mut beginning = pin!(self.begin_batch());
        loop {
            if let Some(connection) = self.batches.begun() {
                return Ok(connection);
            }
            tokio::select! {
                begun = &mut beginning => {
                    self.batches.has_begun();
                    return begun;
                }
                () = self.batches.kept() => {}
            }
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
        let may_begin =
            self.may_chain() && ran.connection.may_begin_again() && !self.is_connection_wanted();
        let committing = self.batches.commit(batch.len(), may_begin);
        // The next batch may begin meanwhile.
        drop(self.steps.spawn(async move {
            let _loose = loose;
            shared.end_batch(batch, ran, committing.begins).await;
            drop(committing);
        }));
    }

    /// `begins`: the commit is to begin a transaction for another batch.
    async fn end_batch(self: &Arc<Self>, batch: Vec<Waiting>, ran: Ran, begins: bool) {
        let Ran {
            mut connection,
            outcomes,
        } = ran;
        let [unclaimed, claimed] = split(&batch, &outcomes);
        let is_claimed = unclaimed.replies.is_empty();
        // Before the commit that begins it.
        let since = now();
        let committed = self
            .commit_batch(&mut connection, &unclaimed, &claimed, begins)
            .await;
        let committed = committed.map_err(Trouble::from);
        if committed.is_ok() && begins {
            let is_wanted = self.is_connection_wanted();
            self.batches.keep(connection, since, is_wanted);
        } else {
            drop(connection);
        }
        match committed {
            Ok(()) => {
                if !is_claimed {
                    self.batches.settle_doubt();
                }
                together(|| {
                    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                        waiting.answer.give(Ok(Executed::New(outcome)));
                    }
                });
            }
            // One of them may not run, unless this server may write nothing: their claims will tell.
            Err(Trouble::Fenced) if !is_claimed => {
                self.batches.arise_doubt();
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

    /// Runs the handlers in the transaction, which is left open. Calls whose slots may not be free are claimed before; if
    /// there is doubt, all of them.
    async fn try_batch(
        self: &Arc<Self>,
        connection: Connection,
        batch: &mut Vec<Waiting>,
    ) -> Result<Ran, Apart> {
        let is_doubted = self.batches.claims_first();
        for waiting in &mut *batch {
            let is_free = !is_doubted && self.sessions.is_slot_free(waiting.key);
            waiting.claim = if is_free {
                BatchClaim::None
            } else {
                BatchClaim::Missing
            };
        }
        if batch.iter().any(Waiting::lacks_claim) {
            self.claim_some(&connection, batch).await?;
        }
        let connection = Arc::new(connection);
        let outcomes = run(&connection, batch).await?;
        Ran::of(connection, outcomes).ok_or(Apart::Alone)
    }

    /// Claims those that need it. If they are not to run, they leave the batch, and are answered.
    async fn claim_some(
        self: &Arc<Self>,
        connection: &Connection,
        batch: &mut Vec<Waiting>,
    ) -> Result<(), Apart> {
        let mut records = BatchRecords::default();
        for waiting in batch.iter().filter(|it| it.lacks_claim()) {
            records.push(waiting.key, waiting.slot(), waiting.call.fingerprint);
        }
        let claims = self.claim_batch(connection, &records).await;
        let claims = claims.ok().flatten().ok_or(Apart::Alone)?;
        let claimed = batch.iter_mut().filter(|it| it.lacks_claim());
        for (waiting, claim) in claimed.zip(claims) {
            waiting.claim = claim;
        }
        // They are on record, or have to wait.
        let others = batch.extract_if(.., |waiting| waiting.lacks_claim());
        self.run_each(others.collect(), false);
        if batch.is_empty() {
            return Err(Apart::Alone);
        }
        Ok(())
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
