//! The steps of calls, each as transactions that are tried again until it is clear what they came to.

use redial_protocol::CallKey;
use redial_server::{
    Abort,
    store::{Begun, Claimed, Executed, Fenced, Intent, Left, Outcome, OutcomeKind},
};

use super::*;
use crate::{
    acknowledged::covers,
    database::{CallRow, RowState, Tables, Transaction},
    journal::{Change, Method},
    service::Counter,
    store::Asked,
};

/// What a claim came to. What it holds, it holds until the transaction ends.
enum ClaimResult {
    /// The id is claimed by this transaction.
    Mine,
    /// What is not to run.
    Claimed(Claimed),
    /// What is on record, and whether its owner lives if it has been started.
    Record(CallRow, bool),
}

/// What is committed for a claim.
struct ClaimSnapshot {
    session: Option<Acknowledged>,
    call: Option<CallRow>,
    is_owner_alive: bool,
}

impl SharedTableStore {
    pub(super) async fn execute_call(
        self,
        call: StoreCall,
        asked: Asked,
    ) -> Result<Executed, StoreError> {
        let mut patience = self.patience();
        self.note(&call);
        loop {
            match self.try_execute(&call, &asked, &mut patience).await {
                Ok(executed) => return Ok(executed),
                // There is no id by which to find out.
                Err(trouble @ Trouble::Unanswered) if call.key.is_none() => {
                    return Err(trouble.into_error());
                }
                Err(trouble) => self.pause(&mut patience, trouble).await?,
            }
        }
    }

    async fn try_execute(
        &self,
        call: &StoreCall,
        asked: &Asked,
        patience: &mut Patience,
    ) -> Result<Executed, Trouble> {
        let epoch = self.epoch();
        let mut transaction = match &call.key {
            None => self.0.database.begin(),
            Some(key) => match self.claim(key).await? {
                (transaction, ClaimResult::Mine) => transaction,
                (_, result) => return self.refused(call, result).map(Executed::Claimed),
            },
        };
        patience.is_uncertain = false;
        let params = asked.params;
        let key = params.key;
        let value = transaction.read(key).await? + params.delta;
        sleep(Duration::from_millis(params.before_ms)).await;
        let outcome = Outcome::of_call(call, || match asked.method {
            Method::Inc => Ok(Counter { value }),
            _ => Err(Abort::failed("it failed")),
        });
        let delta = params.delta;
        let change = Change { key, delta, value };
        let change = (outcome.kind() == OutcomeKind::Result).then_some(change);
        let (ledger, life, tag) = (self.0.ledger.clone(), self.0.life, params.call);
        let record = call.key.clone();
        let (fingerprint, bytes) = (call.fingerprint, outcome.bytes().to_vec());
        let checks = !self.has(Bug::EpochForgotten);
        let commit = transaction.commit(move |tables| {
            if checks {
                tables.check(epoch)?;
            }
            if let Some(change) = change {
                tables.set_counter(change.key, change.value);
            }
            if let Some(key) = &record {
                tables.put(key, fingerprint, RowState::Finished(bytes));
            }
            ledger.committed(life, tag, change);
            Ok(())
        });
        commit.await?;
        Ok(Executed::New(outcome))
    }

    pub(super) async fn begin_call(
        self,
        call: StoreCall,
        intent: Intent,
    ) -> Result<Begun, StoreError> {
        let Some(key) = call.key.clone() else {
            return Ok(Begun::Start);
        };
        let mut patience = self.patience();
        self.note(&call);
        loop {
            match self.try_begin(&call, &key, &intent).await {
                Ok(begun) => return Ok(begun),
                Err(trouble) => self.pause(&mut patience, trouble).await?,
            }
        }
    }

    async fn try_begin(
        &self,
        call: &StoreCall,
        key: &CallKey,
        intent: &Intent,
    ) -> Result<Begun, Trouble> {
        let owner = self.epoch();
        let (transaction, result) = self.claim(key).await?;
        match &result {
            ClaimResult::Mine => {}
            ClaimResult::Record(row, is_owner_alive)
                if row.fingerprint == call.fingerprint
                    && self.is_to_be_taken(key, row, *is_owner_alive, owner, intent) => {}
            _ => return self.refused(call, result).map(Begun::Claimed),
        }
        let (record, fingerprint) = (key.clone(), call.fingerprint);
        let resumable = intent.resumable.clone();
        let checks = !self.has(Bug::EpochForgotten);
        let commit = transaction.commit(move |tables| {
            if checks {
                tables.check(owner)?;
            }
            tables.put(&record, fingerprint, RowState::Started { owner, resumable });
            Ok(())
        });
        commit.await?;
        self.lock().started.insert(key.to_string(), owner);
        Ok(Begun::Start)
    }

    /// Whether its handler may run though it is on record as started: its owner is gone and it may be run
    /// again, or it is this call itself, whose commit had no answer.
    fn is_to_be_taken(
        &self,
        key: &CallKey,
        row: &CallRow,
        is_owner_alive: bool,
        epoch: u64,
        intent: &Intent,
    ) -> bool {
        let RowState::Started { owner, resumable } = &row.state else {
            return false;
        };
        let is_own = *owner == epoch && !self.lock().started.contains_key(&key.to_string());
        let is_left = !is_owner_alive && resumable.is_some() && intent.resumable.is_some();
        is_own || is_left
    }

    pub(super) async fn finish_call(
        self,
        key: CallKey,
        outcome: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let mut patience = self.patience();
        let name = key.to_string();
        while let Err(trouble) = self.try_finish(&name, outcome.clone()).await {
            if matches!(trouble, Trouble::Fenced) {
                return Err(trouble.into_error());
            }
            if let Err(error) = self.pause(&mut patience, trouble).await {
                // It stays this server's until that is done, so that no attempt starts it again.
                self.lock().late.push((name, outcome));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Records the outcomes that could not be recorded in time.
    pub(super) async fn finish_late(&self) {
        let late = mem::take(&mut self.lock().late);
        for (name, outcome) in late {
            match self.try_finish(&name, outcome.clone()).await {
                Ok(()) | Err(Trouble::Fenced) => {}
                Err(_) => self.lock().late.push((name, outcome)),
            }
        }
    }

    /// To do it twice changes nothing.
    async fn try_finish(&self, name: &str, outcome: Option<Vec<u8>>) -> Result<(), Trouble> {
        let began_in = self.lock().started.get(name).copied();
        let epoch = began_in.unwrap_or_else(|| self.epoch());
        let (transaction, ()) = self.0.database.hold(name, |_| ()).await?;
        let (record, checks) = (name.to_owned(), !self.has(Bug::EpochForgotten));
        let commit = transaction.commit(move |tables| {
            if checks {
                tables.check(epoch)?;
            }
            let Some(row) = tables.calls.get_mut(&record) else {
                return Ok(());
            };
            match (&row.state, outcome) {
                (RowState::Started { owner, .. }, _) if checks && *owner != epoch => {}
                (RowState::Started { .. }, Some(outcome)) => {
                    row.state = RowState::Finished(outcome);
                }
                (RowState::Started { .. }, None) => drop(tables.calls.remove(&record)),
                _ => {}
            }
            Ok(())
        });
        let ended = commit.await;
        if let Ok(()) | Err(Trouble::Fenced) = ended {
            self.lock().started.remove(name);
        }
        ended
    }

    pub(super) async fn fence_call(self, key: CallKey) -> Result<Fenced, StoreError> {
        let mut patience = self.patience();
        loop {
            match self.try_fence(&key).await {
                Ok(fenced) => return Ok(fenced),
                Err(trouble) => self.pause(&mut patience, trouble).await?,
            }
        }
    }

    async fn try_fence(&self, key: &CallKey) -> Result<Fenced, Trouble> {
        let epoch = self.epoch();
        match self.claim(key).await? {
            (transaction, ClaimResult::Mine) => {
                let key = key.clone();
                let commit = transaction.commit(move |tables| {
                    tables.check(epoch)?;
                    tables.put(&key, 0, RowState::Fenced);
                    Ok(())
                });
                commit.await?;
                Ok(Fenced::Never)
            }
            (_, result) => {
                if let Some(left) = self.left(key, &result) {
                    return Ok(Fenced::Left(left));
                }
                Ok(match self.settled(result, None, Some(key))? {
                    Claimed::Fenced => Fenced::Never,
                    claimed => Fenced::Claimed(claimed),
                })
            }
        }
    }

    /// What may be run again, since the server that ran it is gone.
    fn left(&self, key: &CallKey, result: &ClaimResult) -> Option<Left> {
        let ClaimResult::Record(row, false) = result else {
            return None;
        };
        let RowState::Started { resumable, .. } = &row.state else {
            return None;
        };
        let runs_here = self.lock().started.contains_key(&key.to_string());
        let resumable = resumable.clone().filter(|_| !runs_here)?;
        let fingerprint = row.fingerprint;
        Some(Left {
            fingerprint,
            resumable,
        })
    }

    /// Takes an id, and then looks at what is committed.
    async fn claim(&self, key: &CallKey) -> Result<(Transaction, ClaimResult), Trouble> {
        if let CallKey::Session(call) = key {
            // The row of a session that is over says so first.
            self.end_session(call.session).await?;
        }
        let (name, asked) = (key.to_string(), key.clone());
        let look = move |tables: &Tables| look(tables, &asked);
        let (transaction, snapshot) = if self.has(Bug::ClaimChecked) {
            let snapshot = self.0.database.ask(move |tables| look(tables)).await;
            (
                self.0.database.begin(),
                snapshot.map_err(|_| Trouble::Away)?,
            )
        } else {
            self.0.database.hold(&name, look).await?
        };
        Ok((transaction, self.judge(key, snapshot)))
    }

    fn judge(&self, key: &CallKey, snapshot: ClaimSnapshot) -> ClaimResult {
        if let CallKey::Session(call) = key {
            let Some(stored) = &snapshot.session else {
                return ClaimResult::Claimed(Claimed::SessionUnknown);
            };
            let known = self.lock().merge(call.session, stored);
            if covers(&known, call.number) {
                return ClaimResult::Claimed(Claimed::Acknowledged);
            }
        }
        match snapshot.call {
            None => ClaimResult::Mine,
            Some(row) => ClaimResult::Record(row, snapshot.is_owner_alive),
        }
    }

    fn refused(&self, call: &StoreCall, result: ClaimResult) -> Result<Claimed, Trouble> {
        self.settled(result, Some(call.fingerprint), call.key.as_ref())
    }

    /// What a call comes to that is not to run.
    fn settled(
        &self,
        result: ClaimResult,
        fingerprint: Option<u128>,
        key: Option<&CallKey>,
    ) -> Result<Claimed, Trouble> {
        let (row, is_owner_alive) = match result {
            ClaimResult::Mine => return Err(Trouble::Busy),
            ClaimResult::Claimed(claimed) => return Ok(claimed),
            ClaimResult::Record(row, is_owner_alive) => (row, is_owner_alive),
        };
        let is_reused = fingerprint.is_some_and(|asked| asked != row.fingerprint);
        let runs_here = || {
            let started = &self.lock().started;
            key.is_some_and(|key| started.contains_key(&key.to_string()))
        };
        match row.state {
            RowState::Fenced => Ok(Claimed::Fenced),
            _ if is_reused => Ok(Claimed::IdReused),
            RowState::Finished(outcome) => Ok(Claimed::Recorded(outcome)),
            RowState::Started { .. } if runs_here() => {
                Err(Trouble::Fatal(StoreError::uncertain("the call runs")))
            }
            RowState::Started { .. } if is_owner_alive => Err(Trouble::Busy),
            RowState::Started { .. } => Ok(Claimed::Interrupted),
        }
    }
}

fn look(tables: &Tables, key: &CallKey) -> ClaimSnapshot {
    let session = match key {
        CallKey::Session(call) => tables.sessions.get(&call.session),
        _ => None,
    };
    let living = session.filter(|session| session.dead_since.is_none());
    let call = tables.calls.get(&key.to_string());
    let is_owner_alive = call.is_some_and(|call| match call.state {
        RowState::Started { owner, .. } => tables.is_alive(owner),
        _ => false,
    });
    ClaimSnapshot {
        session: living.map(|session| session.acknowledged.clone()),
        call: call.cloned(),
        is_owner_alive,
    }
}
