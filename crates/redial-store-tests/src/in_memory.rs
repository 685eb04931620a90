//! A store in memory, as plain as can be. What it keeps lives as long as its rig: that is its disk.

use std::{
    any::Any,
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use redial_protocol::{CallKey, Principal, SessionId};
use redial_server::store::{
    Acknowledged, Begun, Claimed, Done, Executed, Fenced, Intent, Outcome, OutcomeKind, Recovered,
    RecoveredState, Resumable, Store, StoreCall, StoreError,
};

use crate::{Effect, Rig};

/// What survives.
#[derive(Default)]
struct Disk {
    sessions: HashMap<SessionId, Acknowledged>,
    owners: HashMap<SessionId, Principal>,
    records: HashMap<CallKey, Record>,
    counters: HashMap<String, i64>,
}

struct Record {
    fingerprint: u128,
    state: State,
}

enum State {
    Finished(Vec<u8>),
    Fenced,
    Started {
        resumable: Option<Resumable>,
        life: u64,
    },
}

/// A rig whose disk is memory.
#[derive(Clone, Default)]
pub struct InMemoryRig {
    disk: Arc<Mutex<Disk>>,
    lives: Arc<Mutex<u64>>,
}

/// A store as plain as can be, whose disk is its rig's memory.
pub struct InMemoryStore {
    disk: Arc<Mutex<Disk>>,
    /// Which life of the store this is: what an earlier one has started is interrupted.
    life: u64,
    waiting: Mutex<Vec<DiskStep>>,
    worker: Mutex<Option<Worker>>,
}

/// Where batches go, and the thread that works on them.
type Worker = (mpsc::Sender<Vec<DiskStep>>, thread::JoinHandle<()>);

/// Ends a step, given whether the store is still there.
type DiskStep = Box<dyn FnOnce(Result<&mut Disk, StoreError>) -> Call + Send>;
/// Calls back.
type Call = Box<dyn FnOnce()>;

impl Rig for InMemoryRig {
    fn open(&self) -> Arc<dyn Store> {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        *lives += 1;
        Arc::new(InMemoryStore::new(Arc::clone(&self.disk), *lives))
    }

    fn prepare(&self, effect: Effect) -> Box<dyn Any + Send> {
        Box::new(effect)
    }

    fn counter(&self, key: &str) -> i64 {
        lock(&self.disk).counters.get(key).copied().unwrap_or(0)
    }

    fn claims_plain_ids(&self) -> bool {
        true
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InMemoryStore {
    fn new(disk: Arc<Mutex<Disk>>, life: u64) -> Self {
        let (sender, batches) = mpsc::channel::<Vec<DiskStep>>();
        let worked_on = Arc::clone(&disk);
        // It ends with the store.
        let thread = thread::spawn(move || {
            for batch in batches {
                let mut disk = lock(&worked_on);
                let calls: Vec<Call> = batch.into_iter().map(|step| step(Ok(&mut disk))).collect();
                drop(disk);
                calls.into_iter().for_each(|call| call());
            }
        });
        Self {
            disk,
            life,
            waiting: Mutex::default(),
            worker: Mutex::new(Some((sender, thread))),
        }
    }

    fn push<T: Send + 'static>(
        &self,
        done: Done<T>,
        step: impl FnOnce(&mut Disk) -> Result<T, StoreError> + Send + 'static,
    ) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(Box::new(move |disk| {
            let result = disk.and_then(step);
            Box::new(move || done(result))
        }));
    }

    /// Ends what was flushed.
    fn end(&self) {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sender, thread)) = worker.take() {
            drop(sender);
            thread.join().expect("the worker does not panic");
        }
    }

    fn take(&self) -> Vec<DiskStep> {
        mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for InMemoryStore {
    fn drop(&mut self) {
        self.end();
        for step in self.take() {
            step(Err(StoreError::nothing_done("the store is closed")))();
        }
    }
}

impl Disk {
    /// What stands against a claim.
    fn claim(&self, key: &CallKey, fingerprint: Option<u128>) -> Option<Claimed> {
        if let CallKey::Session(call) = key {
            let Some(known) = self.sessions.get(&call.session) else {
                return Some(Claimed::SessionUnknown);
            };
            if call.number < known.below && !known.open.contains(&call.number) {
                return Some(Claimed::Acknowledged);
            }
        }
        let record = self.records.get(key)?;
        Some(match &record.state {
            State::Fenced => Claimed::Fenced,
            _ if fingerprint.is_some_and(|asked| asked != record.fingerprint) => Claimed::IdReused,
            State::Finished(outcome) => Claimed::Recorded(outcome.clone()),
            State::Started { .. } => Claimed::Interrupted,
        })
    }

    fn acknowledge(&mut self, session: SessionId, acknowledged: &Acknowledged) {
        let Some(known) = self.sessions.get_mut(&session) else {
            return;
        };
        // What either says.
        let says =
            |one: &Acknowledged, number: &u64| *number < one.below && !one.open.contains(number);
        let all = known.open.iter().chain(&acknowledged.open);
        let open = all.filter(|number| !says(known, number) && !says(acknowledged, number));
        let mut open: Vec<u64> = open.copied().collect();
        open.sort_unstable();
        open.dedup();
        let below = known.below.max(acknowledged.below);
        *known = Acknowledged { below, open };
    }

    fn acknowledge_of(&mut self, call: &StoreCall) {
        if let Some(CallKey::Session(of)) = &call.key {
            self.acknowledge(of.session, &call.acknowledged);
        }
    }

    fn put(&mut self, key: CallKey, fingerprint: u128, state: State) {
        self.records.insert(key, Record { fingerprint, state });
    }

    fn execute(&mut self, call: StoreCall, effect: &Effect) -> Executed {
        self.acknowledge_of(&call);
        let claimed = call
            .key
            .as_ref()
            .and_then(|key| self.claim(key, Some(call.fingerprint)));
        if let Some(claimed) = claimed {
            return Executed::Claimed(claimed);
        }
        let before = self.counters.get(&effect.key).copied().unwrap_or(0);
        let value = before + effect.delta;
        let outcome = Outcome::of_call(&call, || effect.finish(value));
        if outcome.kind() == OutcomeKind::Result {
            self.counters.insert(effect.key.clone(), value);
        }
        if let Some(key) = call.key
            && outcome.kind() != OutcomeKind::NoEffect
        {
            let state = State::Finished(outcome.bytes().to_vec());
            self.put(key, call.fingerprint, state);
        }
        Executed::New(outcome)
    }

    fn begin(&mut self, call: StoreCall, intent: Intent, life: u64) -> Result<Begun, StoreError> {
        self.acknowledge_of(&call);
        let Some(key) = call.key else {
            return Ok(Begun::Start);
        };
        match self.claim(&key, Some(call.fingerprint)) {
            None => {}
            Some(Claimed::Interrupted) => match &self.records[&key].state {
                State::Started { life: started, .. } if *started == life => {
                    return Err(StoreError::uncertain("the call runs"));
                }
                State::Started {
                    resumable: Some(_), ..
                } => {}
                _ => return Ok(Begun::Claimed(Claimed::Interrupted)),
            },
            Some(claimed) => return Ok(Begun::Claimed(claimed)),
        }
        let resumable = intent.resumable;
        self.put(key, call.fingerprint, State::Started { resumable, life });
        Ok(Begun::Start)
    }

    fn finish(&mut self, key: &CallKey, outcome: Option<Vec<u8>>) {
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        if !matches!(record.state, State::Started { .. }) {
            return;
        }
        if let Some(outcome) = outcome {
            record.state = State::Finished(outcome);
        } else {
            self.records.remove(key);
        }
    }
}

impl Store for InMemoryStore {
    fn table(&self) -> String {
        "memory".to_owned()
    }

    fn recover(&self, recovered: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        let disk = lock(&self.disk);
        for (session, acknowledged) in &disk.sessions {
            recovered(Recovered::Session {
                session: *session,
                owner: disk.owners.get(session).cloned(),
                acknowledged: acknowledged.clone(),
            });
        }
        for (key, record) in &disk.records {
            if let Some(Claimed::Acknowledged | Claimed::SessionUnknown) = disk.claim(key, None) {
                continue;
            }
            recovered(Recovered::Record {
                key: key.clone(),
                fingerprint: record.fingerprint,
                state: match &record.state {
                    State::Finished(outcome) => RecoveredState::Finished(outcome.clone()),
                    State::Fenced => RecoveredState::Fenced,
                    State::Started { resumable, .. } => RecoveredState::Started(resumable.clone()),
                },
            });
        }
        Ok(())
    }

    fn execute(&self, call: StoreCall, transaction: Box<dyn Any + Send>, done: Done<Executed>) {
        let effect = *transaction
            .downcast::<Effect>()
            .expect("an effect of the rig");
        self.push(done, move |disk| Ok(disk.execute(call, &effect)));
    }

    fn begin(&self, call: StoreCall, intent: Intent, done: Done<Begun>) {
        let life = self.life;
        self.push(done, move |disk| disk.begin(call, intent, life));
    }

    fn finish(&self, key: CallKey, outcome: Option<Vec<u8>>, done: Done<()>) {
        self.push(done, move |disk| {
            disk.finish(&key, outcome);
            Ok(())
        });
    }

    fn fence(&self, key: CallKey, done: Done<Fenced>) {
        self.push(done, move |disk| match disk.claim(&key, None) {
            None => {
                disk.put(key, 0, State::Fenced);
                Ok(Fenced::Never)
            }
            Some(Claimed::Fenced) => Ok(Fenced::Never),
            Some(claimed) => Ok(Fenced::Claimed(claimed)),
        });
    }

    fn open_session(&self, session: SessionId, owner: Option<&Principal>, done: Done<()>) {
        let owner = owner.cloned();
        self.push(done, move |disk| {
            disk.sessions.entry(session).or_default();
            if let Some(owner) = owner {
                disk.owners.entry(session).or_insert(owner);
            }
            Ok(())
        });
    }

    fn forget_session(&self, session: SessionId) {
        self.push(Box::new(drop), move |disk| {
            disk.sessions.remove(&session);
            disk.owners.remove(&session);
            disk.records
                .retain(|key, _| !matches!(key, CallKey::Session(call) if call.session == session));
            Ok(())
        });
    }

    fn flush(&self) {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sender, _)) = &*worker {
            sender
                .send(self.take())
                .expect("the worker ends with the store");
        }
    }

    fn acknowledge(&self, session: SessionId, acknowledged: Acknowledged) {
        self.push(Box::new(drop), move |disk| {
            disk.acknowledge(session, &acknowledged);
            Ok(())
        });
    }

    fn tick(&self, _: Duration) {}

    fn problem(&self) -> Option<StoreError> {
        None
    }

    fn close(&self) {
        self.flush();
        self.end();
    }
}
