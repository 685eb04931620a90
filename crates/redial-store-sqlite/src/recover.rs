//! What a file says when it is opened: to the writer, where records lie; to the server, all of them.

use std::collections::HashMap;

use redial_protocol::{CallKey, Principal, SessionCall, SessionId};
use redial_server::store::{Acknowledged, Recovered, RecoveredState, Resumable};
use rusqlite::{Connection, Result, Row, ffi};

use crate::{
    encoding::{acknowledged, is_acknowledged, key_of},
    memory::{Memory, State},
    plain::{self, Plain},
    schema::{FENCED, FINISHED, GENERATIONS, STARTED},
};

/// Reads what the writer has to know.
pub(crate) fn load(connection: &Connection, plain: Plain) -> Result<Memory> {
    let mut memory = Memory::default();
    memory.plain = plain;
    for (id, known, _) in sessions(connection)? {
        memory.recover_session(id, known);
    }
    let mut rows = connection.prepare(
        "SELECT slot, session, number, state, method IS NOT NULL FROM redial_record ORDER BY slot",
    )?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let call = call_of(row, 1)?;
        let state = state_of(row.get(3)?, row.get(4)?)?;
        let session = memory.sessions.get(&call.session);
        let counts =
            session.is_some_and(|session| !is_acknowledged(&session.acknowledged, call.number));
        let record = counts.then_some((call.session, call.number, state));
        memory.recover_slot(row.get(0)?, record);
    }
    load_plain(connection, &mut memory.plain)?;
    Ok(memory)
}

/// The generations, and the calls in them that have not ended.
fn load_plain(connection: &Connection, plain: &mut Plain) -> Result<()> {
    let mut has_rows = [false; GENERATIONS];
    for (generation, has_rows) in has_rows.iter_mut().enumerate() {
        let table = format!("redial_plain_{generation}");
        *has_rows = connection
            .prepare(&format!("SELECT 1 FROM {table}"))?
            .exists([])?;
        let mut rows = connection.prepare(&format!(
            "SELECT id, key, method IS NOT NULL FROM {table} WHERE state = {STARTED}"
        ))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let key = row.get_ref(1)?.as_blob()?.into();
            let state = State::Interrupted {
                is_resumable: row.get(2)?,
            };
            let row = plain::Row {
                generation,
                row: row.get(0)?,
                state,
            };
            plain.started.insert(key, row);
        }
    }
    plain.recover(has_rows);
    Ok(())
}

/// Gives all sessions, and then all records.
pub(crate) fn read_all(
    connection: &Connection,
    recovered: &mut dyn FnMut(Recovered),
) -> Result<()> {
    let mut known = HashMap::new();
    for (session, acknowledged, owner) in sessions(connection)? {
        known.insert(session, acknowledged.clone());
        recovered(Recovered::Session {
            session,
            owner,
            acknowledged,
        });
    }
    let mut rows = connection.prepare(
        "SELECT session, number, fingerprint, state, outcome, method, params FROM redial_record",
    )?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let call = call_of(row, 0)?;
        let session = known.get(&call.session);
        if session.is_some_and(|known| !is_acknowledged(known, call.number)) {
            recovered(record(row, CallKey::Session(call), 2)?);
        }
    }
    for generation in 0..GENERATIONS {
        let mut rows = connection.prepare(&format!(
            "SELECT key, fingerprint, state, outcome, method, params FROM redial_plain_{generation}"
        ))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let key = key_of(row.get_ref(0)?.as_blob()?).ok_or_else(damaged)?;
            recovered(record(row, key, 1)?);
        }
    }
    Ok(())
}

/// A record whose fingerprint, state, outcome, method and params are the columns from `at` on.
fn record(row: &Row<'_>, key: CallKey, at: usize) -> Result<Recovered> {
    let state = match row.get::<_, i64>(at + 1)? {
        FINISHED => RecoveredState::Finished(row.get(at + 2)?),
        FENCED => RecoveredState::Fenced,
        STARTED => {
            let method: Option<String> = row.get(at + 3)?;
            let params = row.get(at + 4)?;
            RecoveredState::Started(method.map(|method| Resumable { method, params }))
        }
        _ => return Err(damaged()),
    };
    Ok(Recovered::Record {
        key,
        fingerprint: u128::from_be_bytes(row.get(at)?),
        state,
    })
}

/// Each session, what it has acknowledged, and whose it is.
fn sessions(connection: &Connection) -> Result<Vec<(SessionId, Acknowledged, Option<Principal>)>> {
    let mut rows = connection.prepare("SELECT id, below, open, principal FROM redial_session")?;
    let rows = rows.query_and_then([], |row| {
        let id = SessionId::from_bits(row.get::<_, i64>(0)?.cast_unsigned());
        let known = acknowledged(row.get(1)?, row.get_ref(2)?.as_str()?);
        let owner = row.get_ref(3)?.as_str_or_null()?.map(Principal::new);
        let owner = owner.transpose().map_err(|_| damaged())?;
        Ok((id, known.ok_or_else(damaged)?, owner))
    })?;
    rows.collect()
}

fn call_of(row: &Row<'_>, at: usize) -> Result<SessionCall> {
    Ok(SessionCall {
        session: SessionId::from_bits(row.get::<_, i64>(at)?.cast_unsigned()),
        number: row.get::<_, i64>(at + 1)?.cast_unsigned(),
    })
}

fn state_of(state: i64, is_resumable: bool) -> Result<State> {
    match state {
        STARTED => Ok(State::Interrupted { is_resumable }),
        FINISHED => Ok(State::Finished),
        FENCED => Ok(State::Fenced),
        _ => Err(damaged()),
    }
}

/// SQLite can read the row, but Redial didn't write it.
fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        ffi::Error::new(ffi::SQLITE_CORRUPT),
        Some("a row of Redial's tables makes no sense".to_owned()),
    )
}
