//! The transaction that a handler gets, and a handler that waits for one.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use redial_server::{
    Abort, Context,
    store::{Outcome, StoreCall, decode},
};
use rusqlite::Connection;
use serde::{Serialize, de::DeserializeOwned};

/// The transaction in which a call's effect and its record become durable together, or not at all.
///
/// It is used as a [`rusqlite::Connection`]; `prepare_cached` saves most of the time that a small
/// statement takes. What would break the promise is refused as *not authorized*: to begin or end
/// transactions and savepoints, to attach files, to change the schema, to set pragmas, and to touch the
/// tables `redial_*`. An error of SQLite can be handed on with `?`; it is the outcome of the call then,
/// unless the disk failed: in that case nothing is recorded, and the call may be tried again. In an error of
/// your own, wrapped around it, let SQLite's words be the last, behind a colon.
///
/// Write with SQL, not with `blob_open`: what goes around SQL is neither guarded nor counted, and so not
/// undone when the call fails. Let no statement outlive its handler (`mem::forget`).
///
/// A handler's transaction is one part of a larger one. It sees what the calls before it have written,
/// and it may be run more than once; what one run has written is undone before the next. So it must have
/// no effect elsewhere.
pub struct Transaction<'c> {
    connection: &'c Connection,
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// How often the calls of a method fail after they have written something.
#[derive(Debug, Default)]
pub(crate) struct Failures(AtomicU8);

/// For how many calls after a failure a method's calls get a savepoint. To run a batch again costs what
/// some tens of savepoints cost.
const WARY: u8 = 64;

impl Failures {
    /// Whether a call should be one that can be undone by itself.
    pub(crate) fn are_likely(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    pub(crate) fn count(&self, has_failed: bool) {
        // One thread counts.
        let before = self.0.load(Relaxed);
        if has_failed {
            self.0.store(before.saturating_add(WARY), Relaxed);
        } else if before > 0 {
            self.0.store(before - 1, Relaxed);
        }
    }
}

/// A `transaction` method's handler and how it does.
pub(crate) struct Handler<H> {
    pub(crate) function: H,
    pub(crate) failures: Arc<Failures>,
}

/// A call of a `transaction` method that waits to be run: what [`execute`] is handed.
///
/// [`execute`]: redial_server::store::Store::execute
pub(crate) struct Prepared {
    call: Box<dyn Run>,
    pub(crate) failures: Arc<Failures>,
}

trait Run: Send {
    fn run(&mut self, connection: &Connection, claimed: &StoreCall) -> Outcome;
}

struct TypedCall<P, H> {
    handler: Arc<Handler<H>>,
    /// As they were decoded, for the first run.
    params: Option<P>,
    /// As they were sent, for every other.
    text: Option<Box<str>>,
    context: Context,
}

impl Prepared {
    pub(crate) fn new<P, T, H>(
        handler: &Arc<Handler<H>>,
        params: P,
        text: Option<&str>,
        context: Context,
    ) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
        H: TransactionHandler<P, T>,
    {
        let call = TypedRun {
            call: TypedCall {
                handler: Arc::clone(handler),
                params: Some(params),
                text: text.map(Box::from),
                context,
            },
            output: std::marker::PhantomData,
        };
        Self {
            call: Box::new(call),
            failures: Arc::clone(&handler.failures),
        }
    }

    /// Runs the handler. It can be called again after what it wrote was undone.
    pub(crate) fn run(&mut self, connection: &Connection, claimed: &StoreCall) -> Outcome {
        self.call.run(connection, claimed)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

struct TypedRun<P, T, H> {
    call: TypedCall<P, H>,
    output: std::marker::PhantomData<fn() -> T>,
}

impl<P, T, H> Run for TypedRun<P, T, H>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + 'static,
    H: TransactionHandler<P, T>,
{
    fn run(&mut self, connection: &Connection, claimed: &StoreCall) -> Outcome {
        let call = &mut self.call;
        let mut transaction = Transaction { connection };
        Outcome::of_call(claimed, || {
            let params = match call.params.take() {
                Some(params) => params,
                None => decode(call.text.as_deref())
                    .map_err(|error| Abort::failed(error.to_string()))?,
            };
            (call.handler.function)(params, &mut transaction, call.context.clone())
        })
    }
}

/// A function that runs in a transaction: `Fn(P, &mut Transaction, Context) -> Result<T, Abort>`.
/// Implemented for every function of that form.
pub trait TransactionHandler<P, T>:
    Fn(P, &mut Transaction<'_>, Context) -> Result<T, Abort> + Send + Sync + 'static
{
}

impl<P, T, H> TransactionHandler<P, T> for H where
    H: Fn(P, &mut Transaction<'_>, Context) -> Result<T, Abort> + Send + Sync + 'static
{
}
