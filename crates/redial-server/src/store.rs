//! The seam of durable tables: what the server hands to a store, and what a store promises.
//!
//! The table in memory stays in front: there duplicates of a running call join it, and there a
//! finished call's reply is found. The store is asked once for each call that is to run, and answers
//! when what it did is durable. So the server sends no outcome that a crash could undo.
//!
//! A store is one of two kinds of place:
//! * owned by one server for as long as that runs (SQLite): it hands over all that it knows when it
//!   is [recovered](Store::recover), and the table in front then knows every record;
//! * shared by several servers (PostgreSQL): it recovers nothing, its own claim, made before the
//!   call runs, finds out what another server has recorded, and it is asked for the
//!   [sessions](SharedStore) that others have opened.
//!
//! In both the claim decides: [`Claimed`] has the answers to a call that is
//! not to run. Nothing here waits. What takes time ends by calling back, on a thread of the store's.

#[doc(hidden)]
pub mod encoding;
mod shared;

use std::{
    any::{Any, TypeId},
    fmt,
    time::Duration,
};

use redial_protocol::{CallKey, ErrorObject, Principal, SessionId, encode_error};
use serde::Serialize;
use thiserror::Error;

pub use self::shared::SharedStore;
use crate::{abort::Abort, context::Context, handler, panics, refusal};
pub use crate::{failure_texts::FailureTexts, params::decode, wakes::together};

/// A durable table. See the [module](self) for its place, and `redial-store-sqlite` for one.
///
/// Whatever a method is given to call back is called exactly once, whatever happens, on any thread but
/// never before the method has returned. What one commit makes durable is best called back
/// [`together`].
pub trait Store: Any + Send + Sync {
    /// A name that no other table has, made with the table and stored with it. Clients compare it to
    /// know whether two servers share their records.
    fn table(&self) -> String;

    /// Hands over every session and every record that the server has to know from the start, each
    /// session before its records. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it can't be read.
    fn recover(&self, recovered: &mut dyn FnMut(Recovered)) -> Result<(), StoreError>;

    /// Runs a `transaction` method: claims the call's id, runs the handler, and records its outcome,
    /// all in one transaction that is durable when `done` is called.
    fn execute(&self, call: StoreCall, transaction: Box<dyn Any + Send>, done: Done<Executed>);

    /// Claims the id of a `mutation` method before its handler starts: the intent is durable when
    /// `done` is called with [`Begun::Start`]. A resumable call that is on record as started, and
    /// whose process is gone, starts again.
    fn begin(&self, call: StoreCall, intent: Intent, done: Done<Begun>);

    /// Records the outcome of a call that [`begin`](Self::begin) has let start; `None` if it had no
    /// effect, so that its id is free again.
    fn finish(&self, key: CallKey, outcome: Option<Vec<u8>>, done: Done<()>);

    /// Makes sure that a session's call which is not on record never runs, as `rpc.resolve` and
    /// `rpc.cancel` promise.
    fn fence(&self, key: CallKey, done: Done<Fenced>);

    /// Makes a session durable, with the principal whose it is, before its client hears of it.
    fn open_session(&self, session: SessionId, owner: Option<&Principal>, done: Done<()>);

    /// The session's lease has ended, or its client has said goodbye: it and its records may go. Lost
    /// in a crash, it costs memory for another lease. For [`SharedStore`]s it means less.
    fn forget_session(&self, session: SessionId);

    /// All calls that are ready have been handed over: what waits may start as one batch. A store need
    /// not start before.
    fn flush(&self);

    /// What the session's client has acknowledged may go. Made durable with the next commit at the
    /// latest when its room is used again; lost in a crash, it costs memory for a while.
    fn acknowledge(&self, session: SessionId, acknowledged: Acknowledged);

    /// How long it keeps the record of a call with a plain id, at least; `None` if that is for as long as
    /// any server wants. A server whose [`Config::ttl`](crate::Config::ttl) is longer is not built.
    fn ttl(&self) -> Option<Duration> {
        None
    }

    /// How long the server has been awake since it was made, in the clock by which records of plain
    /// ids expire. Called every now and then, with what only grows.
    fn tick(&self, awake: Duration);

    /// Itself, if several servers may use the same table at the same time.
    fn as_shared(&self) -> Option<&dyn SharedStore> {
        None
    }

    /// Whom to tell of each commit. Called at most once, when the server is made; by default
    /// the store tells of none, and the server counts no commits.
    fn watch_commits(&self, watcher: CommitWatcher) {
        drop(watcher);
    }

    /// Why nothing can be recorded at present; `None` while all is well. New mutations are refused
    /// meanwhile, without asking the store.
    fn problem(&self) -> Option<StoreError>;

    /// Ends everything that was handed in, and then closes the table. Called once, when the server
    /// has shut down.
    fn close(&self);
}

/// What is called after each commit, with how many steps it has made durable, on any thread. It doesn't
/// block.
pub type CommitWatcher = Box<dyn Fn(usize) + Send + Sync>;

/// What is called when a step is durable, or has failed.
pub type Done<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// A call that is to be claimed and recorded.
#[derive(Debug)]
pub struct StoreCall {
    /// The call's name; a plain id of a principal is [one of its own](CallKey::Owned). `None` for a call of a `transaction` method that has none, such as a
    /// notification: it runs, and nothing is recorded.
    pub key: Option<CallKey>,
    /// A hash of the method and the params.
    pub fingerprint: u128,
    /// The longest outcome that a reply has room for, in bytes; see [`Outcome::of`].
    pub max_outcome_bytes: usize,
    /// What the call's session has acknowledged by now. Of no meaning for plain ids.
    pub acknowledged: Acknowledged,
    /// How long the server has been awake; see [`Store::tick`].
    pub awake: Duration,
    /// Who hears the texts of failures: for [`Outcome::of_call`].
    pub failure_texts: FailureTexts,
}

/// What the client of a session will never ask for again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Every call with a lower number, except those in `open`.
    pub below: u64,
    /// Numbers lower than `below` that are not acknowledged, in ascending order: few or none, and no more than a few
    /// times the session's window.
    pub open: Vec<u64>,
}

/// What is stored before the handler of a `mutation` method starts.
#[derive(Debug)]
pub struct Intent {
    /// For a resumable method, what it takes to run the call again after a crash.
    pub resumable: Option<Resumable>,
}

/// A call of a resumable method, which may be run again under the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumable {
    /// The method's name.
    pub method: String,
    /// The params as they were sent.
    pub params: Option<String>,
}

/// What became durable with a `transaction` call.
#[derive(Debug)]
pub enum Executed {
    /// The handler ran, and this is what it came to. Its record is there unless it had no effect.
    New(Outcome),
    /// The id was claimed before; the handler did not run, or all that it did was undone.
    Claimed(Claimed),
}

/// Whether the handler of a `mutation` may start.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It may: the intent is durable.
    Start,
    /// The id was claimed before.
    Claimed(Claimed),
}

/// What is on record for an id that was claimed before.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed {
    /// An outcome, to be replayed.
    Recorded(Vec<u8>),
    /// A call with another fingerprint.
    IdReused,
    /// The call was acknowledged.
    Acknowledged,
    /// The call was fenced.
    Fenced,
    /// Its handler started, and the process that ran it is gone; it is not resumable.
    Interrupted,
    /// The session is not, or no longer, known.
    SessionUnknown,
}

/// What is on record for a call that was to be fenced.
#[derive(Debug, PartialEq, Eq)]
pub enum Fenced {
    /// It is fenced now, or was before.
    Never,
    /// It is on record after all.
    Claimed(Claimed),
    /// Of a shared store: its handler started at a server that is gone, and may run again. It is not
    /// fenced, and starts anew with the next [`begin`](Store::begin).
    Left(Left),
}

/// A resumable call whose server is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// A hash of the method and the params.
    pub fingerprint: u128,
    /// What it takes to run it.
    pub resumable: Resumable,
}

/// What a store hands over when it is recovered.
#[derive(Debug, PartialEq, Eq)]
pub enum Recovered {
    /// A session that is known. Its lease starts anew.
    Session {
        /// Its id.
        session: SessionId,
        /// Whose it is, as [`open_session`](Store::open_session) was given it.
        owner: Option<Principal>,
        /// What its client had acknowledged.
        acknowledged: Acknowledged,
    },
    /// A call that is on record.
    Record {
        /// The call's name.
        key: CallKey,
        /// A hash of the method and the params.
        fingerprint: u128,
        /// What is known of it.
        state: RecoveredState,
    },
}

/// What is known of a call that a store hands over.
#[derive(Debug, PartialEq, Eq)]
pub enum RecoveredState {
    /// It finished with this outcome.
    Finished(Vec<u8>),
    /// It will never run.
    Fenced,
    /// Its handler started, and no outcome was recorded. A resumable call is run again.
    Started(Option<Resumable>),
}

/// Why a store could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct StoreError {
    /// Whether it may have become durable all the same.
    pub is_uncertain: bool,
    /// What is wrong, with the name of the file or the server, and what to do about it.
    pub message: String,
}

impl StoreError {
    /// Nothing became durable.
    pub fn nothing_done(message: impl Into<String>) -> Self {
        Self {
            is_uncertain: false,
            message: message.into(),
        }
    }

    /// It can't be known whether it became durable.
    pub fn uncertain(message: impl Into<String>) -> Self {
        Self {
            is_uncertain: true,
            message: message.into(),
        }
    }
}

/// A `transaction` method as the store's crate registers it. The handler's types are erased: what
/// [`prepare`](Self::prepare) returns is handed to [`Store::execute`] of the same store.
pub trait TransactionMethod: Send + Sync + 'static {
    /// The type of the store that runs it.
    fn store_type(&self) -> TypeId;

    /// Decodes the params, so that bad ones are refused before anything is claimed.
    ///
    /// # Errors
    ///
    /// What [`decode`] says.
    fn prepare(
        &self,
        params: Option<&str>,
        context: Context,
    ) -> Result<Box<dyn Any + Send>, ErrorObject>;
}

/// What a handler came to, as it is recorded and sent.
#[derive(Clone, Debug)]
pub struct Outcome {
    bytes: Vec<u8>,
    kind: OutcomeKind,
    /// What a layer has passed on with `?`: its text takes the place of `bytes` where it may be sent.
    foreign: Option<Box<Abort>>,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        (&self.bytes, self.kind) == (&other.bytes, other.kind)
    }
}

impl Eq for Outcome {}

/// How a handler ended, and so what of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// With a result: what it wrote and its record are kept.
    Result,
    /// With an error or a panic: its record is kept, what it wrote is undone.
    Failed,
    /// Without effect ([`Abort::NoEffect`]): nothing is kept, and the id is free again.
    NoEffect,
}

impl Outcome {
    /// Runs the handler of a call. The text of a panic, or of an error that `?` has passed on, goes where
    /// the server lets it go; for the rest see [`of`](Self::of).
    pub fn of_call<T: Serialize>(
        call: &StoreCall,
        handler: impl FnOnce() -> Result<T, Abort>,
    ) -> Self {
        Self::with(call.max_outcome_bytes, &call.failure_texts, handler)
    }

    /// Runs a handler, with all texts as they are. A panic is an error (-32603), like a result that can't be written as JSON, and
    /// so is one of more than `max_bytes`, which its caller could not receive.
    ///
    /// ```
    /// use redial_server::{Abort, store::{Outcome, OutcomeKind}};
    ///
    /// let outcome = Outcome::of(1024, || Ok(7));
    /// assert_eq!((outcome.kind(), outcome.bytes()), (OutcomeKind::Result, &br#""result":7"#[..]));
    /// assert_eq!(Outcome::of(1024, || Err::<(), _>(Abort::failed("no"))).kind(), OutcomeKind::Failed);
    /// ```
    pub fn of<T: Serialize>(max_bytes: usize, handler: impl FnOnce() -> Result<T, Abort>) -> Self {
        Self::with(max_bytes, &FailureTexts::default(), handler)
    }

    fn with<T: Serialize>(
        max_bytes: usize,
        texts: &FailureTexts,
        handler: impl FnOnce() -> Result<T, Abort>,
    ) -> Self {
        let mut bytes = Vec::new();
        let encoded = panics::catch(|| {
            let result = handler();
            let is_result = result.is_ok();
            let is_recorded = handler::encode(&mut bytes, result, texts);
            match (is_result && bytes.starts_with(b"\"result\""), is_recorded) {
                (true, _) => OutcomeKind::Result,
                (false, true) => OutcomeKind::Failed,
                (false, false) => OutcomeKind::NoEffect,
            }
        });
        let kind = encoded.unwrap_or_else(|panic| {
            bytes.clear();
            encode_error(&mut bytes, &texts.of_panic(&panic));
            OutcomeKind::Failed
        });
        let len = bytes.len();
        if len > max_bytes {
            bytes.clear();
            encode_error(&mut bytes, &refusal::outcome_too_large(len, max_bytes));
        }
        Self::from_parts(bytes, kind)
    }

    pub(crate) fn from_parts(bytes: Vec<u8>, kind: OutcomeKind) -> Self {
        Self {
            bytes,
            kind,
            foreign: None,
        }
    }

    pub(crate) fn with_foreign(mut self, abort: Abort) -> Self {
        self.foreign = Some(Box::new(abort));
        self
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, Option<Box<Abort>>) {
        (self.bytes, self.foreign)
    }

    /// `"result":...` or `"error":...`, as it is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How the handler ended.
    #[must_use]
    pub fn kind(&self) -> OutcomeKind {
        self.kind
    }
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("table", &self.table())
            .finish_non_exhaustive()
    }
}
