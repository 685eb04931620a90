//! The service: counters that survive their server, as if kept in a database, and the handlers that
//! change them. The real server and the model run the same ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::frost::Frost;
use crate::journal::{Change, Event, Journal, Method};

/// The params of every method.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Params {
    pub(crate) key: u32,
    pub(crate) delta: i64,
    /// The number of the call: for the journal, and without meaning to a server.
    pub(crate) call: u32,
    /// How long the handler pauses before its effect, and after it.
    pub(crate) before_ms: u64,
    pub(crate) after_ms: u64,
}

/// What every method returns.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Counter {
    pub(crate) value: i64,
}

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerEnd {
    Value(i64),
    Failed,
    /// With this code and this data.
    PassedOn(i32, &'static str),
    NoEffect,
    Panic,
}

/// The data of errors that a handler passes on: a refusal of another server's, one that went through two
/// gateways, and one that ends a session.
const PASSED_ON_DATA: [&str; 3] = [
    r#"{"executed":"no"}"#,
    r#"{"executed":"yes","data":{"executed":"no"}}"#,
    r#"{"executed":"unknown","unknown_session":"123456789abcdef"}"#,
];

/// The codes of such errors: handlers' own ones, and a server's.
const PASSED_ON_CODES: [i32; 6] = [-32000, 7, -32603, -32001, -32004, -32007];

impl Method {
    pub(crate) const ALL: [Self; 7] = [
        Self::Inc,
        Self::Get,
        Self::FailAfter,
        Self::FailBefore,
        Self::PassOn,
        Self::Panic,
        Self::NoEffect,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inc => "inc",
            Self::Get => "get",
            Self::FailAfter => "fail_after",
            Self::FailBefore => "fail_before",
            Self::PassOn => "pass_on",
            Self::Panic => "panic",
            Self::NoEffect => "no_effect",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// The counters. All clones are the same ones.
#[derive(Clone)]
pub(crate) struct Ledger {
    journal: Journal,
    state: Arc<Mutex<LedgerState>>,
}

#[derive(Default)]
struct LedgerState {
    counters: BTreeMap<u32, i64>,
    /// The calls that have ended without effect once.
    undone: BTreeSet<u32>,
    /// The lives of servers whose handlers may change anything.
    lives: BTreeSet<u32>,
    /// What calls have made that may be run again.
    made: BTreeMap<u32, i64>,
    /// The counters before their last changes, for [`Bug::OldValues`](crate::Bug::OldValues).
    before: BTreeMap<u32, i64>,
}

/// The handlers of one life of a server.
#[derive(Clone)]
pub(crate) struct Service {
    ledger: Ledger,
    life: u32,
    frost: Frost,
    /// Whether a call that has had its effect may be run again, and comes to the same.
    pub(crate) is_repeatable: bool,
    pub(crate) answers_old_values: bool,
    pub(crate) loses_updates: bool,
}

impl Ledger {
    pub(crate) fn new(journal: &Journal) -> Self {
        Self {
            journal: journal.clone(),
            state: Arc::default(),
        }
    }

    /// The handlers of a life of a server.
    pub(crate) fn open(&self, life: u32, frost: &Frost) -> Service {
        self.state().lives.insert(life);
        Service {
            ledger: self.clone(),
            life,
            frost: frost.clone(),
            is_repeatable: false,
            answers_old_values: false,
            loses_updates: false,
        }
    }

    /// The process dies: running handlers never resume.
    pub(crate) fn close(&self, life: u32) {
        self.state().lives.remove(&life);
    }

    /// A transaction is durable that changed this, if anything.
    pub(crate) fn committed(&self, life: u32, tag: u32, change: Option<Change>) {
        self.journal.note(Event::Began { tag, life });
        if let Some(change) = change {
            let Change { key, value, .. } = change;
            self.state().counters.insert(key, value);
            self.journal.note(Event::Effect { tag, life, change });
        }
        self.journal.note(Event::Finished { tag, life });
    }

    fn state(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Runs a method, while the process is not frozen.
    pub(crate) async fn run(self, method: Method, params: Params) -> HandlerEnd {
        self.frost.clone().around(self.handle(method, params)).await
    }

    async fn handle(self, method: Method, params: Params) -> HandlerEnd {
        let (tag, life) = (params.call, self.life);
        if method != Method::Get {
            self.ledger.journal.note(Event::Began { tag, life });
        }
        let read = self.read(params.key);
        self.pause(params.before_ms).await;
        let outcome = match method {
            Method::Get => HandlerEnd::Value(self.get(params.key)),
            Method::Inc => HandlerEnd::Value(self.add(params, read)),
            Method::FailBefore => HandlerEnd::Failed,
            Method::FailAfter => {
                self.add(params, read);
                HandlerEnd::Failed
            }
            Method::PassOn => {
                self.add(params, read);
                let (codes, tag) = (PASSED_ON_CODES.len(), tag as usize);
                let data = PASSED_ON_DATA[tag / codes % PASSED_ON_DATA.len()];
                HandlerEnd::PassedOn(PASSED_ON_CODES[tag % codes], data)
            }
            Method::Panic => {
                self.add(params, read);
                HandlerEnd::Panic
            }
            Method::NoEffect if self.ledger.state().undone.insert(tag) => HandlerEnd::NoEffect,
            Method::NoEffect => HandlerEnd::Value(self.add(params, read)),
        };
        self.pause(params.after_ms).await;
        if method != Method::Get {
            self.ledger.journal.note(Event::Finished { tag, life });
        }
        outcome
    }

    /// The age of the world, in microseconds.
    pub(crate) fn age_micros(&self) -> u128 {
        self.ledger.journal.elapsed().as_micros()
    }

    async fn pause(&self, ms: u64) {
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        if !self.ledger.state().lives.contains(&self.life) {
            // The process is dead, and this task is about to be dropped.
            std::future::pending::<()>().await;
        }
    }

    fn read(&self, key: u32) -> i64 {
        let state = self.ledger.state();
        state.counters.get(&key).copied().unwrap_or(0)
    }

    fn get(&self, key: u32) -> i64 {
        if self.answers_old_values {
            return self.ledger.state().before.get(&key).copied().unwrap_or(0);
        }
        self.read(key)
    }

    fn add(&self, params: Params, read: i64) -> i64 {
        let Params {
            key, delta, call, ..
        } = params;
        let mut state = self.ledger.state();
        if let Some(made) = state.made.get(&call).filter(|_| self.is_repeatable) {
            return *made;
        }
        let now = state.counters.get(&key).copied().unwrap_or(0);
        let before = if self.loses_updates { read } else { now };
        let value = before + delta;
        state.before.insert(key, now);
        state.counters.insert(key, value);
        state.made.insert(call, value);
        drop(state);
        self.ledger.journal.note(Event::Effect {
            tag: call,
            life: self.life,
            change: Change { key, delta, value },
        });
        value
    }
}
