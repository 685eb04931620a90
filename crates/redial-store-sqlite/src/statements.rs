//! Redial's own SQL, prepared once. It is not in the connection's cache of statements, where a handler
//! could get at it past the guard.

use redial_protocol::{Principal, SessionCall, SessionId};
use redial_server::store::{Acknowledged, Resumable};
use rusqlite::{Connection, OptionalExtension, Result, Statement, params};

use crate::{
    encoding, owned,
    schema::{FINISHED, GENERATIONS, STARTED},
};

/// See the [module](self).
pub(crate) struct Statements<'c> {
    connection: &'c Connection,
    /// This store's, and the one in the file.
    epoch: Option<i64>,
    get_epoch: Statement<'c>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    savepoint: Statement<'c>,
    undo: Statement<'c>,
    release: Statement<'c>,
    put: Statement<'c>,
    finish: Statement<'c>,
    delete: Statement<'c>,
    get: Statement<'c>,
    open_session: Statement<'c>,
    save_session: Statement<'c>,
    delete_session: Statement<'c>,
    has_session: Statement<'c>,
    probe: Statement<'c>,
    plain: [Option<PlainStatements<'c>>; GENERATIONS],
}

/// Those of one generation.
struct PlainStatements<'c> {
    append: Statement<'c>,
    delete: Statement<'c>,
    get: Statement<'c>,
}

/// A record as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) state: i64,
    pub(crate) fingerprint: u128,
    pub(crate) outcome: Option<&'a [u8]>,
    pub(crate) resumable: Option<&'a Resumable>,
}

impl<'a> Record<'a> {
    pub(crate) fn finished(fingerprint: u128, outcome: &'a [u8]) -> Self {
        Self {
            state: FINISHED,
            fingerprint,
            outcome: Some(outcome),
            resumable: None,
        }
    }

    pub(crate) fn started(fingerprint: u128, resumable: Option<&'a Resumable>) -> Self {
        Self {
            state: STARTED,
            fingerprint,
            outcome: None,
            resumable,
        }
    }

    fn method(&self) -> Option<&str> {
        self.resumable.map(|resumable| resumable.method.as_str())
    }

    fn params(&self) -> Option<&str> {
        self.resumable?.params.as_deref()
    }
}

/// A row of `redial_record` as it is read.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) call: SessionCall,
    pub(crate) state: i64,
    pub(crate) fingerprint: u128,
    pub(crate) outcome: Option<Vec<u8>>,
}

impl<'c> Statements<'c> {
    pub(crate) fn new(connection: &'c Connection, epoch: Option<i64>) -> Result<Self> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            connection,
            epoch,
            get_epoch: prepare("SELECT probes >> 20 FROM redial_meta")?,
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            savepoint: prepare("SAVEPOINT redial_call")?,
            undo: prepare("ROLLBACK TO redial_call")?,
            release: prepare("RELEASE redial_call")?,
            put: prepare(
                "INSERT OR REPLACE INTO redial_record \
                 (slot, session, number, state, fingerprint, outcome, method, params) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            finish: prepare(
                "UPDATE redial_record SET state = 2, outcome = ?2, method = NULL, params = NULL \
                 WHERE slot = ?1",
            )?,
            delete: prepare("DELETE FROM redial_record WHERE slot = ?1")?,
            get: prepare(
                "SELECT session, number, state, fingerprint, outcome FROM redial_record \
                 WHERE slot = ?1",
            )?,
            open_session: prepare(
                "INSERT OR REPLACE INTO redial_session (id, below, open, principal) \
                 VALUES (?1, 0, '[]', ?2)",
            )?,
            save_session: prepare("UPDATE redial_session SET below = ?2, open = ?3 WHERE id = ?1")?,
            delete_session: prepare("DELETE FROM redial_session WHERE id = ?1")?,
            has_session: prepare("SELECT 1 FROM redial_session WHERE id = ?1")?,
            probe: prepare("UPDATE redial_meta SET probes = probes + 1")?,
            plain: [const { None }; GENERATIONS],
        })
    }

    /// Begins a transaction, unless the file belongs to another store now.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.begin.execute([])?;
        let epoch = self.get_epoch.query_row([], |row| row.get(0))?;
        if self.epoch == Some(epoch) {
            Ok(())
        } else {
            Err(owned::taken())
        }
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        self.commit.execute([]).map(drop)
    }

    /// Undoes the transaction, if it is still open.
    pub(crate) fn roll_back(&mut self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK")
    }

    pub(crate) fn savepoint(&mut self) -> Result<()> {
        self.savepoint.execute([]).map(drop)
    }

    pub(crate) fn undo_call(&mut self) -> Result<()> {
        self.undo.execute([])?;
        self.release()
    }

    pub(crate) fn release(&mut self) -> Result<()> {
        self.release.execute([]).map(drop)
    }

    pub(crate) fn put(&mut self, slot: i64, call: SessionCall, record: Record<'_>) -> Result<()> {
        let values = params![
            slot,
            encoding::session(call.session),
            call.number.cast_signed(),
            record.state,
            &record.fingerprint.to_be_bytes()[..],
            record.outcome,
            record.method(),
            record.params(),
        ];
        self.put.execute(values).map(drop)
    }

    pub(crate) fn finish(&mut self, slot: i64, outcome: &[u8]) -> Result<()> {
        self.finish.execute(params![slot, outcome]).map(drop)
    }

    pub(crate) fn delete(&mut self, slot: i64) -> Result<()> {
        self.delete.execute([slot]).map(drop)
    }

    pub(crate) fn get(&mut self, slot: i64) -> Result<Option<Stored>> {
        let stored = self.get.query_row([slot], |row| {
            let session = SessionId::from_bits(row.get::<_, i64>(0)?.cast_unsigned());
            let number = row.get::<_, i64>(1)?.cast_unsigned();
            Ok(Stored {
                call: SessionCall { session, number },
                state: row.get(2)?,
                fingerprint: u128::from_be_bytes(row.get(3)?),
                outcome: row.get(4)?,
            })
        });
        stored.optional()
    }

    pub(crate) fn open_session(&mut self, id: SessionId, owner: Option<&Principal>) -> Result<()> {
        let values = params![encoding::session(id), owner.map(Principal::as_str)];
        self.open_session.execute(values).map(drop)
    }

    pub(crate) fn save_session(&mut self, id: SessionId, known: &Acknowledged) -> Result<()> {
        let values = params![
            encoding::session(id),
            known.below.cast_signed(),
            encoding::open_numbers(known)
        ];
        self.save_session.execute(values).map(drop)
    }

    pub(crate) fn delete_session(&mut self, id: SessionId) -> Result<()> {
        self.delete_session
            .execute([encoding::session(id)])
            .map(drop)
    }

    pub(crate) fn has_session(&mut self, id: SessionId) -> Result<bool> {
        self.has_session.exists([encoding::session(id)])
    }

    /// Changes something of no meaning.
    pub(crate) fn probe(&mut self) -> Result<()> {
        self.probe.execute([]).map(drop)
    }

    /// Appends a row, and returns its number.
    pub(crate) fn append(&mut self, to: usize, key: &[u8], record: Record<'_>) -> Result<i64> {
        let connection = self.connection;
        let values = params![
            key,
            record.state,
            &record.fingerprint.to_be_bytes()[..],
            record.outcome,
            record.method(),
            record.params(),
        ];
        self.plain(to)?.append.execute(values)?;
        Ok(connection.last_insert_rowid())
    }

    pub(crate) fn delete_plain(&mut self, generation: usize, row: i64) -> Result<()> {
        self.plain(generation)?.delete.execute([row]).map(drop)
    }

    /// The state and the fingerprint of a row.
    pub(crate) fn get_plain(&mut self, generation: usize, row: i64) -> Result<Option<(i64, u128)>> {
        let get = &mut self.plain(generation)?.get;
        let found = get.query_row([row], |row| {
            Ok((row.get(0)?, u128::from_be_bytes(row.get(1)?)))
        });
        found.optional()
    }

    /// Empties a generation, which costs SQLite a look at each of its pages.
    pub(crate) fn empty(&mut self, generation: usize) -> Result<()> {
        let sql = format!("DELETE FROM redial_plain_{generation}");
        self.connection.execute(&sql, []).map(drop)
    }

    fn plain(&mut self, generation: usize) -> Result<&mut PlainStatements<'c>> {
        let connection = self.connection;
        let statements = &mut self.plain[generation];
        if statements.is_none() {
            *statements = Some(PlainStatements::new(connection, generation)?);
        }
        Ok(statements.as_mut().expect("it was just prepared"))
    }
}

impl<'c> PlainStatements<'c> {
    fn new(connection: &'c Connection, generation: usize) -> Result<Self> {
        let table = format!("redial_plain_{generation}");
        Ok(Self {
            append: connection.prepare(&format!(
                "INSERT INTO {table} (key, state, fingerprint, outcome, method, params) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            ))?,
            delete: connection.prepare(&format!("DELETE FROM {table} WHERE id = ?1"))?,
            get: connection.prepare(&format!(
                "SELECT state, fingerprint FROM {table} WHERE id = ?1"
            ))?,
        })
    }
}
