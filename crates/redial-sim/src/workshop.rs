//! The service: counters that survive their server, as those would that are kept in a database,
//! and the handlers that change them. Both kinds of server run these.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use tokio::time::sleep;

use crate::journal::{Change, Event, Journal, Method};

/// What every method takes.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Params {
    pub(crate) key: u32,
    pub(crate) delta: i64,
    /// Which call this is: for the record, and of no meaning to a server.
    pub(crate) call: u32,
    /// How long the handler takes before its effect, and after it.
    pub(crate) before_ms: u64,
    pub(crate) after_ms: u64,
}

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value(i64),
    Failed,
    NoEffect,
    Panic,
}

impl Method {
    pub(crate) const ALL: [Self; 6] = [
        Self::Inc,
        Self::Get,
        Self::FailAfter,
        Self::FailBefore,
        Self::Panic,
        Self::NoEffect,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inc => "inc",
            Self::Get => "get",
            Self::FailAfter => "fail_after",
            Self::FailBefore => "fail_before",
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
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    counters: BTreeMap<u32, i64>,
    /// Which calls have been taken back once.
    taken_back: BTreeSet<u32>,
    /// Which life of the server may change anything.
    life: u32,
    /// What the counters were before their last changes, for a service that lies about them.
    before: BTreeMap<u32, i64>,
}

/// The handlers of one life of a server.
#[derive(Clone)]
pub(crate) struct Workshop {
    ledger: Ledger,
    life: u32,
    pub(crate) answers_old_values: bool,
    pub(crate) loses_updates: bool,
}

impl Ledger {
    pub(crate) fn new(journal: &Journal) -> Self {
        Self {
            journal: journal.clone(),
            books: Arc::default(),
        }
    }

    /// The handlers of the next life. Those of the one before change nothing any more.
    pub(crate) fn open(&self, life: u32) -> Workshop {
        self.books().life = life;
        Workshop {
            ledger: self.clone(),
            life,
            answers_old_values: false,
            loses_updates: false,
        }
    }

    /// The process dies: handlers that are under way stay where they are.
    pub(crate) fn close(&self) {
        self.books().life = 0;
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workshop {
    /// Runs a method.
    pub(crate) async fn run(self, method: Method, params: Params) -> Outcome {
        let (tag, life) = (params.call, self.life);
        if method != Method::Get {
            self.ledger.journal.note(Event::Began { tag, life });
        }
        let read = self.read(params.key);
        self.pause(params.before_ms).await;
        let outcome = match method {
            Method::Get => Outcome::Value(self.get(params.key)),
            Method::Inc => Outcome::Value(self.add(params, read)),
            Method::FailBefore => Outcome::Failed,
            Method::FailAfter => {
                self.add(params, read);
                Outcome::Failed
            }
            Method::Panic => {
                self.add(params, read);
                Outcome::Panic
            }
            Method::NoEffect if self.ledger.books().taken_back.insert(tag) => Outcome::NoEffect,
            Method::NoEffect => Outcome::Value(self.add(params, read)),
        };
        self.pause(params.after_ms).await;
        if method != Method::Get {
            self.ledger.journal.note(Event::Finished { tag, life });
        }
        outcome
    }

    /// How old the world is, in microseconds.
    pub(crate) fn moment(&self) -> u128 {
        self.ledger.journal.elapsed().as_micros()
    }

    async fn pause(&self, ms: u64) {
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        if self.ledger.books().life != self.life {
            // The process is dead. The task is about to be dropped.
            std::future::pending::<()>().await;
        }
    }

    fn read(&self, key: u32) -> i64 {
        let books = self.ledger.books();
        books.counters.get(&key).copied().unwrap_or(0)
    }

    fn get(&self, key: u32) -> i64 {
        if self.answers_old_values {
            return self.ledger.books().before.get(&key).copied().unwrap_or(0);
        }
        self.read(key)
    }

    fn add(&self, params: Params, read: i64) -> i64 {
        let Params {
            key, delta, call, ..
        } = params;
        let mut books = self.ledger.books();
        let now = books.counters.get(&key).copied().unwrap_or(0);
        let before = if self.loses_updates { read } else { now };
        let value = before + delta;
        books.before.insert(key, now);
        books.counters.insert(key, value);
        drop(books);
        self.ledger.journal.note(Event::Effect {
            tag: call,
            life: self.life,
            change: Change { key, delta, value },
        });
        value
    }
}
