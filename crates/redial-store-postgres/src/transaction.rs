//! What a `transaction` handler works with, and how its call is run: as often as the database asks for.

use std::{
    fmt,
    future::pending,
    marker::PhantomData,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures_util::{FutureExt, future::BoxFuture};
use redial_server::{
    Abort, Context,
    store::{Outcome, StoreCall, decode},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};

use crate::{
    connection::{Connection, Typed},
    error::{SqlError, Trouble},
};

/// The transaction that also holds the call's record: both become durable, or neither.
///
/// A handler may run more than once: what a run has written is undone before the next, when the database
/// says that transactions were in each other's way. So it must have no effect elsewhere, and it must not
/// end the transaction itself.
pub struct Transaction {
    connection: Arc<Connection>,
    /// What a statement of the handler's has met that concerns the transaction as a whole.
    trouble: Option<Trouble>,
    /// Whether others had locked what a statement needs, for longer than it may wait.
    is_blocked: bool,
    /// Where the handlers of a batch run side by side.
    lane: Option<Lane>,
}

/// One of several handlers whose first statements go out together. No handler may have a second one there: what the
/// others have changed between the two it would take for its own doing.
struct Lane {
    has_asked: bool,
    /// Whether calls of the method may run so.
    is_single: Arc<AtomicBool>,
    crossed: Arc<Notify>,
}

/// A value that a statement takes, with PostgreSQL's type for it.
pub trait Param: Sync {
    /// Both.
    fn typed(&self) -> (&(dyn ToSql + Sync), Type);
}

macro_rules! params {
    ($($rust:ty => $sql:ident)*) => {
        $(
            impl Param for $rust {
                fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
                    (self, Type::$sql)
                }
            }

            impl Param for Option<$rust> {
                fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
                    (self, Type::$sql)
                }
            }
        )*
    };
}

params! {
    bool => BOOL
    i16 => INT2
    i32 => INT4
    i64 => INT8
    f32 => FLOAT4
    f64 => FLOAT8
    String => TEXT
    &str => TEXT
    Vec<u8> => BYTEA
    &[u8] => BYTEA
    Vec<i64> => INT8_ARRAY
    Vec<String> => TEXT_ARRAY
}

fn typed<'a>(params: &'a [&'a dyn Param]) -> Vec<Typed<'a>> {
    params.iter().map(|param| param.typed()).collect()
}

impl Transaction {
    pub(crate) fn new(connection: Connection) -> Self {
        Self::on(&Arc::new(connection))
    }

    /// For handlers that run one after the other.
    pub(crate) fn on(connection: &Arc<Connection>) -> Self {
        Self {
            connection: Arc::clone(connection),
            trouble: None,
            is_blocked: false,
            lane: None,
        }
    }

    /// For a handler that runs beside others. If it asks a second time, nothing of what they do can be kept, and
    /// that is noted.
    pub(crate) fn beside(
        connection: &Arc<Connection>,
        prepared: &Prepared,
        crossed: &Arc<Notify>,
    ) -> Self {
        Self {
            connection: Arc::clone(connection),
            trouble: None,
            is_blocked: false,
            lane: Some(Lane {
                has_asked: false,
                is_single: Arc::clone(&prepared.is_single),
                crossed: Arc::clone(crossed),
            }),
        }
    }

    /// Waits for ever where the handler may ask no more, since it is run again then.
    async fn turn(&mut self) {
        if let Some(lane) = &mut self.lane
            && std::mem::replace(&mut lane.has_asked, true)
        {
            lane.is_single.store(false, Relaxed);
            lane.crossed.notify_one();
            pending::<()>().await;
        }
    }

    /// Whether the transaction as a whole can't be kept.
    pub(crate) fn has_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    pub(crate) fn into_parts(self) -> (Connection, Option<Trouble>) {
        let connection = Arc::into_inner(self.connection);
        (connection.expect("it runs alone"), self.trouble)
    }

    /// Runs a statement, and returns its rows.
    ///
    /// # Errors
    ///
    /// What the database says. But for a savepoint nothing of the transaction can be kept then.
    pub async fn query(&mut self, sql: &str, params: &[&dyn Param]) -> Result<Vec<Row>, SqlError> {
        self.turn().await;
        let rows = self.connection.query_any(sql, &typed(params)).await;
        self.note(rows)
    }

    /// The same for a statement with one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and if there is no row, or more than one.
    pub async fn query_one(&mut self, sql: &str, params: &[&dyn Param]) -> Result<Row, SqlError> {
        self.turn().await;
        let row = self.connection.one(sql, &typed(params)).await;
        self.note(row)
    }

    /// The same for a statement with one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and if there is more than one.
    pub async fn query_opt(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Option<Row>, SqlError> {
        self.turn().await;
        let row = self.connection.opt(sql, &typed(params)).await;
        self.note(row)
    }

    /// Runs a statement, and returns how many rows it has changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&mut self, sql: &str, params: &[&dyn Param]) -> Result<u64, SqlError> {
        self.turn().await;
        let changed = self.connection.execute_any(sql, &typed(params)).await;
        self.note(changed)
    }

    fn note<T>(&mut self, result: Result<T, Error>) -> Result<T, SqlError> {
        if let Err(error) = &result {
            match Trouble::of(error) {
                Trouble::Conflict => {
                    self.is_blocked = true;
                    self.trouble = Some(Trouble::Conflict);
                }
                Trouble::Busy => self.is_blocked = true,
                // An error without a code is also that of a row too many.
                Trouble::Away(why) if self.connection.is_closed() => {
                    self.trouble = Some(Trouble::Away(why));
                }
                _ => {}
            }
        }
        result.map_err(SqlError)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// What a `transaction` handler returns.
pub type HandlerFuture<'t, T> = BoxFuture<'t, Result<T, Abort>>;

/// A call of a `transaction` method that waits to be run: what
/// [`execute`](redial_server::store::Store::execute) is handed.
pub(crate) struct Prepared {
    run: Box<dyn Run>,
    is_batchable: bool,
    /// Whether no handler of the method has asked the database more than once so far.
    is_single: Arc<AtomicBool>,
}

trait Run: Send {
    fn run<'a>(
        &'a mut self,
        transaction: &'a mut Transaction,
        call: &'a StoreCall,
    ) -> BoxFuture<'a, Outcome>;
}

struct TypedRun<P, T, H> {
    handler: Arc<H>,
    /// As they were decoded, for the first run.
    params: Option<P>,
    /// As they were sent, for every other.
    text: Option<Box<str>>,
    context: Context,
    output: PhantomData<fn() -> T>,
}

impl Prepared {
    pub(crate) fn new<P, T, H>(
        handler: &Arc<H>,
        params: P,
        text: Option<&str>,
        context: Context,
    ) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T>
            + Send
            + Sync
            + 'static,
    {
        Self {
            run: Box::new(TypedRun {
                handler: Arc::clone(handler),
                params: Some(params),
                text: text.map(Box::from),
                context,
                output: PhantomData,
            }),
            is_batchable: false,
            is_single: Arc::default(),
        }
    }

    /// The same for a call that may share its transaction with others, and perhaps go out with them.
    pub(crate) fn batchable(self, is_single: &Arc<AtomicBool>) -> Self {
        Self {
            is_batchable: true,
            is_single: Arc::clone(is_single),
            ..self
        }
    }

    pub(crate) fn is_single(&self) -> bool {
        self.is_single.load(Relaxed)
    }

    pub(crate) fn is_batchable(&self) -> bool {
        self.is_batchable
    }

    /// Runs the handler. It can be run again after what it wrote was undone.
    pub(crate) async fn run(&mut self, transaction: &mut Transaction, call: &StoreCall) -> Outcome {
        self.run.run(transaction, call).await
    }
}

impl<P, T, H> Run for TypedRun<P, T, H>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T> + Send + Sync + 'static,
{
    fn run<'a>(
        &'a mut self,
        transaction: &'a mut Transaction,
        call: &'a StoreCall,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let handled = async {
                let params = match self.params.take() {
                    Some(params) => params,
                    None => decode(self.text.as_deref())
                        .map_err(|error| Abort::failed(error.to_string()))?,
                };
                (self.handler)(params, transaction, self.context.clone()).await
            };
            // What the handler has half done lies in the transaction, which is undone then.
            let result = panic::AssertUnwindSafe(handled).catch_unwind().await;
            Outcome::of_call(call, || match result {
                Ok(result) => result,
                Err(panic) => panic::resume_unwind(panic),
            })
        })
    }
}
