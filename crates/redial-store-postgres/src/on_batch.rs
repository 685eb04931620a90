//! What a batch says to the database of the records of its calls: one is claimed first and finished after its handler,
//! or written as a whole after it.
//!
//! To write it as a whole takes half the writes. The handler of a call that may not run has run by then, so
//! that all of the batch is undone: that is for calls of which no such thing is expected.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use redial_protocol::{SessionCall, SessionId};
use redial_server::store::{
    Acknowledged, Outcome,
    encoding::{is_acknowledged, session},
};
use tokio_postgres::types::Type;

use crate::{
    connection::{CommitTrouble, Connection, Typed},
    error::Trouble,
    queue::BatchClaim,
    record::{acknowledged, spare},
    store::Shared,
};

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

/// Where the slot of a call is taken, which [`CLAIM`] has locked: it notes the number, and the call gets a slot of its own,
/// as in [`claim`](crate::claim). To update the slot as an insertion that conflicts finds it by its key, as in [`FINISH`];
/// were it not there, -1 would stand for a call that had no effect.
const CLAIM_SPARES: &str = "
WITH spilled AS (
    INSERT INTO redial.slot AS s (session, slot, seq, spill, fingerprint, state, owner)
    SELECT u.session, u.slot, -1, u.seq, '', 0, $5
    FROM unnest($1, $2, $3) AS u (session, slot, seq)
    ON CONFLICT (session, slot) DO UPDATE SET spill = greatest(s.spill, excluded.spill)
    WHERE s.seq <> excluded.spill
    RETURNING s.session, s.slot)
INSERT INTO redial.slot AS s (session, slot, seq, fingerprint, state, owner)
SELECT session, u.spare, u.seq, u.fingerprint, 0, $5
FROM unnest($1, $2, $3, $4, $6) AS u (session, slot, seq, fingerprint, spare)
JOIN spilled USING (session, slot)
ON CONFLICT (session, slot) DO UPDATE SET seq = excluded.seq, fingerprint = excluded.fingerprint,
    state = excluded.state, owner = excluded.owner, method = NULL, params = NULL, reply = NULL
WHERE s.seq < excluded.seq
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

/// The claim and the outcome in one, where each slot is known to be free. Fails where one of the calls can't be claimed
/// all the same, or the epoch is over.
const RECORD: &str = "
WITH recorded AS (
    INSERT INTO redial.slot AS s (session, slot, seq, fingerprint, state, owner, reply)
    SELECT u.session, u.slot, u.seq, u.fingerprint, 1, $6, u.reply
    FROM unnest($1, $2, $3, $4, $5) AS u (session, slot, seq, fingerprint, reply)
    ON CONFLICT (session, slot) DO UPDATE SET seq = excluded.seq, fingerprint = excluded.fingerprint,
        state = excluded.state, owner = excluded.owner, method = NULL, params = NULL, reply = excluded.reply
    WHERE s.seq < excluded.seq AND s.spill < excluded.seq
    RETURNING 1)
SELECT 1 / (((SELECT count(*) FROM recorded) = cardinality($1))::integer * (SELECT count(*)
    FROM redial.server WHERE epoch = $6 AND expires > clock_timestamp()))";

/// Fails where a session is not there, or one of the calls is acknowledged: after [`RECORD`], for the same reason
/// as [`LOOK`]. The first two are the sessions, each with the lowest number of its calls.
const CHECK_SESSIONS: &str = "
SELECT 1 / (count(*) = cardinality($1))::integer FROM unnest($1, $2) AS u (session, lowest)
JOIN redial.session h ON h.id = u.session AND h.dead_since IS NULL
WHERE u.lowest >= h.below OR NOT EXISTS (
    SELECT FROM unnest($3, $4) AS c (session, seq)
    WHERE c.session = h.id AND c.seq < h.below AND c.seq <> ALL (h.open))";

/// The calls of a batch whose records the same statements write, as these take them.
#[derive(Default)]
pub(crate) struct BatchRecords {
    calls: Vec<SessionCall>,
    sessions: Vec<i64>,
    slots: Vec<i64>,
    numbers: Vec<i64>,
    fingerprints: Vec<Vec<u8>>,
}

impl BatchRecords {
    /// Adds a call, with the slot in which its record lies.
    pub(crate) fn push(&mut self, call: SessionCall, slot: i64, fingerprint: u128) {
        self.calls.push(call);
        self.sessions.push(session(call.session));
        self.slots.push(slot);
        self.numbers.push(call.number.cast_signed());
        self.fingerprints.push(fingerprint.to_be_bytes().to_vec());
    }

    /// The sessions, and the lowest number of each.
    fn lowest(&self) -> (Vec<i64>, Vec<i64>) {
        let mut lowest = BTreeMap::new();
        for (session, number) in self.sessions.iter().zip(&self.numbers) {
            let lowest = lowest.entry(*session).or_insert(*number);
            *lowest = (*lowest).min(*number);
        }
        lowest.into_iter().unzip()
    }

    /// Those of them that stand at these places.
    fn select(&self, places: &[usize]) -> Self {
        let mut selected = Self::default();
        for &at in places {
            selected.calls.push(self.calls[at]);
            selected.sessions.push(self.sessions[at]);
            selected.slots.push(self.slots[at]);
            selected.numbers.push(self.numbers[at]);
            selected.fingerprints.push(self.fingerprints[at].clone());
        }
        selected
    }
}

/// What calls of a batch have come to.
#[derive(Default)]
pub(crate) struct BatchOutcomes<'a> {
    pub(crate) records: BatchRecords,
    pub(crate) replies: Vec<&'a [u8]>,
}

/// A batch whose handlers have run, in a transaction that is open.
pub(crate) struct Ran {
    pub(crate) connection: Connection,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Ran {
    /// `None` if a handler has kept the connection.
    pub(crate) fn of(connection: Arc<Connection>, outcomes: Vec<Outcome>) -> Option<Self> {
        Some(Self {
            connection: Arc::into_inner(connection)?,
            outcomes,
        })
    }
}

/// What is known of sessions that have a row, by their ids.
type KnownSessions = HashMap<i64, Acknowledged>;

impl Shared {
    /// Claims calls, in a slot of its own where another that is open lies in a call's slot. `None` if one of them may not
    /// run that is claimed.
    pub(crate) async fn claim_batch(
        &self,
        connection: &Connection,
        records: &BatchRecords,
    ) -> Result<Option<Vec<BatchClaim>>, Trouble> {
        // To save that takes another transaction, and another connection may be had only when this one is free.
        let mut calls = records.calls.iter();
        if calls.any(|call| self.sessions.over(call.session).is_some()) {
            return Ok(None);
        }
        let (claimed, mut known) = self.claim_slots(connection, records).await?;
        let locations = records.sessions.iter().zip(&records.slots);
        let mut claims: Vec<_> = locations
            .map(
                |(session, slot)| match claimed.contains(&(*session, *slot)) {
                    true => BatchClaim::In(*slot),
                    false => BatchClaim::Missing,
                },
            )
            .collect();
        let may_run = |at: &usize, known: &KnownSessions| {
            // One that has ended meanwhile has no row.
            let known = known.get(&records.sessions[*at]);
            known.is_some_and(|known| !is_acknowledged(known, records.calls[*at].number))
        };
        let taken = (0..claims.len()).filter(|at| claims[*at] == BatchClaim::Missing);
        let taken: Vec<_> = taken.filter(|at| may_run(at, &known)).collect();
        if !taken.is_empty() {
            let selected = records.select(&taken);
            let claimed;
            // Of all sessions anew: one may have ended since.
            (claimed, known) = self.claim_spares(connection, selected, records).await?;
            for at in taken {
                let location = (records.sessions[at], spare(records.numbers[at]));
                if claimed.contains(&location) {
                    claims[at] = BatchClaim::In(location.1);
                }
            }
        }
        let mut claimed = (0..claims.len()).filter(|at| claims[*at] != BatchClaim::Missing);
        // One that was claimed too late.
        Ok(claimed.all(|at| may_run(&at, &known)).then_some(claims))
    }

    async fn claim_slots(
        &self,
        connection: &Connection,
        records: &BatchRecords,
    ) -> Result<(HashSet<(i64, i64)>, KnownSessions), Trouble> {
        let epoch = self.epoch();
        let claim: [Typed<'_>; 5] = [
            (&records.sessions, Type::INT8_ARRAY),
            (&records.slots, Type::INT8_ARRAY),
            (&records.numbers, Type::INT8_ARRAY),
            (&records.fingerprints, Type::BYTEA_ARRAY),
            (&epoch, Type::INT8),
        ];
        self.claim_and_look(connection, (CLAIM, &claim), records)
            .await
    }

    /// After [`claim_slots`](Self::claim_slots), which has locked the slots of the calls. What is known afterwards is that of
    /// all sessions.
    async fn claim_spares(
        &self,
        connection: &Connection,
        records: BatchRecords,
        all: &BatchRecords,
    ) -> Result<(HashSet<(i64, i64)>, KnownSessions), Trouble> {
        let epoch = self.epoch();
        let spares: Vec<i64> = records.numbers.iter().copied().map(spare).collect();
        let claim: [Typed<'_>; 6] = [
            (&records.sessions, Type::INT8_ARRAY),
            (&records.slots, Type::INT8_ARRAY),
            (&records.numbers, Type::INT8_ARRAY),
            (&records.fingerprints, Type::BYTEA_ARRAY),
            (&epoch, Type::INT8),
            (&spares, Type::INT8_ARRAY),
        ];
        self.claim_and_look(connection, (CLAIM_SPARES, &claim), all)
            .await
    }

    /// Commits what the calls have come to. Of calls that were not claimed before, one that can't be claimed now has
    /// nothing committed. `begins`: the same commit begins a transaction for another batch.
    pub(crate) async fn commit_batch(
        &self,
        connection: &mut Connection,
        unclaimed: &BatchOutcomes<'_>,
        claimed: &BatchOutcomes<'_>,
        begins: bool,
    ) -> Result<(), CommitTrouble> {
        let epoch = self.epoch();
        let next = self.style.begin_after.as_deref().filter(|_| begins);
        let (new, replies) = (&unclaimed.records, &unclaimed.replies);
        let record: [Typed<'_>; 6] = [
            (&new.sessions, Type::INT8_ARRAY),
            (&new.slots, Type::INT8_ARRAY),
            (&new.numbers, Type::INT8_ARRAY),
            (&new.fingerprints, Type::BYTEA_ARRAY),
            (replies, Type::BYTEA_ARRAY),
            (&epoch, Type::INT8),
        ];
        let (sessions, lowest) = new.lowest();
        let check: [Typed<'_>; 4] = [
            (&sessions, Type::INT8_ARRAY),
            (&lowest, Type::INT8_ARRAY),
            (&new.sessions, Type::INT8_ARRAY),
            (&new.numbers, Type::INT8_ARRAY),
        ];
        let finish: [Typed<'_>; 4] = [
            (&claimed.records.sessions, Type::INT8_ARRAY),
            (&claimed.records.slots, Type::INT8_ARRAY),
            (&claimed.replies, Type::BYTEA_ARRAY),
            (&epoch, Type::INT8),
        ];
        let mut statements: Vec<(&str, &[Typed<'_>])> = Vec::with_capacity(3);
        if !claimed.replies.is_empty() {
            statements.push((FINISH, &finish));
        }
        if !unclaimed.replies.is_empty() {
            statements.extend([(RECORD, &record[..]), (CHECK_SESSIONS, &check[..])]);
        }
        connection.steps = unclaimed.replies.len() + claimed.replies.len();
        connection.commit_and(next, &statements).await
    }

    /// The slots that are claimed by the statement, which returns them, and what is known of the sessions then.
    async fn claim_and_look(
        &self,
        connection: &Connection,
        (claim, params): (&str, &[Typed<'_>]),
        records: &BatchRecords,
    ) -> Result<(HashSet<(i64, i64)>, KnownSessions), Trouble> {
        let look: [Typed<'_>; 1] = [(&records.sessions, Type::INT8_ARRAY)];
        let claiming = connection.prepared(claim, params).await?;
        let looking = connection.prepared(LOOK, &look).await?;
        let (claimed, found) = tokio::join!(
            connection.ready_rows(&claiming, params),
            connection.ready_rows(&looking, &look),
        );
        let claimed = claimed?.into_iter().map(|row| (row.get(0), row.get(1)));
        let claimed = claimed.collect();
        let ids = records.sessions.iter().zip(&records.calls);
        let ids: HashMap<i64, SessionId> = ids.map(|(id, call)| (*id, call.session)).collect();
        let known = found?.into_iter().map(|row| {
            let id = row.get(0);
            let stored = acknowledged(row.get(1), &row.get::<_, Vec<i64>>(2));
            (id, self.sessions.merge(ids[&id], &stored))
        });
        Ok((claimed, known.collect()))
    }
}
