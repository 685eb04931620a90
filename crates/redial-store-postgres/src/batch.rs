//! Calls that wait together share a transaction: one claim, one outcome and one commit for all of them, and
//! the handlers in between: side by side where each has one statement, and else one after the other.
//!
//! If anything is out of the ordinary (a handler fails, an id is locked, a commit has no answer), the
//! transaction is undone, and each call of it runs by itself: what a handler wrote is in the
//! transaction, and nowhere else. A batch waits for the locks of others only for a moment, since it holds those of many
//! calls. Where a handler is in the way of others it is tried again as a batch, when what this server does beside it has
//! ended: as calls that each run by themselves they would be in the way of the next batch, and so on for ever.
//!
//! One batch runs at a time. The next one begins while it commits, and the one after that when it has committed: the
//! calls that wait meanwhile share what a transaction costs. Enough of them for a full batch wait no longer.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use redial_protocol::{CallKey, SessionCall};
use redial_server::store::{
    Executed, Outcome, OutcomeKind, StoreCall,
    encoding::{is_acknowledged, session},
    together,
};
use tokio::sync::Notify;
use tokio_postgres::types::Type;

use crate::{
    connection::{Connection, Typed},
    error::Trouble,
    loose::Loose,
    record::{RecordLocation, acknowledged},
    store::{Answer, Shared},
    transaction::{Prepared, Transaction},
};

/// The most calls that share a transaction: each of them waits for all.
const MAX_CALLS: usize = 64;

/// How long a batch waits for the commit of the one before: one that takes longer than a synced commit usually
/// does is held up by something else.
const GATHERING: Duration = Duration::from_millis(50);

/// How often a batch is tried again when others are in its way.
const MOST_BLOCKED: u32 = 5;

const CLAIM: &str = "
INSERT INTO redial.slot AS s (session, slot, seq, fingerprint, state, owner)
SELECT u.session, u.slot, u.seq, u.fingerprint, 0, $5
FROM unnest($1, $2, $3, $4) AS u (session, slot, seq, fingerprint)
WHERE EXISTS (SELECT FROM redial.session h WHERE h.id = u.session AND h.dead_since IS NULL)
ON CONFLICT (session, slot) DO UPDATE SET seq = excluded.seq, fingerprint = excluded.fingerprint,
    state = excluded.state, owner = excluded.owner, method = NULL, params = NULL, reply = NULL
WHERE s.seq < excluded.seq AND s.spill < excluded.seq AND EXISTS (
    SELECT FROM redial.session h WHERE h.id = excluded.session
    AND s.seq < h.below AND s.seq <> ALL (h.open))
RETURNING s.session, s.slot";

/// After the claims: see [`claim`](crate::claim).
const LOOK: &str =
    "SELECT id, below, open FROM redial.session WHERE id = ANY ($1) AND dead_since IS NULL";

/// Fails where the epoch is over. Each row is there, since this transaction has claimed it: a conflict is how it is
/// found by its key, where the planner would read a whole small table to join it.
const FINISH: &str = "
INSERT INTO redial.slot (session, slot, seq, fingerprint, state, owner, reply)
SELECT u.session, u.slot, -1, '', (1 / (SELECT count(*)
    FROM redial.server WHERE epoch = $4 AND expires > clock_timestamp()))::smallint, $4, u.reply
FROM unnest($1, $2, $3) AS u (session, slot, reply)
ON CONFLICT (session, slot) DO UPDATE SET reply = excluded.reply, state = excluded.state";

/// A call that waits for a batch.
pub(crate) struct Waiting {
    call: StoreCall,
    prepared: Prepared,
    answer: Answer<Executed>,
    session: i64,
    slot: i64,
    number: i64,
    /// How often others were in the way of its batch.
    blocked: u32,
}

/// The calls that wait, and whether something works on them.
#[derive(Default)]
pub(crate) struct Batches {
    inner: Mutex<BatchQueue>,
    loose: Arc<Loose>,
    /// Of those, the commits.
    commits: Arc<Loose>,
}

#[derive(Default)]
struct BatchQueue {
    waiting: VecDeque<Waiting>,
    is_running: bool,
}

/// Where the records of a batch lie, as the statements take them.
struct BatchLocations {
    calls: Vec<SessionCall>,
    sessions: Vec<i64>,
    slots: Vec<i64>,
    numbers: Vec<i64>,
    fingerprints: Vec<Vec<u8>>,
}

impl BatchLocations {
    fn of(batch: &[Waiting]) -> Self {
        let calls = batch.iter().filter_map(|waiting| match waiting.call.key {
            Some(CallKey::Session(call)) => Some(call),
            _ => None,
        });
        let fingerprints = batch.iter().map(|it| it.call.fingerprint.to_be_bytes());
        Self {
            calls: calls.collect(),
            sessions: batch.iter().map(|waiting| waiting.session).collect(),
            slots: batch.iter().map(|waiting| waiting.slot).collect(),
            numbers: batch.iter().map(|waiting| waiting.number).collect(),
            fingerprints: fingerprints.map(Vec::from).collect(),
        }
    }
}

impl Waiting {
    /// Whether the call may share a transaction: it is one of a session, and of a method that says so.
    pub(crate) fn is_for(call: &StoreCall, prepared: &Prepared) -> bool {
        prepared.is_batchable() && matches!(call.key, Some(CallKey::Session(_)))
    }

    pub(crate) fn new(call: StoreCall, prepared: Prepared, answer: Answer<Executed>) -> Self {
        let location = call.key.as_ref().map(RecordLocation::of);
        let (session, slot, number) = match location {
            Some(RecordLocation::Session {
                session,
                slot,
                number,
                ..
            }) => (session, slot, number),
            _ => unreachable!("it is a call of a session"),
        };
        Self {
            call,
            prepared,
            answer,
            session,
            slot,
            number,
            blocked: 0,
        }
    }

    fn location(&self) -> (i64, i64) {
        (self.session, self.slot)
    }
}

impl Batches {
    fn lock(&self) -> MutexGuard<'_, BatchQueue> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if something has to [work](Shared::work_on_batches) on it.
    pub(crate) fn push(&self, waiting: Waiting) -> bool {
        let mut inner = self.lock();
        inner.waiting.push_back(waiting);
        if inner.waiting.len() == MAX_CALLS {
            self.commits.look_again();
        }
        !std::mem::replace(&mut inner.is_running, true)
    }

    /// Waits while two batches commit, unless there are calls for a full one.
    async fn gather(&self) {
        let is_full = || self.lock().waiting.len() >= MAX_CALLS;
        self.commits.settle_to(1, GATHERING, is_full).await;
    }

    /// The next batch, with a call of each slot at most.
    fn take(&self) -> Vec<Waiting> {
        let mut inner = self.lock();
        let mut locations = HashSet::new();
        let mut batch = Vec::new();
        while batch.len() < MAX_CALLS
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

    /// For the next batch.
    fn give_back(&self, batch: Vec<Waiting>) {
        let mut inner = self.lock();
        for mut waiting in batch.into_iter().rev() {
            waiting.blocked += 1;
            inner.waiting.push_front(waiting);
        }
    }
}

impl Shared {
    /// Runs batches until nothing waits.
    pub(crate) async fn work_on_batches(self: Arc<Self>) {
        loop {
            self.batches.gather().await;
            let batch = self.batches.take();
            if batch.is_empty() {
                return;
            }
            self.run_batch(batch).await;
        }
    }

    async fn run_batch(self: &Arc<Self>, mut batch: Vec<Waiting>) {
        for waiting in &batch {
            self.note(&waiting.call);
        }
        let (connection, outcomes) = match self.try_batch(&mut batch).await {
            Ok(ran) => ran,
            Err(Apart::Blocked) if batch.iter().all(|it| it.blocked < MOST_BLOCKED) => {
                self.batches.give_back(batch);
                return self.batches.loose.settle().await;
            }
            Err(_) => return self.run_each(batch, false),
        };
        let (shared, loose) = (Arc::clone(self), Loose::one(&self.batches.loose));
        let commit = Loose::one(&self.batches.commits);
        // The next batch may begin meanwhile.
        drop(self.steps.spawn(async move {
            let _until_answered = (loose, commit);
            let locations = BatchLocations::of(&batch);
            match shared.commit_batch(connection, locations, &outcomes).await {
                Ok(()) => together(|| {
                    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                        waiting.answer.give(Ok(Executed::New(outcome)));
                    }
                }),
                Err(trouble) => {
                    let is_unanswered = matches!(trouble, Trouble::Unanswered(_));
                    shared.run_each(batch, is_unanswered);
                }
            }
        }));
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

    /// Claims the calls and runs their handlers, in a transaction that is left open. Those that are not to run leave the batch, and are answered.
    async fn try_batch(self: &Arc<Self>, batch: &mut Vec<Waiting>) -> Ran {
        let connection = self.connection().await;
        let mut connection = connection.map_err(|_| Apart::Alone)?;
        let locations = BatchLocations::of(batch);
        let claimed = self.claim_batch(&mut connection, locations).await;
        let claimed = claimed.ok().flatten().ok_or(Apart::Alone)?;
        let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(batch)
            .into_iter()
            .partition(|waiting| claimed.contains(&waiting.location()));
        *batch = mine;
        // They are on record, or have to wait.
        self.run_each(others, false);
        if batch.len() > 1 && batch.iter().all(|waiting| waiting.prepared.is_single()) {
            run_together(connection, batch).await
        } else {
            run_in_turn(connection, batch).await
        }
    }

    /// The slots that are claimed now. `None` if one of them may not be.
    async fn claim_batch(
        &self,
        connection: &mut Connection,
        locations: BatchLocations,
    ) -> Result<Option<HashSet<(i64, i64)>>, Trouble> {
        for call in &locations.calls {
            self.end_session(connection, call.session).await?;
        }
        let epoch = self.epoch();
        let claim: [Typed<'_>; 5] = [
            (&locations.sessions, Type::INT8_ARRAY),
            (&locations.slots, Type::INT8_ARRAY),
            (&locations.numbers, Type::INT8_ARRAY),
            (&locations.fingerprints, Type::BYTEA_ARRAY),
            (&epoch, Type::INT8),
        ];
        let look: [Typed<'_>; 1] = [(&locations.sessions, Type::INT8_ARRAY)];
        connection.enter();
        let claiming = connection.prepared(CLAIM, &claim).await?;
        let looking = connection.prepared(LOOK, &look).await?;
        let (begun, claimed, known) = tokio::join!(
            connection.batch_execute(&self.style.begin_batch),
            connection.ready_rows(&claiming, &claim),
            connection.ready_rows(&looking, &look),
        );
        begun.map_err(|error| Trouble::of(&error))?;
        let claimed = claimed?.into_iter().map(|row| (row.get(0), row.get(1)));
        let claimed: HashSet<(i64, i64)> = claimed.collect();
        for row in known? {
            let (id, below, open): (i64, i64, Vec<i64>) = (row.get(0), row.get(1), row.get(2));
            let stored = acknowledged(below, &open);
            let mut known = None;
            let mine = locations.calls.iter().zip(&locations.slots);
            let mut mine = mine.filter(|(call, slot)| {
                session(call.session) == id && claimed.contains(&(id, **slot))
            });
            // One that was claimed too late.
            if mine.any(|(call, _)| {
                let known = known.get_or_insert_with(|| self.sessions.merge(call.session, &stored));
                is_acknowledged(known, call.number)
            }) {
                return Ok(None);
            }
        }
        Ok(Some(claimed))
    }

    async fn commit_batch(
        &self,
        mut connection: Connection,
        locations: BatchLocations,
        outcomes: &[Outcome],
    ) -> Result<(), Trouble> {
        let replies: Vec<&[u8]> = outcomes.iter().map(Outcome::bytes).collect();
        let epoch = self.epoch();
        connection.steps = outcomes.len();
        let finish: [Typed<'_>; 4] = [
            (&locations.sessions, Type::INT8_ARRAY),
            (&locations.slots, Type::INT8_ARRAY),
            (&replies, Type::BYTEA_ARRAY),
            (&epoch, Type::INT8),
        ];
        Ok(connection.commit_with(FINISH, &finish).await?)
    }
}

type Ran = Result<(Connection, Vec<Outcome>), Apart>;

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

/// Runs the handlers one after the other.
async fn run_in_turn(connection: Connection, batch: &mut [Waiting]) -> Ran {
    let mut transaction = Transaction::new(connection);
    let mut outcomes = Vec::with_capacity(batch.len());
    for waiting in batch {
        let outcome = waiting.prepared.run(&mut transaction, &waiting.call).await;
        if transaction.has_trouble() || outcome.kind() != OutcomeKind::Result {
            // With the connection it is undone.
            return Err(Apart::of(transaction.is_blocked()));
        }
        outcomes.push(outcome);
    }
    let (connection, _) = transaction.into_parts();
    Ok((connection, outcomes))
}

/// Runs them side by side, so that their statements go out together, in the order of the batch: each has one at
/// most, so that it comes to the same. If one has a second, all of it is undone.
async fn run_together(connection: Connection, batch: &mut [Waiting]) -> Ran {
    let (connection, crossed) = (Arc::new(connection), Arc::new(Notify::new()));
    let running = batch.iter_mut().map(|waiting| {
        let mut transaction = Transaction::beside(&connection, &waiting.prepared, &crossed);
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
    let connection = Arc::into_inner(connection);
    connection.zip(outcomes).ok_or(Apart::of(is_blocked))
}
