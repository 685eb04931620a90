//! How methods that run on the store are registered with a server.

use std::{
    any::{Any, TypeId},
    marker::PhantomData,
    sync::{Arc, atomic::AtomicBool},
};

use redial_protocol::ErrorObject;
use redial_server::{
    Context, Method, MethodKind, ServerBuilder,
    store::{TransactionMethod, decode},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    store::PostgresStore,
    transaction::{HandlerFuture, Prepared, Transaction},
};

/// What a [`ServerBuilder`] can do with a [`PostgresStore`].
pub trait PostgresMethods: Sized {
    /// Adds a method with effect whose handler runs in the transaction that also holds the call's
    /// record. Many run at once, on the store's threads: one that computes for long keeps others waiting.
    #[must_use]
    fn transaction<M, H>(self, handler: H) -> Self
    where
        M: Method,
        M::Params: DeserializeOwned + Send + 'static,
        M::Output: Serialize + Send + 'static,
        H: for<'t> Fn(M::Params, &'t mut Transaction, Context) -> HandlerFuture<'t, M::Output>
            + Send
            + Sync
            + 'static;

    /// The same under a name, with params of the type that the handler says.
    #[must_use]
    fn transaction_named<P, T, H>(self, name: &str, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T>
            + Send
            + Sync
            + 'static;

    /// As [`transaction`](Self::transaction): calls that wait together share a transaction of the database, in
    /// which their handlers run one after the other. For short handlers that are called often: it costs a part of
    /// what transactions of their own do. If one of them fails, all are undone, and run again by themselves.
    ///
    /// As long as no handler of the method has asked the database for a second statement, the first ones of a batch
    /// are sent together, and take one round trip for all.
    ///
    /// The records of a batch are written after its handlers have run. So a handler may run for a call that has run
    /// before, as for its transaction's own second run: what it wrote is undone, and the call is answered from the
    /// record.
    ///
    /// `now()` is the beginning of the transaction, up to 50 ms before the call; `clock_timestamp()` is exact.
    #[must_use]
    fn batched<M, H>(self, handler: H) -> Self
    where
        M: Method,
        M::Params: DeserializeOwned + Send + 'static,
        M::Output: Serialize + Send + 'static,
        H: for<'t> Fn(M::Params, &'t mut Transaction, Context) -> HandlerFuture<'t, M::Output>
            + Send
            + Sync
            + 'static;

    /// The same under a name, with params of the type that the handler says.
    #[must_use]
    fn batched_named<P, T, H>(self, name: &str, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T>
            + Send
            + Sync
            + 'static;
}

impl PostgresMethods for ServerBuilder {
    fn transaction<M, H>(self, handler: H) -> Self
    where
        M: Method,
        M::Params: DeserializeOwned + Send + 'static,
        M::Output: Serialize + Send + 'static,
        H: for<'t> Fn(M::Params, &'t mut Transaction, Context) -> HandlerFuture<'t, M::Output>
            + Send
            + Sync
            + 'static,
    {
        const { assert_mutation::<M>() }
        self.transaction_named::<M::Params, M::Output, H>(M::NAME, handler)
    }

    fn transaction_named<P, T, H>(self, name: &str, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T>
            + Send
            + Sync
            + 'static,
    {
        self.transaction_method(name, transaction_method::<P, T, H>(handler))
    }

    fn batched<M, H>(self, handler: H) -> Self
    where
        M: Method,
        M::Params: DeserializeOwned + Send + 'static,
        M::Output: Serialize + Send + 'static,
        H: for<'t> Fn(M::Params, &'t mut Transaction, Context) -> HandlerFuture<'t, M::Output>
            + Send
            + Sync
            + 'static,
    {
        const { assert_mutation::<M>() }
        self.batched_named::<M::Params, M::Output, H>(M::NAME, handler)
    }

    fn batched_named<P, T, H>(self, name: &str, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T>
            + Send
            + Sync
            + 'static,
    {
        self.transaction_method(name, batched_method::<P, T, H>(handler))
    }
}

const fn assert_mutation<M: Method>() {
    assert!(
        matches!(M::KIND, MethodKind::Mutation),
        "a transaction is a method with effect: its kind is MethodKind::Mutation"
    );
}

/// A `transaction` method with its types erased, as [`ServerBuilder::transaction_method`] takes it.
/// [`PostgresMethods`] is shorter.
pub fn transaction_method<P, T, H>(handler: H) -> Arc<dyn TransactionMethod>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T> + Send + Sync + 'static,
{
    method(handler, false)
}

/// The same whose calls may share a transaction; see [`PostgresMethods::batched`].
pub fn batched_method<P, T, H>(handler: H) -> Arc<dyn TransactionMethod>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T> + Send + Sync + 'static,
{
    method(handler, true)
}

fn method<P, T, H>(handler: H, is_batchable: bool) -> Arc<dyn TransactionMethod>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T> + Send + Sync + 'static,
{
    Arc::new(TypedMethod::<P, T, H> {
        handler: Arc::new(handler),
        batches: is_batchable.then(|| Arc::new(AtomicBool::new(true))),
        types: PhantomData,
    })
}

struct TypedMethod<P, T, H> {
    handler: Arc<H>,
    /// Whether calls that share a transaction may go out together, if they may share one.
    batches: Option<Arc<AtomicBool>>,
    types: PhantomData<fn(P) -> T>,
}

impl<P, T, H> TransactionMethod for TypedMethod<P, T, H>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    H: for<'t> Fn(P, &'t mut Transaction, Context) -> HandlerFuture<'t, T> + Send + Sync + 'static,
{
    fn store_type(&self) -> TypeId {
        TypeId::of::<PostgresStore>()
    }

    fn prepare(
        &self,
        params: Option<&str>,
        context: Context,
    ) -> Result<Box<dyn Any + Send>, ErrorObject> {
        let decoded = decode::<P>(params)?;
        let prepared = Prepared::new::<P, T, H>(&self.handler, decoded, params, context);
        Ok(Box::new(match &self.batches {
            Some(is_single) => prepared.batchable(is_single),
            None => prepared,
        }))
    }
}
