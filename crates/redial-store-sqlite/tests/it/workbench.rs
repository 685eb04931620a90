//! A store on which tests run handlers of their own.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use redial_protocol::{CallKey, SessionCall, SessionId};
use redial_server::{
    Abort, Context,
    store::{Executed, Outcome, Store, StoreCall, StoreError},
};
use redial_store_sqlite::{SqliteOptions, SqliteStore, Transaction, transaction_method};

use crate::rig::Folder;

pub(crate) type Answer = Receiver<Result<Executed, StoreError>>;

pub(crate) struct Workbench {
    pub(crate) store: SqliteStore,
    pub(crate) folder: Folder,
    next: u64,
}

pub(crate) const SESSION: SessionId = SessionId::from_bits(7);

/// A call of the session whose client has acknowledged all below a number.
pub(crate) fn call(number: u64, below: u64) -> StoreCall {
    StoreCall {
        key: Some(CallKey::Session(SessionCall {
            session: SESSION,
            number,
        })),
        fingerprint: 7,
        max_outcome_bytes: 1 << 20,
        acknowledged: redial_server::store::Acknowledged {
            below,
            open: Vec::new(),
        },
        awake: Duration::ZERO,
        failure_texts: Default::default(),
    }
}

pub(crate) fn open_session(store: &SqliteStore) {
    let (sender, opened) = channel();
    store.open_session(
        SESSION,
        None,
        Box::new(move |result| sender.send(result).unwrap()),
    );
    store.flush();
    opened
        .recv_timeout(Duration::from_secs(60))
        .unwrap()
        .unwrap();
}

/// Hands in a call of a handler that takes no params.
pub(crate) fn hand_in<T, F>(store: &SqliteStore, call: StoreCall, handler: F) -> Answer
where
    T: serde::Serialize + 'static,
    F: Fn(&Transaction<'_>) -> Result<T, Abort> + Send + Sync + 'static,
{
    let method = transaction_method(
        move |(): (), transaction: &mut Transaction<'_>, _: Context| handler(transaction),
    );
    let (sender, answer) = channel();
    let prepared = method.prepare(None, Context::default()).unwrap();
    store.execute(
        call,
        prepared,
        Box::new(move |result| drop(sender.send(result))),
    );
    answer
}

pub(crate) fn wait(answer: &Answer) -> Result<Outcome, StoreError> {
    match answer
        .recv_timeout(Duration::from_secs(60))
        .expect("an answer")?
    {
        Executed::New(outcome) => Ok(outcome),
        Executed::Claimed(claimed) => panic!("{claimed:?}"),
    }
}

pub(crate) fn text(outcome: &Outcome) -> &str {
    std::str::from_utf8(outcome.bytes()).unwrap()
}

impl Workbench {
    pub(crate) fn new(options: SqliteOptions) -> Self {
        let folder = Folder::new();
        let store = options.open(folder.file("it.db")).unwrap();
        open_session(&store);
        Self {
            store,
            folder,
            next: 0,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.file("it.db")
    }

    pub(crate) fn hand_in<T, F>(&mut self, handler: F) -> Answer
    where
        T: serde::Serialize + 'static,
        F: Fn(&Transaction<'_>) -> Result<T, Abort> + Send + Sync + 'static,
    {
        let call = call(self.next, 0);
        self.next += 1;
        hand_in(&self.store, call, handler)
    }

    pub(crate) fn run<T, F>(&mut self, handler: F) -> Result<Outcome, StoreError>
    where
        T: serde::Serialize + 'static,
        F: Fn(&Transaction<'_>) -> Result<T, Abort> + Send + Sync + 'static,
    {
        let answer = self.hand_in(handler);
        self.store.flush();
        wait(&answer)
    }

    /// One number out of the file.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.store
            .read(|connection| connection.query_row(sql, [], |row| row.get(0)))
            .unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
