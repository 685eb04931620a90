//! What the steps of a call say to the database of its record, once it is claimed.

use tokio_postgres::types::Type;

use crate::{
    claim::{Claim, ClaimResult},
    connection::{CommitTrouble, Connection, Typed},
    error::Trouble,
    record::{RecordLocation, STARTED},
};

/// Fails where the epoch is over, so that the `COMMIT` behind it commits nothing.
pub(crate) const CHECK: &str = "SELECT 1 / (SELECT count(*) FROM redial.server \
    WHERE epoch = $1 AND expires > clock_timestamp())";

/// The same with the outcome, in the slot where the call lies.
const FINISH_SLOT: &str = "UPDATE redial.slot SET reply = $5, state = (1 / (SELECT count(*) \
    FROM redial.server WHERE epoch = $6 AND expires > clock_timestamp()))::smallint \
    WHERE session = $1 AND slot IN ($2, $3) AND seq = $4";

const FINISH_PLAIN: &str = "UPDATE redial.plain SET reply = $2, since = clock_timestamp(), \
    state = (1 / (SELECT count(*) FROM redial.server \
    WHERE epoch = $3 AND expires > clock_timestamp()))::smallint WHERE id = $1";

/// So that the transaction is one that has written, and its commit waits for what that waits for.
const LOCK_SLOT: &str = "SELECT FROM redial.slot \
    WHERE session = $1 AND slot IN ($2, $3) AND seq = $4 FOR KEY SHARE";
const LOCK_PLAIN: &str = "SELECT FROM redial.plain WHERE id = $1 FOR KEY SHARE";

const TAKE_SLOT: &str = "UPDATE redial.slot SET owner = $5 \
    WHERE session = $1 AND slot IN ($2, $3) AND seq = $4 AND state = 0 AND owner = $6";
const TAKE_PLAIN: &str =
    "UPDATE redial.plain SET owner = $2 WHERE id = $1 AND state = 0 AND owner = $3";

pub(crate) fn location_params(location: &RecordLocation) -> Vec<Typed<'_>> {
    match location {
        RecordLocation::Session {
            session,
            slot,
            spare,
            number,
            ..
        } => vec![
            (session, Type::INT8),
            (slot, Type::INT8),
            (spare, Type::INT8),
            (number, Type::INT8),
        ],
        RecordLocation::Plain(id) => vec![(id, Type::BYTEA)],
    }
}

/// Ends the transaction of a claim that came to nothing, before anyone hears what it has found.
///
/// A primary that has crashed and recovered shows what it had committed for itself alone, while its standby may
/// not have it and become the primary next. So what is on record is answered when this transaction is as
/// durable as that of the record has to be: it has locked the record, and its commit comes later.
pub(crate) async fn leave(
    connection: &mut Connection,
    claim: &Claim,
    result: &ClaimResult,
) -> Result<(), Trouble> {
    let ClaimResult::Record(record) = result else {
        return connection.roll_back().await;
    };
    if record.state == STARTED {
        return connection.roll_back().await;
    }
    // The claim of a slot has locked it.
    if let RecordLocation::Plain(_) = &claim.location {
        lock(connection, &claim.location).await?;
    }
    connection.commit().await
}

pub(crate) async fn lock(
    connection: &Connection,
    location: &RecordLocation,
) -> Result<(), Trouble> {
    let sql = match location {
        RecordLocation::Session { .. } => LOCK_SLOT,
        RecordLocation::Plain(_) => LOCK_PLAIN,
    };
    connection.change(sql, &location_params(location)).await?;
    Ok(())
}

/// The outcome and the commit.
pub(crate) async fn finish(
    connection: &mut Connection,
    location: &RecordLocation,
    reply: &[u8],
    epoch: i64,
) -> Result<(), CommitTrouble> {
    let mut params = location_params(location);
    params.push((&reply, Type::BYTEA));
    params.push((&epoch, Type::INT8));
    let sql = match location {
        RecordLocation::Session { .. } => FINISH_SLOT,
        RecordLocation::Plain(_) => FINISH_PLAIN,
    };
    connection.commit_with(&[(sql, &params)]).await
}

/// Takes over a call that was started; false if its record has changed.
pub(crate) async fn take(
    connection: &Connection,
    location: &RecordLocation,
    epoch: i64,
    from: i64,
) -> Result<bool, Trouble> {
    let mut params = location_params(location);
    params.push((&epoch, Type::INT8));
    params.push((&from, Type::INT8));
    let sql = match location {
        RecordLocation::Session { .. } => TAKE_SLOT,
        RecordLocation::Plain(_) => TAKE_PLAIN,
    };
    Ok(connection.change(sql, &params).await? == 1)
}
