//! What lies in the tables, for tests: all sessions, and every record but those of calls that run at
//! another server now.

use redial_protocol::{CallKey, Principal, PrincipalError, SessionCall, SessionId};
use redial_server::store::{Recovered, StoreError};

use crate::{
    error::Trouble,
    record::{Record, STARTED, acknowledged},
    store::Shared,
};
use redial_server::store::encoding::key_of;

pub(crate) async fn read_all(shared: &Shared) -> Result<Vec<Recovered>, Trouble> {
    let connection = shared.connection().await?;
    let mut all = Vec::new();
    let sessions = "SELECT id, owner, below, open FROM redial.session WHERE dead_since IS NULL";
    for row in connection.rows(sessions, &[]).await? {
        let session = SessionId::from_bits(row.get::<_, i64>(0).cast_unsigned());
        let owner: Option<String> = row.get(1);
        let owner = owner.as_deref().map(Principal::new).transpose();
        // Without an owner it would be that of all callers without a principal.
        let owner = owner.map_err(|error| damaged(session, &error))?;
        all.push(Recovered::Session {
            session,
            owner,
            acknowledged: acknowledged(row.get(2), &row.get::<_, Vec<i64>>(3)),
        });
    }
    let slots = format!(
        "SELECT s.session, s.seq, {} FROM redial.slot s JOIN redial.session h ON h.id = s.session \
         WHERE h.dead_since IS NULL AND s.seq >= 0 AND (s.seq >= h.below OR s.seq = ANY (h.open))",
        Record::COLUMNS
    );
    for row in connection.rows(&slots, &[]).await? {
        let call = SessionCall {
            session: SessionId::from_bits(row.get::<_, i64>(0).cast_unsigned()),
            number: row.get::<_, i64>(1).cast_unsigned(),
        };
        all.extend(record(CallKey::Session(call), Record::read(&row, -1, 2)));
    }
    let plain = format!("SELECT s.id, {} FROM redial.plain s", Record::COLUMNS);
    for row in connection.rows(&plain, &[]).await? {
        if let Some(key) = key_of(row.get(0)) {
            all.extend(record(key, Record::read(&row, -1, 1)));
        }
    }
    Ok(all)
}

fn damaged(session: SessionId, error: &PrincipalError) -> Trouble {
    let text = format!("the owner of session {session} in redial.session is damaged: {error}");
    Trouble::Fatal(StoreError::nothing_done(text))
}

fn record(key: CallKey, record: Option<Record>) -> Option<Recovered> {
    let record = record.filter(|record| record.state != STARTED || !record.is_owner_alive)?;
    let (fingerprint, state) = record.recovered();
    Some(Recovered::Record {
        key,
        fingerprint,
        state,
    })
}
