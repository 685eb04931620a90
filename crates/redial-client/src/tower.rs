//! The client, or one method of its server, as a service of `tower` (feature `tower`).
//!
//! [`service`] makes a [`Service`] that takes a [`TowerRequest`]: any method, by its name. [`method`] makes
//! one that takes the params of a method which server and client share as a type. Both can be cloned, and
//! all of one client share its connections and its session.
//!
//! ```no_run
//! # async fn f(client: redial_client::Client) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use std::time::Duration;
//!
//! use redial_client::tower::{self, TowerRequest};
//! use ::tower::{Service, ServiceBuilder, ServiceExt};
//!
//! let mut service = ServiceBuilder::new()
//!     .concurrency_limit(64)
//!     .timeout(Duration::from_secs(2))
//!     .service(tower::service(&client));
//! let request = TowerRequest::mutation("inc", serde_json::json!({"key": "k"}));
//! let reply = service.ready().await?.call(request).await?;
//! println!("{} after {} attempts", reply.value, reply.report.attempts());
//! # Ok(())
//! # }
//! ```
//!
//! * The client is always ready. A call waits for a connection, for room on it and for a number of the
//!   session by itself, within its deadline: what else is to wait before the call, `ConcurrencyLimit` holds
//!   back.
//! * Dropping the future cancels the call if the server has not started it, so after `Timeout` has dropped
//!   one it is *unknown*, without its token. A [deadline](crate::CallLimits::deadline) ends it with one.
//! * Each request is a new call, with an id and an effect of its own. So `Retry` on top of the client's own
//!   attempts is safe only after an error that says that nothing was executed, and `Hedge` only around
//!   queries. The client does both with one id: [`max_attempts`](crate::CallLimits::max_attempts),
//!   [`hedge`](crate::CallLimits::hedge).
//! * The client's own [layers](crate::ClientBuilder::layer) are further in than all services.

use std::{
    borrow::Cow,
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use redial_protocol::{Method, MethodKind};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_service::Service;

use crate::{
    call::{Call, CallFuture},
    client::Client,
    error::CallError,
    report::Reply,
};

/// A request for a [`ClientService`]: a method by its name, and its params, an object, an array
/// or null.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TowerRequest {
    /// The method's name.
    pub method: Cow<'static, str>,
    /// Its params.
    pub params: Value,
    /// What the client takes the method for; see [`Client::request`] and [`Client::query`].
    pub kind: MethodKind,
}

impl TowerRequest {
    /// A request of a method that may have an effect.
    #[must_use]
    pub fn mutation(method: impl Into<Cow<'static, str>>, params: Value) -> Self {
        Self {
            method: method.into(),
            params,
            kind: MethodKind::Mutation,
        }
    }

    /// A request of a method without effect.
    #[must_use]
    pub fn query(method: impl Into<Cow<'static, str>>, params: Value) -> Self {
        Self {
            kind: MethodKind::Query,
            ..Self::mutation(method, params)
        }
    }
}

/// Makes a service of all methods.
#[must_use]
pub fn service(client: &Client) -> ClientService {
    ClientService {
        client: client.clone(),
    }
}

/// All methods of the client's server as a service; see [`service`].
#[derive(Clone, Debug)]
pub struct ClientService {
    client: Client,
}

impl Service<TowerRequest> for ClientService {
    type Response = Reply<Value>;
    type Error = CallError;
    type Future = ReplyFuture<Value>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TowerRequest) -> ReplyFuture<Value> {
        let TowerRequest {
            method,
            params,
            kind,
        } = request;
        ReplyFuture::new(match kind {
            MethodKind::Query => self.client.query(method, params),
            MethodKind::Mutation => self.client.request(method, params),
        })
    }
}

/// Makes a service of one method.
///
/// ```no_run
/// # enum Inc {}
/// # impl redial_client::Method for Inc {
/// #     const NAME: &'static str = "inc";
/// #     const KIND: redial_client::MethodKind = redial_client::MethodKind::Mutation;
/// #     type Params = (i64,);
/// #     type Output = i64;
/// # }
/// # async fn f(client: redial_client::Client) -> Result<(), redial_client::CallError> {
/// use ::tower::{Service, ServiceExt};
///
/// let mut inc = redial_client::tower::method::<Inc>(&client);
/// let reply = inc.ready().await?.call((2,)).await?;
/// println!("{}", reply.value);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn method<M: Method>(client: &Client) -> MethodService<M> {
    MethodService {
        client: client.clone(),
        method: PhantomData,
    }
}

/// One method of the client's server as a service; see [`method`].
pub struct MethodService<M> {
    client: Client,
    method: PhantomData<fn() -> M>,
}

impl<M> Clone for MethodService<M> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            method: PhantomData,
        }
    }
}

impl<M: Method> fmt::Debug for MethodService<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MethodService")
            .field("method", &M::NAME)
            .field("client", &self.client)
            .finish()
    }
}

impl<M: Method> Service<M::Params> for MethodService<M> {
    type Response = Reply<M::Output>;
    type Error = CallError;
    type Future = ReplyFuture<M::Output>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, params: M::Params) -> ReplyFuture<M::Output> {
        ReplyFuture::new(self.client.call::<M>(params))
    }
}

/// A call's value with how it went. Dropping it is dropping the call's future; see [`CallFuture`].
#[derive(Debug)]
#[must_use = "a call is sent when it is awaited"]
pub struct ReplyFuture<O> {
    call: CallFuture<O>,
}

impl<O: DeserializeOwned> ReplyFuture<O> {
    fn new(call: Call<O>) -> Self {
        let mut call = call.into_future();
        call.ask_report();
        Self { call }
    }
}

impl<O: DeserializeOwned> Future for ReplyFuture<O> {
    type Output = Result<Reply<O>, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let value = ready!(Pin::new(&mut self.call).poll(context))?;
        let report = self.call.report();
        Poll::Ready(Ok(Reply { value, report }))
    }
}
