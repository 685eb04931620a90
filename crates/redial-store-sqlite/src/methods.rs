//! How methods that run on the store are registered with a server.

use std::{any::TypeId, marker::PhantomData, sync::Arc};

use redial_protocol::ErrorObject;
use redial_server::{
    Abort, Context, Method, MethodKind, ServerBuilder,
    store::{TransactionMethod, decode},
};
use rusqlite::Connection;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    store::SqliteStore,
    transaction::{Handler, Prepared, Transaction, TransactionHandler},
};

/// What a [`ServerBuilder`] can do with a [`SqliteStore`].
///
/// Handlers are given as closures without types, as with [`ServerBuilder::method`]; those with a name in
/// place of a [`Method`] say which params they take.
pub trait SqliteMethods: Sized {
    /// Adds a method with effect whose handler runs in the transaction that also holds the call's
    /// record. It is synchronous, and all such handlers run one after another on the store's thread:
    /// keep them short.
    #[must_use]
    fn transaction<M: Method>(self, handler: impl TransactionHandler<M::Params, M::Output>)
    -> Self;

    /// The same under a name.
    #[must_use]
    fn transaction_named<P, T, H>(self, name: &str, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
        H: Fn(P, &mut Transaction<'_>, Context) -> Result<T, Abort> + Send + Sync + 'static;

    /// Adds a method without effect whose handler reads what is durable, in one snapshot. It runs in
    /// place, where the connection that brought the call stands: one that reads for long should be a
    /// [`query`](ServerBuilder::query) that calls [`SqliteStore::read`] on a thread of its own.
    #[must_use]
    fn read<M: Method>(
        self,
        store: &SqliteStore,
        handler: impl ReadHandler<M::Params, M::Output>,
    ) -> Self;

    /// The same under a name.
    #[must_use]
    fn read_named<P, T, H>(self, name: &str, store: &SqliteStore, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        H: Fn(P, &Connection) -> Result<T, Abort> + Send + Sync + 'static;
}

/// A function that reads: `Fn(P, &Connection) -> Result<T, Abort>`. Implemented for every function of that
/// form.
pub trait ReadHandler<P, T>:
    Fn(P, &Connection) -> Result<T, Abort> + Send + Sync + 'static
{
}

impl<P, T, H> ReadHandler<P, T> for H where
    H: Fn(P, &Connection) -> Result<T, Abort> + Send + Sync + 'static
{
}

impl SqliteMethods for ServerBuilder {
    fn transaction<M: Method>(
        self,
        handler: impl TransactionHandler<M::Params, M::Output>,
    ) -> Self {
        const {
            assert!(
                matches!(M::KIND, MethodKind::Mutation),
                "a transaction is a method with effect: its kind is MethodKind::Mutation"
            );
        }
        self.transaction_method(
            M::NAME,
            transaction_method::<M::Params, M::Output, _>(handler),
        )
    }

    fn transaction_named<P, T, H>(self, name: &str, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
        H: Fn(P, &mut Transaction<'_>, Context) -> Result<T, Abort> + Send + Sync + 'static,
    {
        self.transaction_method(name, transaction_method::<P, T, H>(handler))
    }

    fn read<M: Method>(
        self,
        store: &SqliteStore,
        handler: impl ReadHandler<M::Params, M::Output>,
    ) -> Self {
        const {
            assert!(
                matches!(M::KIND, MethodKind::Query),
                "a method that reads has no effect: its kind is MethodKind::Query"
            );
        }
        self.read_named::<M::Params, M::Output, _>(M::NAME, store, handler)
    }

    fn read_named<P, T, H>(self, name: &str, store: &SqliteStore, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        H: Fn(P, &Connection) -> Result<T, Abort> + Send + Sync + 'static,
    {
        let store = store.clone();
        self.query(name, move |params: P| {
            std::future::ready(store.read(|connection| handler(params, connection)))
        })
    }
}

/// A `transaction` method with its types erased, as [`ServerBuilder::transaction_method`] takes it.
/// [`SqliteMethods`] is shorter.
pub fn transaction_method<P, T, H>(handler: H) -> Arc<dyn TransactionMethod>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + 'static,
    H: TransactionHandler<P, T>,
{
    let handler = Arc::new(Handler {
        function: handler,
        failures: Arc::default(),
    });
    Arc::new(TypedMethod::<P, T, H> {
        handler,
        types: PhantomData,
    })
}

struct TypedMethod<P, T, H> {
    handler: Arc<Handler<H>>,
    types: PhantomData<fn(P) -> T>,
}

impl<P, T, H> TransactionMethod for TypedMethod<P, T, H>
where
    P: DeserializeOwned + Send + 'static,
    T: Serialize + 'static,
    H: TransactionHandler<P, T>,
{
    fn store_type(&self) -> TypeId {
        TypeId::of::<SqliteStore>()
    }

    fn prepare(
        &self,
        params: Option<&str>,
        context: Context,
    ) -> Result<Box<dyn std::any::Any + Send>, ErrorObject> {
        let decoded = decode::<P>(params)?;
        let prepared = Prepared::new::<P, T, H>(&self.handler, decoded, params, context);
        Ok(Box::new(prepared))
    }
}
