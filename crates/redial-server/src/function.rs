//! Which functions are handlers: of the params alone, or of the params and the [`Context`].

use std::future::Future;

use crate::{abort::Abort, context::Context};

/// Marks handlers that take the params alone. See [`AsyncHandler`].
#[derive(Debug)]
pub enum TakesParams {}

/// Marks handlers that take the params and the [`Context`]. See [`AsyncHandler`].
#[derive(Debug)]
pub enum TakesContext {}

/// An async function from a method's params `P` to its output `T`, with or without the call's
/// [`Context`]: `Fn(P) -> F` or `Fn(P, Context) -> F`, where `F` is a future of
/// `Result<T, Abort>`.
///
/// Every closure that returns such a future is one; what it shares with other calls it clones into
/// the future. `A` marks which of the two forms it has, and is never written out.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use redial_server::{Context, Server};
///
/// let names = Arc::new(Mutex::new(Vec::new()));
/// let builder = Server::builder()
///     // An async closure will do without state.
///     .query("echo", async |params: serde_json::Value| Ok(params))
///     .query("attempt", async |(): (), context: Context| Ok(context.attempt()))
///     .mutation("add", move |(name,): (String,)| {
///         let names = Arc::clone(&names);
///         async move {
///             names.lock().unwrap().push(name);
///             Ok(())
///         }
///     });
/// # builder.build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
pub trait AsyncHandler<A, P, T>: Send + Sync + 'static {
    /// The future that the function returns.
    type Future: Future<Output = Result<T, Abort>> + Send + 'static;

    /// Calls the function.
    fn call(&self, params: P, context: Context) -> Self::Future;
}

impl<P, T, H: ParamsHandler<P, T>> AsyncHandler<TakesParams, P, T> for H {
    type Future = <H as ParamsHandler<P, T>>::Future;

    fn call(&self, params: P, _: Context) -> Self::Future {
        self(params)
    }
}

impl<P, T, H: ContextHandler<P, T>> AsyncHandler<TakesContext, P, T> for H {
    type Future = <H as ContextHandler<P, T>>::Future;

    fn call(&self, params: P, context: Context) -> Self::Future {
        self(params, context)
    }
}

/// An [`AsyncHandler`] that takes the params alone: what
/// [`ServerBuilder::method`](crate::ServerBuilder::method) takes, so that the types of a closure's
/// params follow from the method. Implemented for every function of that form.
pub trait ParamsHandler<P, T>:
    Fn(P) -> <Self as ParamsHandler<P, T>>::Future + Send + Sync + 'static
{
    /// The future that the function returns.
    type Future: Future<Output = Result<T, Abort>> + Send + 'static;
}

impl<P, T, F, H> ParamsHandler<P, T> for H
where
    H: Fn(P) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Abort>> + Send + 'static,
{
    type Future = F;
}

/// An [`AsyncHandler`] that takes the params and the [`Context`]: what
/// [`ServerBuilder::method_with_context`](crate::ServerBuilder::method_with_context) takes.
/// Implemented for every function of that form.
pub trait ContextHandler<P, T>:
    Fn(P, Context) -> <Self as ContextHandler<P, T>>::Future + Send + Sync + 'static
{
    /// The future that the function returns.
    type Future: Future<Output = Result<T, Abort>> + Send + 'static;
}

impl<P, T, F, H> ContextHandler<P, T> for H
where
    H: Fn(P, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Abort>> + Send + 'static,
{
    type Future = F;
}
