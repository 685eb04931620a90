//! What a batch says to the database of the records of its calls: they are claimed first and finished after their
//! handlers, or written as a whole after them.
//!
//! To write them as a whole takes half the writes. The handlers of calls that may not run have run by then, so
//! that all of the batch is undone: that is for batches in which no such call is expected.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use redial_protocol::SessionCall;
use redial_server::store::{
    Outcome,
    encoding::{is_acknowledged, session},
};
use tokio_postgres::types::Type;

use crate::{
    connection::{CommitTrouble, Connection, Typed},
    error::Trouble,
    record::acknowledged,
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

/// Where the records of a batch lie, as the statements take them.
#[derive(Default)]
pub(crate) struct BatchLocations {
    calls: Vec<SessionCall>,
    sessions: Vec<i64>,
    slots: Vec<i64>,
    numbers: Vec<i64>,
    fingerprints: Vec<Vec<u8>>,
}

impl BatchLocations {
    /// Adds a call, with the slot that it lies in.
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
}

/// A batch whose handlers have run, in a transaction that is open.
pub(crate) struct Ran {
    pub(crate) connection: Connection,
    pub(crate) outcomes: Vec<Outcome>,
    /// Their calls were claimed before.
    pub(crate) is_claimed: bool,
}

impl Ran {
    /// `None` if a handler has kept the connection.
    pub(crate) fn of(
        connection: Arc<Connection>,
        outcomes: Vec<Outcome>,
        is_claimed: bool,
    ) -> Option<Self> {
        Some(Self {
            connection: Arc::into_inner(connection)?,
            outcomes,
            is_claimed,
        })
    }
}

impl Shared {
    /// The slots that are claimed now. `None` if one of them may not be.
    pub(crate) async fn claim_batch(
        &self,
        connection: &Connection,
        locations: &BatchLocations,
    ) -> Result<Option<HashSet<(i64, i64)>>, Trouble> {
        // To save that takes another transaction, and another connection may be had only when this one is free.
        let mut calls = locations.calls.iter();
        if calls.any(|call| self.sessions.over(call.session).is_some()) {
            return Ok(None);
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
        let claiming = connection.prepared(CLAIM, &claim).await?;
        let looking = connection.prepared(LOOK, &look).await?;
        let (claimed, known) = tokio::join!(
            connection.ready_rows(&claiming, &claim),
            connection.ready_rows(&looking, &look),
        );
        let claimed = claimed?.into_iter().map(|row| (row.get(0), row.get(1)));
        let claimed: HashSet<(i64, i64)> = claimed.collect();
        let known = known?;
        // One that has ended while its calls were claimed has no row.
        let has_row = |session: &i64| known.iter().any(|row| row.get::<_, i64>(0) == *session);
        if !claimed.iter().all(|(session, _)| has_row(session)) {
            return Ok(None);
        }
        for row in known {
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

    /// Commits what the calls have come to. Of calls that were not claimed before, one that can't be claimed now has
    /// nothing committed. `begins`: the same commit begins a transaction for another batch.
    pub(crate) async fn commit_batch(
        &self,
        ran: &mut Ran,
        locations: &BatchLocations,
        begins: bool,
    ) -> Result<(), CommitTrouble> {
        let connection = &mut ran.connection;
        let replies: Vec<&[u8]> = ran.outcomes.iter().map(Outcome::bytes).collect();
        let epoch = self.epoch();
        let next = self.style.begin_after.as_deref().filter(|_| begins);
        connection.steps = ran.outcomes.len();
        if ran.is_claimed {
            let finish: [Typed<'_>; 4] = [
                (&locations.sessions, Type::INT8_ARRAY),
                (&locations.slots, Type::INT8_ARRAY),
                (&replies, Type::BYTEA_ARRAY),
                (&epoch, Type::INT8),
            ];
            return connection.commit_and(next, &[(FINISH, &finish)]).await;
        }
        let record: [Typed<'_>; 6] = [
            (&locations.sessions, Type::INT8_ARRAY),
            (&locations.slots, Type::INT8_ARRAY),
            (&locations.numbers, Type::INT8_ARRAY),
            (&locations.fingerprints, Type::BYTEA_ARRAY),
            (&replies, Type::BYTEA_ARRAY),
            (&epoch, Type::INT8),
        ];
        let (sessions, lowest) = locations.lowest();
        let check: [Typed<'_>; 4] = [
            (&sessions, Type::INT8_ARRAY),
            (&lowest, Type::INT8_ARRAY),
            (&locations.sessions, Type::INT8_ARRAY),
            (&locations.numbers, Type::INT8_ARRAY),
        ];
        connection
            .commit_and(next, &[(RECORD, &record), (CHECK_SESSIONS, &check)])
            .await
    }
}
