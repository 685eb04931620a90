//! How an id is claimed: with a unique key and never by looking first. `BEGIN`, the claim, and a look at
//! what is there go out together and take one round trip.
//!
//! A call of a session lies in slot `number % SLOTS`, which is used again once the call in it is
//! acknowledged, as the session's row says. A number may be far ahead of one that is still open, so that
//! its slot is taken: it then lies in a slot of its own, and the slot that was taken notes its number
//! (`spill`). Both happen under the lock of that slot, so that a number never lies in two.
//!
//! The look comes after the claim. A slot is used again only after the acknowledgement of its call was
//! committed, so what is claimed by a call that comes too late is seen to be acknowledged then.

use redial_server::store::{Claimed, Resumable};
use tokio_postgres::{Row, types::Type};

use crate::{
    connection::{Connection, Style, Typed},
    error::Trouble,
    record::{Record, RecordLocation, acknowledged},
    sessions::Sessions,
};
use redial_server::store::encoding::is_acknowledged;

/// What is written when an id is claimed.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) location: RecordLocation,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) state: i16,
    /// The server's epoch.
    pub(crate) owner: i64,
    pub(crate) resumable: Option<Resumable>,
    pub(crate) reply: Option<Vec<u8>>,
    /// The id may have been locked before: there is no waiting for it on the connection.
    pub(crate) is_again: bool,
}

/// What came of it. The transaction is open.
#[derive(Debug)]
pub(crate) enum ClaimResult {
    /// The id is claimed by this transaction.
    Mine,
    /// What is not to run.
    Claimed(Claimed),
    /// What is on record.
    Record(Record),
}

const CLAIM_SLOT: &str = "
INSERT INTO redial.slot AS s (session, slot, seq, fingerprint, state, owner, method, params, reply)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
WHERE EXISTS (SELECT FROM redial.session h WHERE h.id = $1 AND h.dead_since IS NULL)
ON CONFLICT (session, slot) DO UPDATE SET seq = excluded.seq, fingerprint = excluded.fingerprint,
    state = excluded.state, owner = excluded.owner, method = excluded.method,
    params = excluded.params, reply = excluded.reply
WHERE s.seq < excluded.seq AND s.spill < excluded.seq AND EXISTS (
    SELECT FROM redial.session h WHERE h.id = excluded.session
    AND s.seq < h.below AND s.seq <> ALL (h.open))
RETURNING true";

/// In a slot of its own; -1 is a call that had no effect.
const CLAIM_SPARE: &str = "
INSERT INTO redial.slot AS s (session, slot, seq, fingerprint, state, owner, method, params, reply)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (session, slot) DO UPDATE SET seq = excluded.seq, fingerprint = excluded.fingerprint,
    state = excluded.state, owner = excluded.owner, method = excluded.method,
    params = excluded.params, reply = excluded.reply
WHERE s.seq < excluded.seq
RETURNING true";

const SPILL: &str =
    "UPDATE redial.slot SET spill = greatest(spill, $3) WHERE session = $1 AND slot = $2";

const CLAIM_PLAIN: &str = "
INSERT INTO redial.plain (id, fingerprint, state, owner, method, params, reply)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING RETURNING true";

impl Claim {
    /// Begins a transaction and claims the id in it.
    pub(crate) async fn make(
        &self,
        connection: &mut Connection,
        style: &Style,
        sessions: &Sessions,
    ) -> Result<ClaimResult, Trouble> {
        connection.enter();
        match &self.location {
            RecordLocation::Session { .. } => self.claim_slot(connection, style, sessions).await,
            RecordLocation::Plain(id) => self.claim_plain(connection, style, id).await,
        }
    }

    async fn claim_slot(
        &self,
        connection: &Connection,
        style: &Style,
        sessions: &Sessions,
    ) -> Result<ClaimResult, Trouble> {
        let RecordLocation::Session {
            session,
            slot,
            spare,
            number,
            ..
        } = &self.location
        else {
            return Err(Trouble::Conflict);
        };
        let params = self.slot_params(session, slot, number);
        let looked = look_params(session, slot, style);
        let look = look();
        let claim = connection.prepared(CLAIM_SLOT, &params).await?;
        let look = connection.prepared(&look, &looked).await?;
        let (begun, claimed, found) = tokio::join!(
            connection.batch_execute(style.begin(self.is_again)),
            connection.ready_rows(&claim, &params),
            connection.ready_rows(&look, &looked),
        );
        begun.map_err(|error| Trouble::of(&error))?;
        match self.judge(!claimed?.is_empty(), found?.pop(), sessions)? {
            ClaimResult::Record(record) if record.number != *number => {}
            result => return Ok(result),
        }
        let spilled: [Typed<'_>; 3] = [
            (session, Type::INT8),
            (slot, Type::INT8),
            (number, Type::INT8),
        ];
        let params = self.slot_params(session, spare, number);
        let looked = look_params(session, spare, style);
        connection.change(SPILL, &spilled).await?;
        let claim = connection.prepared(CLAIM_SPARE, &params).await?;
        let (claimed, found) = tokio::join!(
            connection.ready_rows(&claim, &params),
            connection.ready_rows(&look, &looked),
        );
        self.judge(!claimed?.is_empty(), found?.pop(), sessions)
    }

    /// What a claim and the look after it come to.
    fn judge(
        &self,
        is_mine: bool,
        found: Option<Row>,
        sessions: &Sessions,
    ) -> Result<ClaimResult, Trouble> {
        let (RecordLocation::Session { id, number, .. }, Some(row)) = (&self.location, found)
        else {
            return Ok(ClaimResult::Claimed(Claimed::SessionUnknown));
        };
        let known = acknowledged(row.get(1), &row.get::<_, Vec<i64>>(2));
        let known = sessions.merge(*id, &known);
        if is_acknowledged(&known, number.cast_unsigned()) {
            return Ok(ClaimResult::Claimed(Claimed::Acknowledged));
        }
        if is_mine {
            return Ok(ClaimResult::Mine);
        }
        // Another transaction may have ended in between.
        found_record(&row)
            .map(ClaimResult::Record)
            .ok_or(Trouble::Conflict)
    }

    async fn claim_plain(
        &self,
        connection: &Connection,
        style: &Style,
        id: &Vec<u8>,
    ) -> Result<ClaimResult, Trouble> {
        let look = format!(
            "SELECT {} FROM redial.plain s WHERE s.id = $1",
            Record::COLUMNS
        );
        let (method, params) = self.resumable();
        let claim: [Typed<'_>; 7] = [
            (id, Type::BYTEA),
            (&self.fingerprint, Type::BYTEA),
            (&self.state, Type::INT2),
            (&self.owner, Type::INT8),
            (&method, Type::TEXT),
            (&params, Type::TEXT),
            (&self.reply, Type::BYTEA),
        ];
        let looked: [Typed<'_>; 1] = [(id, Type::BYTEA)];
        let timeout: [Typed<'_>; 1] = [(&style.lock_timeout, Type::TEXT)];
        let reset = "SELECT set_config('lock_timeout', $1, true)";
        let claiming = connection.prepared(CLAIM_PLAIN, &claim).await?;
        let look = connection.prepared(&look, &looked).await?;
        let reset = connection.prepared(reset, &timeout).await?;
        let (begun, claimed, found, reset) = tokio::join!(
            connection.batch_execute(style.begin(self.is_again)),
            connection.ready_rows(&claiming, &claim),
            connection.ready_rows(&look, &looked),
            connection.ready_rows(&reset, &timeout),
        );
        begun.map_err(|error| Trouble::of(&error))?;
        if !claimed?.is_empty() {
            reset?;
            return Ok(ClaimResult::Mine);
        }
        let record = found?.pop().and_then(|row| Record::read(&row, -1, 0));
        // It may have gone in between.
        record.map(ClaimResult::Record).ok_or(Trouble::Conflict)
    }

    fn resumable(&self) -> (Option<&str>, Option<&str>) {
        let resumable = self.resumable.as_ref();
        let method = resumable.map(|resumable| resumable.method.as_str());
        (
            method,
            resumable.and_then(|resumable| resumable.params.as_deref()),
        )
    }

    fn slot_params<'a>(
        &'a self,
        session: &'a i64,
        slot: &'a i64,
        number: &'a i64,
    ) -> [Typed<'a>; 9] {
        const NONE: &Option<String> = &None;
        let (method, params): (&(dyn tokio_postgres::types::ToSql + Sync), _) =
            match &self.resumable {
                Some(resumable) => (&resumable.method, &resumable.params),
                None => (NONE, NONE),
            };
        [
            (session, Type::INT8),
            (slot, Type::INT8),
            (number, Type::INT8),
            (&self.fingerprint, Type::BYTEA),
            (&self.state, Type::INT2),
            (&self.owner, Type::INT8),
            (method, Type::TEXT),
            (params, Type::TEXT),
            (&self.reply, Type::BYTEA),
        ]
    }
}

/// The session and what is in a slot, after the claim; and the database's own `lock_timeout` again.
fn look() -> String {
    format!(
        "SELECT set_config('lock_timeout', $3, true), h.below, h.open, s.seq, {} \
         FROM redial.session h LEFT JOIN redial.slot s ON s.session = h.id AND s.slot = $2 \
         WHERE h.id = $1 AND h.dead_since IS NULL",
        Record::COLUMNS
    )
}

fn look_params<'a>(session: &'a i64, slot: &'a i64, style: &'a Style) -> [Typed<'a>; 3] {
    [
        (session, Type::INT8),
        (slot, Type::INT8),
        (&style.lock_timeout, Type::TEXT),
    ]
}

fn found_record(row: &Row) -> Option<Record> {
    let number = row.get::<_, Option<i64>>(3)?;
    Record::read(row, number, 4)
}
