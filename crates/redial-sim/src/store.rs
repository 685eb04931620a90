//! A model of a durable store, on a model of a disk: what was written and not synced may be lost or torn
//! when the power fails, and outlives a killed process although it is not durable.

mod seam;

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_protocol::{CallKey, ErrorObject, Principal, SessionId};
use redial_server::{
    Abort, Context,
    store::{
        Acknowledged, Begun, Claimed, Done, Executed, Fenced, Intent, Outcome, OutcomeKind,
        Recovered, RecoveredState, Resumable, Store, StoreCall, StoreError, TransactionMethod,
        decode,
    },
};
use tokio::time::sleep;

pub(crate) use self::seam::{Asked, Transactional};

use crate::{
    acknowledged::{covers, merged},
    bug::Bug,
    frost::Frost,
    journal::{Change, Method},
    rng::Rng,
    service::{Counter, Ledger, Params},
};

/// The share of unsynced sectors that a power cut leaves whole.
const WHOLE: f64 = 0.8;

/// The share of durable steps that [`Bug::DurableDoubted`] says may not be.
const DOUBTED: f64 = 0.05;

/// What survives the server: a log of commits, each of some sectors with a checksum, so that the log ends
/// before the first one that is not whole.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    durable: DurableTable,
    /// What each commit leads to that is not synced, and how many sectors it has.
    written: Vec<(DurableTable, u32)>,
    /// How many executions the journal knows.
    noted: usize,
}

/// What the log says.
#[derive(Clone, Default)]
struct DurableTable {
    sessions: BTreeMap<SessionId, Acknowledged>,
    /// By their ids as text, so that their order is always the same.
    records: BTreeMap<String, (CallKey, DurableRecord)>,
    counters: BTreeMap<u32, i64>,
    /// Every transaction that ran, and what it changed.
    ran: Vec<(u32, Option<Change>)>,
}

#[derive(Clone)]
struct DurableRecord {
    fingerprint: u128,
    state: DurableState,
}

#[derive(Clone)]
enum DurableState {
    Finished(Vec<u8>),
    Fenced,
    Started {
        resumable: Option<Resumable>,
        life: u32,
    },
}

/// The store of one life of the server. All clones are the same one.
#[derive(Clone)]
pub(crate) struct DiskStore(Arc<Life>);

struct Life {
    disk: Disk,
    ledger: Ledger,
    frost: Frost,
    life: u32,
    bug: Option<Bug>,
    state: Mutex<LifeState>,
}

struct LifeState {
    rng: Rng,
    table: DurableTable,
    waiting: Vec<Step>,
    /// Ends what is written and not synced.
    in_flight: Vec<Call>,
    /// Records that a bug writes one commit late.
    late: Vec<(CallKey, DurableRecord)>,
    is_working: bool,
    is_dead: bool,
}

/// Executes a step, and returns what calls back.
type Step = Box<dyn FnOnce(&mut LifeState) -> Call + Send>;
type Call = Box<dyn FnOnce() + Send>;

impl Disk {
    /// The process dies, and maybe the machine with it.
    pub(crate) fn crash(&self, rng: &mut Rng) {
        let mut disk = self.lock();
        if rng.happens(0.5) {
            return;
        }
        let written = mem::take(&mut disk.written);
        for (table, sectors) in written {
            if !(0..sectors).all(|_| rng.happens(WHOLE)) {
                break;
            }
            disk.durable = table;
        }
    }

    fn latest(&self) -> DurableTable {
        let disk = self.lock();
        let last = disk.written.last().map(|(table, _)| table);
        last.unwrap_or(&disk.durable).clone()
    }

    /// Makes all that was written durable. What it changed is there for good, and so in the journal.
    fn sync(&self, ledger: &Ledger, life: u32) {
        let mut disk = self.lock();
        if let Some((table, _)) = disk.written.pop() {
            disk.durable = table;
            disk.written.clear();
        }
        let ran = disk.durable.ran.len();
        let noted = mem::replace(&mut disk.noted, ran);
        for (tag, change) in &disk.durable.ran[noted..] {
            ledger.committed(life, *tag, *change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskStore {
    /// Opens what the disk has.
    pub(crate) fn open(
        disk: &Disk,
        ledger: &Ledger,
        frost: &Frost,
        life: u32,
        rng: Rng,
        bug: Option<Bug>,
    ) -> Self {
        // What a killed process has written is taken for durable from here on.
        disk.sync(ledger, life);
        let state = LifeState {
            rng,
            table: disk.latest(),
            waiting: Vec::new(),
            in_flight: Vec::new(),
            late: Vec::new(),
            is_working: false,
            is_dead: false,
        };
        Self(Arc::new(Life {
            disk: disk.clone(),
            ledger: ledger.clone(),
            frost: frost.clone(),
            life,
            bug,
            state: Mutex::new(state),
        }))
    }

    /// The process dies: nothing is called back any more.
    pub(crate) fn die(&self) {
        let mut state = self.lock();
        state.is_dead = true;
        let left = (
            mem::take(&mut state.waiting),
            mem::take(&mut state.in_flight),
        );
        drop(state);
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, LifeState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, bug: Bug) -> bool {
        self.0.bug == Some(bug)
    }

    fn push<T: Send + 'static>(
        &self,
        done: Done<T>,
        step: impl FnOnce(&mut LifeState) -> Result<T, StoreError> + Send + 'static,
    ) {
        let mut state = self.lock();
        if !state.is_dead {
            let doubts = self.has(Bug::DurableDoubted) && state.rng.happens(DOUBTED);
            state.waiting.push(Box::new(move |state| {
                let result = step(state);
                let result = if doubts {
                    Err(StoreError::uncertain("the disk may have failed"))
                } else {
                    result
                };
                Box::new(move || done(result))
            }));
        }
    }

    /// Writes and syncs until nothing waits.
    async fn work(self) {
        loop {
            let gathers = self.lock().rng.ms(0..=2);
            sleep(gathers).await;
            self.write();
            let syncs = self.lock().rng.ms(1..=25);
            sleep(syncs).await;
            self.sync();
            let mut state = self.lock();
            if state.is_dead || (state.waiting.is_empty() && state.late.is_empty()) {
                state.is_working = false;
                return;
            }
        }
    }

    /// Executes what waits as one commit, and writes it.
    fn write(&self) {
        let mut state = self.lock();
        if state.is_dead {
            return;
        }
        for (key, record) in mem::take(&mut state.late) {
            state.table.put(key, record);
        }
        for step in mem::take(&mut state.waiting) {
            let call = step(&mut state);
            state.in_flight.push(call);
        }
        let mut table = state.table.clone();
        if self.has(Bug::IntentForgotten) {
            table.forget_intents();
        }
        let sectors = state.in_flight.len() as u32 + 1;
        self.0.disk.lock().written.push((table, sectors));
        if self.has(Bug::ReplyBeforeCommit) {
            let calls = mem::take(&mut state.in_flight);
            drop(state);
            calls.into_iter().for_each(|call| call());
        }
    }

    /// Makes durable what was written, and calls back.
    fn sync(&self) {
        let mut state = self.lock();
        if state.is_dead {
            return;
        }
        self.0.disk.sync(&self.0.ledger, self.0.life);
        let calls = mem::take(&mut state.in_flight);
        drop(state);
        calls.into_iter().for_each(|call| call());
    }
}

impl DurableTable {
    /// What stands against a claim.
    fn claim(&self, key: &CallKey, fingerprint: Option<u128>) -> Option<Claimed> {
        if let CallKey::Session(call) = key {
            let Some(known) = self.sessions.get(&call.session) else {
                return Some(Claimed::SessionUnknown);
            };
            if covers(known, call.number) {
                return Some(Claimed::Acknowledged);
            }
        }
        let (_, record) = self.records.get(&key.to_string())?;
        Some(match &record.state {
            DurableState::Fenced => Claimed::Fenced,
            _ if fingerprint.is_some_and(|asked| asked != record.fingerprint) => Claimed::IdReused,
            DurableState::Finished(outcome) => Claimed::Recorded(outcome.clone()),
            DurableState::Started { .. } => Claimed::Interrupted,
        })
    }

    fn acknowledge(&mut self, session: SessionId, acknowledged: &Acknowledged) {
        let Some(known) = self.sessions.get_mut(&session) else {
            return;
        };
        *known = merged(known, acknowledged);
        let known = known.clone();
        self.records.retain(|_, (key, _)| match key {
            CallKey::Session(call) if call.session == session => !covers(&known, call.number),
            _ => true,
        });
    }

    fn acknowledge_of(&mut self, call: &StoreCall) {
        if let Some(CallKey::Session(of)) = &call.key {
            self.acknowledge(of.session, &call.acknowledged);
        }
    }

    fn put(&mut self, key: CallKey, record: DurableRecord) {
        self.records.insert(key.to_string(), (key, record));
    }

    fn forget_intents(&mut self) {
        let is_intent =
            |record: &DurableRecord| matches!(record.state, DurableState::Started { .. });
        self.records.retain(|_, (_, record)| !is_intent(record));
    }

    /// Uses the slots of a session's earlier calls again, acknowledged or not.
    fn reuse_slots(&mut self, key: &CallKey) {
        let CallKey::Session(new) = key else { return };
        self.records.retain(|_, (key, _)| match key {
            CallKey::Session(old) => old.session != new.session || old.number >= new.number,
            _ => true,
        });
    }

    /// Takes a call for acknowledged whose reply has not even left.
    fn acknowledge_early(&mut self, key: &CallKey) {
        let CallKey::Session(call) = key else { return };
        let below = self
            .sessions
            .get(&call.session)
            .map_or(0, |known| known.below);
        let open = (below..call.number).collect();
        let below = call.number + 1;
        self.acknowledge(call.session, &Acknowledged { below, open });
    }
}

impl LifeState {
    fn execute(&mut self, call: StoreCall, asked: &Asked, bug: Option<Bug>) -> Executed {
        self.table.acknowledge_of(&call);
        let key = call.key.as_ref();
        let claimed = key.and_then(|key| self.table.claim(key, Some(call.fingerprint)));
        if let Some(claimed) = claimed {
            return Executed::Claimed(claimed);
        }
        let Params { key, delta, .. } = asked.params;
        let value = self.table.counters.get(&key).copied().unwrap_or(0) + delta;
        let outcome = Outcome::of_call(&call, || match asked.method {
            Method::Inc => Ok(Counter { value }),
            _ => Err(Abort::failed("it failed")),
        });
        let has_effect = outcome.kind() == OutcomeKind::Result;
        if has_effect {
            self.table.counters.insert(key, value);
        }
        let change = has_effect.then_some(Change { key, delta, value });
        self.table.ran.push((asked.params.call, change));
        if let Some(key) = call.key {
            let state = DurableState::Finished(outcome.bytes().to_vec());
            let fingerprint = call.fingerprint;
            let record = DurableRecord { fingerprint, state };
            match bug {
                Some(Bug::RecordAfterEffect) => self.late.push((key, record)),
                Some(Bug::SlotReused) => {
                    self.table.reuse_slots(&key);
                    self.table.put(key, record);
                }
                Some(Bug::AckBeforeDelivery) => self.table.acknowledge_early(&key),
                _ => self.table.put(key, record),
            }
        }
        Executed::New(outcome)
    }

    fn begin(&mut self, call: StoreCall, intent: Intent, life: u32) -> Result<Begun, StoreError> {
        self.table.acknowledge_of(&call);
        let Some(key) = call.key else {
            return Ok(Begun::Start);
        };
        match self.table.claim(&key, Some(call.fingerprint)) {
            None => {}
            Some(Claimed::Interrupted) => match &self.table.records[&key.to_string()].1.state {
                DurableState::Started { life: started, .. } if *started == life => {
                    return Err(StoreError::uncertain("the call runs"));
                }
                DurableState::Started {
                    resumable: Some(_), ..
                } => {}
                _ => return Ok(Begun::Claimed(Claimed::Interrupted)),
            },
            Some(claimed) => return Ok(Begun::Claimed(claimed)),
        }
        let resumable = intent.resumable;
        let state = DurableState::Started { resumable, life };
        let fingerprint = call.fingerprint;
        self.table.put(key, DurableRecord { fingerprint, state });
        Ok(Begun::Start)
    }

    fn finish(&mut self, key: &CallKey, outcome: Option<Vec<u8>>) {
        let name = key.to_string();
        let Some((_, record)) = self.table.records.get_mut(&name) else {
            return;
        };
        match outcome {
            _ if !matches!(record.state, DurableState::Started { .. }) => {}
            Some(outcome) => record.state = DurableState::Finished(outcome),
            None => drop(self.table.records.remove(&name)),
        }
    }
}
