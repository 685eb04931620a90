//! The steps of calls, each as one transaction that is tried again until it is clear what it came to.

use redial_protocol::CallKey;
use redial_server::{
    Abort,
    store::{
        Begun, Claimed, Executed, Fenced, Intent, Outcome, OutcomeKind, StoreCall, StoreError,
    },
};
use tokio_postgres::types::Type;

use crate::{
    claim::{Claim, ClaimResult},
    connection::{CommitTrouble, Connection, Typed},
    error::Trouble,
    on_record::{CHECK, finish, leave, location_params, lock, take},
    patience::Patience,
    record::{FENCED, FINISHED, Record, RecordLocation, STARTED, runs_here},
    store::{Late, Shared},
    transaction::{Prepared, Transaction},
};

impl Shared {
    /// `is_uncertain`: it ran before, in a batch whose commit had no answer.
    pub(crate) async fn execute(
        &self,
        call: StoreCall,
        mut prepared: Prepared,
        is_uncertain: bool,
    ) -> Result<Executed, StoreError> {
        let mut patience = Patience::after(is_uncertain, &self.options);
        self.note(&call);
        loop {
            let attempt = self.try_execute(&call, &mut prepared, &mut patience).await;
            match attempt {
                Ok(executed) => return Ok(executed),
                // There is no id by which to find out.
                Err(trouble @ Trouble::Unanswered(_)) if call.key.is_none() => {
                    return Err(trouble.into_error());
                }
                Err(trouble) => patience.pause(trouble).await?,
            }
        }
    }

    async fn try_execute(
        &self,
        call: &StoreCall,
        prepared: &mut Prepared,
        patience: &mut Patience,
    ) -> Result<Executed, Trouble> {
        let mut connection = self.connection().await?;
        let claim = call
            .key
            .as_ref()
            .map(|key| self.claim(key, call.fingerprint, STARTED, patience));
        match &claim {
            Some(claim) => match self.make(claim, &mut connection).await? {
                ClaimResult::Mine => patience.found_free(),
                // A claim of this call whose `BEGIN` was cancelled has committed by itself.
                ClaimResult::Record(record)
                    if let Some(key) = &call.key
                        && self.is_own(&record, claim, key) => {}
                result => {
                    leave(&mut connection, claim, &result).await?;
                    return self.refused(call, result).map(Executed::Claimed);
                }
            },
            None => {
                connection.enter();
                let begin = format!(
                    "{}; SET LOCAL lock_timeout = '{}'",
                    self.style.begin, self.style.lock_timeout
                );
                let begun = connection.batch_execute(&begin).await;
                begun.map_err(|error| Trouble::of(&error))?;
            }
        }
        let mut transaction = Transaction::new(connection);
        let outcome = prepared.run(&mut transaction, call).await;
        let (mut connection, trouble) = transaction.into_parts();
        if let Some(trouble) = trouble {
            drop(connection);
            return Err(trouble);
        }
        if outcome.kind() != OutcomeKind::Result {
            connection.roll_back().await?;
            return self.end_failed(&mut connection, call, claim, outcome).await;
        }
        let epoch = claim
            .as_ref()
            .map_or_else(|| self.epoch(), |claim| claim.owner);
        let committed = match &claim {
            Some(claim) => finish(&mut connection, &claim.location, outcome.bytes(), epoch).await,
            None => {
                connection
                    .commit_with(&[(CHECK, &[(&epoch, Type::INT8)])])
                    .await
            }
        };
        match committed {
            Ok(()) => Ok(Executed::New(outcome)),
            Err(CommitTrouble::Other(trouble)) => Err(trouble),
            Err(CommitTrouble::Refused(why)) => {
                let why = format!("{why}; nothing that the call wrote was kept");
                // The database's words, which the server keeps from callers if it is to.
                let failed = || Err::<(), _>(Abort::from(std::io::Error::other(why)));
                let outcome = Outcome::of_call(call, failed);
                connection.roll_back().await?;
                self.end_failed(&mut connection, call, claim, outcome).await
            }
        }
    }

    /// What the handler wrote is undone; that it has failed is recorded.
    async fn end_failed(
        &self,
        connection: &mut Connection,
        call: &StoreCall,
        claim: Option<Claim>,
        outcome: Outcome,
    ) -> Result<Executed, Trouble> {
        let Some(mut claim) = claim.filter(|_| outcome.kind() == OutcomeKind::Failed) else {
            return Ok(Executed::New(outcome));
        };
        claim.state = FINISHED;
        claim.reply = Some(outcome.bytes().to_vec());
        match self.make(&claim, connection).await? {
            ClaimResult::Mine => {
                connection
                    .commit_with(&[(CHECK, &[(&claim.owner, Type::INT8)])])
                    .await?;
                Ok(Executed::New(outcome))
            }
            ClaimResult::Record(record)
                if let Some(key) = &call.key
                    && self.is_own(&record, &claim, key) =>
            {
                finish(connection, &claim.location, outcome.bytes(), claim.owner).await?;
                Ok(Executed::New(outcome))
            }
            // A duplicate was faster: to look again says what it came to.
            _ => Err(Trouble::Conflict),
        }
    }

    pub(crate) async fn begin(&self, call: StoreCall, intent: Intent) -> Result<Begun, StoreError> {
        let Some(key) = &call.key else {
            return Err(StoreError::nothing_done(
                "a call without an id has no record",
            ));
        };
        let mut patience = Patience::new(&self.options);
        self.note(&call);
        loop {
            match self.try_begin(&call, key, &intent, &patience).await {
                Ok(begun) => return Ok(begun),
                Err(trouble) => patience.pause(trouble).await?,
            }
        }
    }

    async fn try_begin(
        &self,
        call: &StoreCall,
        key: &CallKey,
        intent: &Intent,
        patience: &Patience,
    ) -> Result<Begun, Trouble> {
        let mut connection = self.connection().await?;
        let mut claim = self.claim(key, call.fingerprint, STARTED, patience);
        claim.resumable.clone_from(&intent.resumable);
        let epoch = claim.owner;
        match self.make(&claim, &mut connection).await? {
            ClaimResult::Mine => {}
            ClaimResult::Record(record) if self.is_to_be_taken(&record, &claim, intent, key) => {
                if !take(&connection, &claim.location, epoch, record.owner).await? {
                    return Err(Trouble::Conflict);
                }
            }
            result => {
                leave(&mut connection, &claim, &result).await?;
                return self.refused(call, result).map(Begun::Claimed);
            }
        }
        // Before the commit is there for others to see: no attempt at this server takes the call for one
        // that nothing runs.
        self.started().insert(key.clone(), epoch);
        let params: [Typed<'_>; 1] = [(&epoch, Type::INT8)];
        if let Err(trouble) = connection.commit_with(&[(CHECK, &params)]).await {
            self.started().remove(key);
            return Err(trouble.into());
        }
        Ok(Begun::Start)
    }

    /// Whether its handler may run though it is on record as started: its owner is gone and it may be run
    /// again, or it is this call itself, whose commit had no answer.
    fn is_to_be_taken(
        &self,
        record: &Record,
        claim: &Claim,
        intent: &Intent,
        key: &CallKey,
    ) -> bool {
        let is_left = !record.is_owner_alive && record.is_resumable() && intent.resumable.is_some();
        self.is_own(record, claim, key) || is_started(record, claim) && is_left
    }

    /// Whether this server has claimed the call, and does not run it.
    fn is_own(&self, record: &Record, claim: &Claim, key: &CallKey) -> bool {
        is_started(record, claim)
            && record.owner == claim.owner
            && !self.started().contains_key(key)
    }

    pub(crate) async fn finish(
        &self,
        key: CallKey,
        outcome: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let mut patience = Patience::new(&self.options);
        let epoch = self.started().get(&key).copied();
        let location = RecordLocation::of(&key);
        if let CallKey::Session(call) = &key
            && self.sessions.is_acknowledged(*call)
        {
            // Its client did not wait.
            self.started().remove(&key);
            return Ok(());
        }
        let ended = loop {
            let attempt = self.try_finish(&location, epoch, outcome.as_deref()).await;
            match attempt {
                Ok(()) => break Ok(()),
                Err(trouble @ Trouble::Fenced) => break Err(trouble.into_error()),
                Err(trouble) => {
                    if let Err(error) = patience.pause(trouble).await {
                        // It stays this server's until that is recorded: no attempt may start it again.
                        self.late().push_back((key, outcome));
                        return Err(error);
                    }
                }
            }
        };
        self.started().remove(&key);
        ended
    }

    /// Records the outcomes that could not be recorded in time.
    pub(crate) async fn finish_late(&self) {
        let count = self.late().len();
        for _ in 0..count {
            let Some(late) = self.late().pop_front() else {
                return;
            };
            let mut unrecorded = Unrecorded(self, Some(late));
            let Some((key, outcome)) = &unrecorded.1 else {
                return;
            };
            let epoch = self.started().get(key).copied();
            let location = RecordLocation::of(key);
            let attempt = self.try_finish(&location, epoch, outcome.as_deref()).await;
            if let Ok(()) | Err(Trouble::Fenced) = attempt {
                self.started().remove(key);
                unrecorded.1 = None;
            }
        }
    }

    /// To do it twice changes nothing.
    async fn try_finish(
        &self,
        location: &RecordLocation,
        epoch: Option<i64>,
        outcome: Option<&[u8]>,
    ) -> Result<(), Trouble> {
        let mut connection = self.connection().await?;
        // The call is this server's, or its owner is gone and this is what it came to.
        let (epoch, owns) = match epoch {
            Some(epoch) => (epoch, "s.owner = $1"),
            None => (
                self.epoch(),
                "s.owner <> $1 AND NOT EXISTS (SELECT FROM redial.server v \
                     WHERE v.epoch = s.owner AND v.expires > clock_timestamp())",
            ),
        };
        let (table, at) = match location {
            RecordLocation::Session { .. } => (
                "slot",
                "s.session = $3 AND s.slot IN ($4, $5) AND s.seq = $6",
            ),
            RecordLocation::Plain(_) => ("plain", "s.id = $3"),
        };
        let what = match (outcome, location) {
            (Some(_), RecordLocation::Session { .. }) => "SET state = 1, reply = $2",
            (Some(_), RecordLocation::Plain(_)) => {
                "SET state = 1, reply = $2, since = clock_timestamp()"
            }
            (None, RecordLocation::Session { .. }) => "SET state = 1, seq = -1, reply = $2",
            (None, RecordLocation::Plain(_)) => "",
        };
        let verb = if what.is_empty() {
            "DELETE FROM"
        } else {
            "UPDATE"
        };
        let using = if what.is_empty() {
            "AND $2::bytea IS NULL"
        } else {
            ""
        };
        let sql = format!(
            "{verb} redial.{table} s {what} WHERE {at} AND s.state = 0 AND {owns} {using} RETURNING true"
        );
        let mut params: Vec<Typed<'_>> = vec![(&epoch, Type::INT8), (&outcome, Type::BYTEA)];
        params.extend(location_params(location));
        connection.enter();
        let change = connection.prepared(&sql, &params).await?;
        let (begun, changed) = tokio::join!(
            connection.batch_execute(&self.style.begin),
            connection.ready_rows(&change, &params),
        );
        begun.map_err(|error| Trouble::of(&error))?;
        if changed?.is_empty() && outcome.is_some() {
            // As in `leave`: a commit without an answer may have taken place at this primary alone.
            lock(&connection, location).await?;
        }
        connection
            .commit_with(&[(CHECK, &[(&epoch, Type::INT8)])])
            .await?;
        Ok(())
    }

    pub(crate) async fn fence(&self, key: CallKey) -> Result<Fenced, StoreError> {
        let mut patience = Patience::new(&self.options);
        loop {
            match self.try_fence(&key, &patience).await {
                Ok(fenced) => return Ok(fenced),
                Err(trouble) => patience.pause(trouble).await?,
            }
        }
    }

    async fn try_fence(&self, key: &CallKey, patience: &Patience) -> Result<Fenced, Trouble> {
        let mut connection = self.connection().await?;
        let claim = self.claim(key, 0, FENCED, patience);
        let result = self.make(&claim, &mut connection).await?;
        if let ClaimResult::Mine = result {
            connection
                .commit_with(&[(CHECK, &[(&claim.owner, Type::INT8)])])
                .await?;
            return Ok(Fenced::Never);
        }
        leave(&mut connection, &claim, &result).await?;
        if let ClaimResult::Record(record) = &result
            && !self.started().contains_key(key)
            && let Some(left) = record.left()
        {
            return Ok(Fenced::Left(left));
        }
        Ok(match self.settled(result, None, Some(key))? {
            Claimed::Fenced => Fenced::Never,
            claimed => Fenced::Claimed(claimed),
        })
    }

    pub(crate) fn note(&self, call: &StoreCall) {
        if let Some(CallKey::Session(named)) = &call.key {
            self.sessions.note(*named, &call.acknowledged);
        }
    }

    fn claim(&self, key: &CallKey, fingerprint: u128, state: i16, patience: &Patience) -> Claim {
        Claim {
            location: RecordLocation::of(key),
            fingerprint: fingerprint.to_be_bytes().to_vec(),
            state,
            owner: self.epoch(),
            resumable: None,
            reply: None,
            is_again: patience.is_again(),
        }
    }

    /// The row of a session that is over says so first, so that nothing is claimed in it.
    async fn make(
        &self,
        claim: &Claim,
        connection: &mut Connection,
    ) -> Result<ClaimResult, Trouble> {
        if let RecordLocation::Session { id, .. } = &claim.location {
            self.end_session(connection, *id).await?;
        }
        claim.make(connection, &self.style, &self.sessions).await
    }

    fn refused(&self, call: &StoreCall, result: ClaimResult) -> Result<Claimed, Trouble> {
        let fingerprint = call.fingerprint.to_be_bytes();
        self.settled(result, Some(&fingerprint), call.key.as_ref())
    }

    /// What a call comes to that is not to run.
    fn settled(
        &self,
        result: ClaimResult,
        fingerprint: Option<&[u8]>,
        key: Option<&CallKey>,
    ) -> Result<Claimed, Trouble> {
        let record = match result {
            ClaimResult::Mine => return Err(Trouble::Conflict),
            ClaimResult::Claimed(claimed) => return Ok(claimed),
            ClaimResult::Record(record) => record,
        };
        match record.claimed(fingerprint) {
            Ok(claimed) => Ok(claimed),
            Err(started) if key.is_some_and(|key| self.started().contains_key(key)) => {
                drop(started);
                Err(runs_here())
            }
            Err(started) if started.is_owner_alive => Err(Trouble::RunsElsewhere),
            Err(_) => Ok(Claimed::Interrupted),
        }
    }
}

fn is_started(record: &Record, claim: &Claim) -> bool {
    record.state == STARTED && record.fingerprint == claim.fingerprint
}

/// An outcome that is tried to be recorded: late again unless that has ended, also if it is cut off.
struct Unrecorded<'s>(&'s Shared, Option<Late>);

impl Drop for Unrecorded<'_> {
    fn drop(&mut self) {
        if let Some(late) = self.1.take() {
            self.0.late().push_back(late);
        }
    }
}
