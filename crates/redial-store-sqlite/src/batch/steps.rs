//! What each kind of job does in its batch's transaction.

use redial_protocol::{CallKey, Principal, SessionCall, SessionId};
use redial_server::store::{
    Acknowledged, Begun, Claimed, Executed, Fenced, Intent, Outcome, OutcomeKind, StoreCall,
    StoreError,
};

use super::{Batch, BatchError, Breach, How, Witness};
use crate::{
    encoding::{is_acknowledged, plain_key},
    error::is_storage_failure,
    memory::{Live, State},
    plain::Row,
    queue::{Job, Reply},
    schema::{FENCED, FINISHED, STARTED},
    statements::Record,
    transaction::Prepared,
};

type Step<T> = Result<T, BatchError>;

/// Whether an id may be claimed.
enum Claim {
    Free,
    Taken(Claimed),
    /// Its handler ran in an earlier process, and may run again.
    Resumable,
    /// Its handler runs in this process; the table in front joins such calls.
    Running,
}

/// How many slots saving acknowledgements has to make free.
const SAVE_SLOTS: usize = 32;

impl Batch<'_, '_> {
    pub(super) fn step(&mut self, job: &mut Job, how: How) -> Step<Result<Reply, StoreError>> {
        match job {
            Job::Execute(call, prepared, _) => self.execute(call, prepared, how),
            Job::Begin(call, intent, _) => self.begin(call, intent),
            Job::Finish(key, outcome, _) => self.finish(key, outcome.as_deref()),
            Job::Fence(key, _) => self.fence(key),
            Job::Open(session, owner, _) => self.open(*session, owner.as_ref()),
            Job::Forget(session) => self.forget(*session),
            Job::Acknowledge(session, acknowledged) => {
                self.memory.acknowledge(*session, acknowledged);
                Ok(Ok(Reply::Done))
            }
        }
    }

    fn execute(
        &mut self,
        call: &StoreCall,
        prepared: &mut Prepared,
        how: How,
    ) -> Step<Result<Reply, StoreError>> {
        let claim = match &call.key {
            Some(key) => self.claim(key, call.fingerprint, Some(&call.acknowledged))?,
            None => Claim::Free,
        };
        match claim {
            Claim::Free => {}
            Claim::Taken(claimed) => return Ok(Ok(Reply::Executed(Executed::Claimed(claimed)))),
            Claim::Resumable => {
                return Ok(Ok(Reply::Executed(Executed::Claimed(Claimed::Interrupted))));
            }
            Claim::Running => return Ok(Err(running())),
        }
        let outcome = self.run_handler(call, prepared, how)?;
        Ok(Ok(self.record(call, outcome)?))
    }

    /// Runs a handler. Unless it has a result, what it wrote is undone.
    fn run_handler(
        &mut self,
        call: &StoreCall,
        prepared: &mut Prepared,
        how: How,
    ) -> Step<Outcome> {
        let has_savepoint = how == How::Savepoints || prepared.failures.are_likely();
        if has_savepoint {
            self.statements.savepoint()?;
        }
        let connection = self.connection;
        let before = connection.total_changes();
        let outcome = self.guard.handler(|| prepared.run(connection, call));
        let is_kept = outcome.kind() == OutcomeKind::Result;
        if !is_kept && is_storage_failure(outcome.bytes()) {
            return Err(BatchError::Breaks(Breach::Storage(outcome)));
        }
        if connection.is_autocommit() {
            return Err(BatchError::Breaks(Breach::RolledBack(outcome)));
        }
        let has_undo = !is_kept && connection.total_changes() != before;
        prepared.failures.count(has_undo);
        match (has_savepoint, is_kept) {
            (true, true) => self.statements.release()?,
            (true, false) => self.statements.undo_call()?,
            (false, _) if has_undo => return Err(BatchError::NeedsSavepoints),
            (false, _) => {}
        }
        Ok(outcome)
    }

    /// Records what a call came to, unless it had no effect or has no name.
    pub(super) fn record(&mut self, call: &StoreCall, outcome: Outcome) -> rusqlite::Result<Reply> {
        if let Some(key) = &call.key
            && outcome.kind() != OutcomeKind::NoEffect
        {
            let record = Record::finished(call.fingerprint, outcome.bytes());
            self.put(key, record, State::Finished)?;
        }
        Ok(Reply::Executed(Executed::New(outcome)))
    }

    /// Writes a record that was not there.
    fn put(&mut self, key: &CallKey, record: Record<'_>, state: State) -> rusqlite::Result<()> {
        if let CallKey::Session(call) = *key {
            let slot = self.slot()?;
            self.statements.put(slot, call, record)?;
            let live = Live { slot, state };
            self.memory.record(call.session, call.number, live);
            self.wrote(|| Witness::Slot {
                slot,
                call,
                state: record.state,
            });
            return Ok(());
        }
        let key = plain_key(key).unwrap_or_default();
        let generation = self.memory.plain.append();
        let row = self.statements.append(generation, &key, record)?;
        self.wrote(|| Witness::Plain {
            generation,
            row,
            state: record.state,
            fingerprint: record.fingerprint,
        });
        if state == State::Running {
            let row = Row {
                generation,
                row,
                state,
            };
            self.memory.start_plain(key.into_boxed_slice(), row);
        }
        Ok(())
    }

    /// A free slot. Rather than let the file grow, acknowledgements are saved.
    fn slot(&mut self) -> rusqlite::Result<i64> {
        if self.memory.should_save() {
            self.save(SAVE_SLOTS)?;
        }
        Ok(self.memory.take_slot())
    }

    /// Saves acknowledgements until so many slots are free, or all are saved.
    pub(crate) fn save(&mut self, slots: usize) -> rusqlite::Result<()> {
        while self.memory.free_slots() < slots {
            let Some(id) = self.memory.next_unsaved() else {
                break;
            };
            let Some(session) = self.memory.sessions.get(&id) else {
                continue;
            };
            self.statements.save_session(id, &session.acknowledged)?;
            self.memory.saved(id);
        }
        Ok(())
    }

    fn wrote(&mut self, witness: impl FnOnce() -> Witness) {
        self.witness.get_or_insert_with(witness);
    }

    fn begin(&mut self, call: &StoreCall, intent: &Intent) -> Step<Result<Reply, StoreError>> {
        let Some(key) = &call.key else {
            return Ok(Ok(Reply::Begun(Begun::Start)));
        };
        match self.claim(key, call.fingerprint, Some(&call.acknowledged))? {
            Claim::Free => {
                let record = Record::started(call.fingerprint, intent.resumable.as_ref());
                self.put(key, record, State::Running)?;
            }
            Claim::Resumable => self.resume(key),
            Claim::Running => return Ok(Err(running())),
            Claim::Taken(claimed) => return Ok(Ok(Reply::Begun(Begun::Claimed(claimed)))),
        }
        Ok(Ok(Reply::Begun(Begun::Start)))
    }

    /// The intent is in the file already.
    fn resume(&mut self, key: &CallKey) {
        if let CallKey::Session(call) = key {
            self.memory
                .change(call.session, call.number, State::Running);
        } else if let Some(key) = plain_key(key)
            && let Some(row) = self.memory.plain.started.get(&*key).copied()
        {
            self.memory.end_plain(&key);
            let row = Row {
                state: State::Running,
                ..row
            };
            self.memory.start_plain(key.into_boxed_slice(), row);
        }
    }

    fn finish(&mut self, key: &CallKey, outcome: Option<&[u8]>) -> Step<Result<Reply, StoreError>> {
        match key {
            CallKey::Session(call) => self.finish_in_session(*call, outcome)?,
            _ => self.finish_plain(&plain_key(key).unwrap_or_default(), outcome)?,
        }
        Ok(Ok(Reply::Done))
    }

    fn finish_in_session(&mut self, call: SessionCall, outcome: Option<&[u8]>) -> Step<()> {
        let session = self.memory.sessions.get(&call.session);
        let live = session.and_then(|session| session.live.get(&call.number));
        // Its session may be gone, or its client may have acknowledged it without waiting.
        let Some(Live {
            slot,
            state: State::Running | State::Interrupted { .. },
        }) = live.copied()
        else {
            return Ok(());
        };
        if let Some(outcome) = outcome {
            self.statements.finish(slot, outcome)?;
            self.memory
                .change(call.session, call.number, State::Finished);
            self.wrote(|| Witness::Slot {
                slot,
                call,
                state: FINISHED,
            });
        } else {
            self.statements.delete(slot)?;
            self.memory.remove(call.session, call.number);
            self.wrote(|| Witness::NoSlot(slot));
        }
        Ok(())
    }

    /// The record moves to the current generation: its time begins now.
    fn finish_plain(&mut self, key: &[u8], outcome: Option<&[u8]>) -> Step<()> {
        let Some(row) = self.memory.plain.started.get(key).copied() else {
            return Ok(());
        };
        let stored = self.statements.get_plain(row.generation, row.row)?;
        self.statements.delete_plain(row.generation, row.row)?;
        self.memory.end_plain(key);
        if let (Some(outcome), Some((_, fingerprint))) = (outcome, stored) {
            let to = self.memory.plain.append();
            let record = Record::finished(fingerprint, outcome);
            self.statements.append(to, key, record)?;
        }
        self.wrote(|| Witness::NoPlain {
            generation: row.generation,
            row: row.row,
        });
        Ok(())
    }

    fn fence(&mut self, key: &CallKey) -> Step<Result<Reply, StoreError>> {
        let fenced = match self.claim(key, 0, None)? {
            Claim::Free => {
                let record = Record {
                    state: FENCED,
                    ..Record::started(0, None)
                };
                self.put(key, record, State::Fenced)?;
                Fenced::Never
            }
            Claim::Taken(Claimed::Fenced) => Fenced::Never,
            Claim::Taken(claimed) => Fenced::Claimed(claimed),
            Claim::Resumable | Claim::Running => return Ok(Err(running())),
        };
        Ok(Ok(Reply::Fenced(fenced)))
    }

    fn open(
        &mut self,
        id: SessionId,
        owner: Option<&Principal>,
    ) -> Step<Result<Reply, StoreError>> {
        if !self.memory.sessions.contains_key(&id) {
            self.statements.open_session(id, owner)?;
            self.memory.open(id);
            self.wrote(|| Witness::Session { id, is_there: true });
        }
        Ok(Ok(Reply::Done))
    }

    fn forget(&mut self, id: SessionId) -> Step<Result<Reply, StoreError>> {
        if self.memory.sessions.contains_key(&id) {
            self.statements.delete_session(id)?;
            self.memory.forget(id);
            self.wrote(|| Witness::Session {
                id,
                is_there: false,
            });
        }
        Ok(Ok(Reply::Done))
    }

    /// Looks an id up. With acknowledgements it is a call's, whose fingerprint counts.
    fn claim(
        &mut self,
        key: &CallKey,
        fingerprint: u128,
        acknowledged: Option<&Acknowledged>,
    ) -> Step<Claim> {
        let CallKey::Session(call) = key else {
            return self.claim_plain(key, fingerprint, acknowledged.is_some());
        };
        if let Some(acknowledged) = acknowledged {
            self.memory.acknowledge(call.session, acknowledged);
        }
        let Some(session) = self.memory.sessions.get(&call.session) else {
            return Ok(Claim::Taken(Claimed::SessionUnknown));
        };
        if is_acknowledged(&session.acknowledged, call.number) {
            return Ok(Claim::Taken(Claimed::Acknowledged));
        }
        let Some(Live { slot, state }) = session.live.get(&call.number).copied() else {
            return Ok(Claim::Free);
        };
        if state == State::Fenced {
            return Ok(Claim::Taken(Claimed::Fenced));
        }
        let stored = self.statements.get(slot)?;
        let stored = stored
            .filter(|stored| stored.call == *call)
            .ok_or_else(lost)?;
        if acknowledged.is_some() && stored.fingerprint != fingerprint {
            return Ok(Claim::Taken(Claimed::IdReused));
        }
        Ok(match state {
            State::Finished => Claim::Taken(Claimed::Recorded(stored.outcome.ok_or_else(lost)?)),
            state => started_or_fenced(state),
        })
    }

    /// The table in front knows every record of a plain id while it lives. Here those are known that have
    /// not ended.
    fn claim_plain(&mut self, key: &CallKey, fingerprint: u128, is_call: bool) -> Step<Claim> {
        let key = plain_key(key).unwrap_or_default();
        let Some(row) = self.memory.plain.started.get(&*key).copied() else {
            return Ok(Claim::Free);
        };
        let stored = self.statements.get_plain(row.generation, row.row)?;
        let (state, known) = stored.ok_or_else(lost)?;
        debug_assert_eq!(state, STARTED);
        if is_call && known != fingerprint {
            return Ok(Claim::Taken(Claimed::IdReused));
        }
        Ok(started_or_fenced(row.state))
    }
}

fn started_or_fenced(state: State) -> Claim {
    match state {
        State::Interrupted { is_resumable: true } => Claim::Resumable,
        State::Interrupted {
            is_resumable: false,
        } => Claim::Taken(Claimed::Interrupted),
        State::Fenced => Claim::Taken(Claimed::Fenced),
        State::Running | State::Finished => Claim::Running,
    }
}

/// A row that was written is not there: another program has changed the file.
fn lost() -> BatchError {
    BatchError::Storage(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some("a record is not where it was written".to_owned()),
    ))
}

fn running() -> StoreError {
    StoreError::uncertain("the call has started and has not ended")
}
