//! A table in memory that several servers share, each by a store of its own.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use redial_protocol::{CallKey, Principal, SessionId};
use redial_server::store::{
    Acknowledged, Begun, Claimed, Done, Executed, Fenced, Intent, Left, Recovered, Resumable,
    SharedStore, Store, StoreCall, StoreError,
};
use tokio::sync::Notify;

/// All clones are the same table.
#[derive(Clone, Default)]
pub struct SharedTable {
    state: Arc<Mutex<TableState>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct TableState {
    sessions: HashMap<SessionId, SessionRow>,
    calls: HashMap<CallKey, (u128, Call)>,
    /// Servers whose lease has ended.
    gone: HashSet<u32>,
    /// Who holds which session.
    held: HashSet<(u32, SessionId)>,
    /// How often a session was looked for.
    finds: usize,
    holds_finds: bool,
    problem: Option<StoreError>,
}

#[derive(Default)]
struct SessionRow {
    owner: Option<Principal>,
    acknowledged: Acknowledged,
    is_over: bool,
}

#[derive(Clone)]
enum Call {
    Started(u32, Option<Resumable>),
    Finished(Vec<u8>),
    Fenced,
}

/// One server's way to the table.
#[derive(Clone)]
pub struct SharedTableStore {
    table: SharedTable,
    server: u32,
}

impl SharedTable {
    pub fn store(&self, server: u32) -> SharedTableStore {
        SharedTableStore {
            table: self.clone(),
            server,
        }
    }

    /// From now on no session is found until [`release_finds`](Self::release_finds).
    pub fn hold_finds(&self) {
        self.state().holds_finds = true;
    }

    pub fn release_finds(&self) {
        self.state().holds_finds = false;
        self.changed.notify_waiters();
    }

    pub fn finds(&self) -> usize {
        self.state().finds
    }

    pub fn is_held(&self, server: u32, session: SessionId) -> bool {
        self.state().held.contains(&(server, session))
    }

    /// What is asked fails like this.
    pub fn set_problem(&self, problem: Option<StoreError>) {
        self.state().problem = problem;
        self.changed.notify_waiters();
    }

    /// The lease of a server ends.
    pub fn end_lease(&self, server: u32) {
        self.state().gone.insert(server);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, TableState> {
        self.state.lock().unwrap()
    }

    /// Answers as soon as `step` has an answer.
    fn answer<T: Send + 'static>(
        &self,
        done: Done<T>,
        mut step: impl FnMut(&mut TableState) -> Option<Result<T, StoreError>> + Send + 'static,
    ) {
        let table = self.clone();
        tokio::spawn(async move {
            loop {
                let changed = table.changed.notified();
                let answer = step(&mut table.state());
                if let Some(answer) = answer {
                    table.changed.notify_waiters();
                    return done(answer);
                }
                changed.await;
            }
        });
    }
}

impl TableState {
    /// What stands against a claim; `Err` with the server that runs it.
    fn claimed(&self, key: &CallKey, fingerprint: Option<u128>) -> Option<Result<Claimed, u32>> {
        if let CallKey::Session(call) = key {
            let row = self.sessions.get(&call.session);
            let Some(row) = row.filter(|row| !row.is_over) else {
                return Some(Ok(Claimed::SessionUnknown));
            };
            let known = &row.acknowledged;
            if call.number < known.below && !known.open.contains(&call.number) {
                return Some(Ok(Claimed::Acknowledged));
            }
        }
        let (recorded, call) = self.calls.get(key)?;
        Some(match call {
            Call::Fenced => Ok(Claimed::Fenced),
            _ if fingerprint.is_some_and(|asked| asked != *recorded) => Ok(Claimed::IdReused),
            Call::Finished(outcome) => Ok(Claimed::Recorded(outcome.clone())),
            Call::Started(server, _) if self.gone.contains(server) => Ok(Claimed::Interrupted),
            Call::Started(server, _) => Err(*server),
        })
    }

    fn acknowledge(&mut self, session: SessionId, acknowledged: &Acknowledged) {
        if let Some(row) = self.sessions.get_mut(&session)
            && acknowledged.below >= row.acknowledged.below
        {
            row.acknowledged = acknowledged.clone();
        }
    }
}

fn left((fingerprint, call): (u128, Call)) -> Option<Left> {
    match call {
        Call::Started(_, Some(resumable)) => Some(Left {
            fingerprint,
            resumable,
        }),
        _ => None,
    }
}

impl Store for SharedTableStore {
    fn table(&self) -> String {
        "shared".to_owned()
    }

    fn recover(&self, _: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        Ok(())
    }

    fn execute(&self, _: StoreCall, _: Box<dyn Any + Send>, _: Done<Executed>) {
        unreachable!("no test has a transaction method")
    }

    fn begin(&self, call: StoreCall, intent: Intent, done: Done<Begun>) {
        let (server, key) = (self.server, call.key.unwrap());
        self.table.answer(done, move |state| {
            if let CallKey::Session(named) = &key {
                state.acknowledge(named.session, &call.acknowledged);
            }
            let claimed = state.claimed(&key, Some(call.fingerprint));
            let is_left =
                matches!(&claimed, Some(Ok(Claimed::Interrupted))) && intent.resumable.is_some();
            match claimed {
                Some(Err(_)) => return None,
                Some(Ok(claimed)) if !is_left => return Some(Ok(Begun::Claimed(claimed))),
                _ => {}
            }
            let started = Call::Started(server, intent.resumable.clone());
            state.calls.insert(key.clone(), (call.fingerprint, started));
            Some(Ok(Begun::Start))
        });
    }

    fn finish(&self, key: CallKey, outcome: Option<Vec<u8>>, done: Done<()>) {
        let server = self.server;
        self.table.answer(done, move |state| {
            let Some((_, call)) = state.calls.get_mut(&key) else {
                return Some(Ok(()));
            };
            match (&*call, &outcome) {
                _ if state.gone.contains(&server) => {
                    return Some(Err(StoreError::nothing_done("the lease is over")));
                }
                (Call::Started(owner, _), Some(outcome)) if *owner == server => {
                    *call = Call::Finished(outcome.clone());
                }
                (Call::Started(owner, _), None) if *owner == server => {
                    state.calls.remove(&key);
                }
                _ => {}
            }
            Some(Ok(()))
        });
    }

    fn fence(&self, key: CallKey, done: Done<Fenced>) {
        self.table.answer(done, move |state| {
            let call = state.calls.get(&key).cloned();
            match state.claimed(&key, None) {
                Some(Err(_)) => return None,
                Some(Ok(Claimed::Interrupted)) => {
                    let left = call.and_then(left).map(Fenced::Left);
                    return Some(Ok(left.unwrap_or(Fenced::Claimed(Claimed::Interrupted))));
                }
                Some(Ok(Claimed::Fenced)) => {}
                Some(Ok(claimed)) => return Some(Ok(Fenced::Claimed(claimed))),
                None => drop(state.calls.insert(key.clone(), (0, Call::Fenced))),
            }
            Some(Ok(Fenced::Never))
        });
    }

    fn open_session(&self, session: SessionId, owner: Option<&Principal>, done: Done<()>) {
        let (server, owner) = (self.server, owner.cloned());
        self.table.answer(done, move |state| {
            let row = SessionRow {
                owner: owner.clone(),
                ..SessionRow::default()
            };
            state.sessions.insert(session, row);
            state.held.insert((server, session));
            Some(Ok(()))
        });
    }

    fn forget_session(&self, session: SessionId) {
        let mut state = self.table.state();
        state.held.remove(&(self.server, session));
        if let Some(row) = state.sessions.get_mut(&session) {
            row.is_over = true;
        }
    }

    fn flush(&self) {}

    fn acknowledge(&self, session: SessionId, acknowledged: Acknowledged) {
        self.table.state().acknowledge(session, &acknowledged);
    }

    fn tick(&self, _: Duration) {}

    fn as_shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }

    fn problem(&self) -> Option<StoreError> {
        None
    }

    fn close(&self) {}
}

impl SharedStore for SharedTableStore {
    fn find_session(
        &self,
        session: SessionId,
        owner: Option<&Principal>,
        done: Done<Option<Acknowledged>>,
    ) {
        let (server, owner) = (self.server, owner.cloned());
        self.table.state().finds += 1;
        self.table.answer(done, move |state| {
            if state.holds_finds {
                return None;
            }
            if let Some(problem) = state.problem.clone() {
                return Some(Err(problem));
            }
            let found = state.sessions.get(&session);
            let found = found.filter(|row| !row.is_over && row.owner == owner);
            let found = found.map(|row| row.acknowledged.clone());
            if found.is_some() {
                state.held.insert((server, session));
            }
            Some(Ok(found))
        });
    }

    fn leave_session(&self, session: SessionId) {
        self.table.state().held.remove(&(self.server, session));
    }
}
