//! `tower`'s layers around handlers, and its services as handlers (feature `tower`).
//!
//! [`layer`] makes a [`Layer`] of any `tower` layer whose services can be cloned, or of a
//! stack of them. What it is around is the service [`Handlers`], which takes a [`TowerCall`] and gives its
//! [`Outcome`]. [`handler`] makes a handler of a service that takes a [`TowerRequest`].
//!
//! ```
//! use std::time::Duration;
//!
//! use redial_server::{Abort, Server, tower::{self, TowerRequest}};
//! use ::tower::{ServiceBuilder, load_shed::error::Overloaded, service_fn};
//!
//! let limits = ServiceBuilder::new()
//!     .load_shed()
//!     .concurrency_limit(8)
//!     .timeout(Duration::from_secs(1));
//! let double = service_fn(async |request: TowerRequest<(i64,)>| {
//!     let double = request.params.0.checked_mul(2);
//!     double.ok_or_else(|| Abort::failed("too large"))
//! });
//! let builder = Server::builder()
//!     .query("double", tower::handler(double))
//!     .layer_of(
//!         "double",
//!         // Redial's client waits for so long, and then tries again.
//!         tower::layer(limits).overloaded_if(Duration::from_millis(100), |error| error.is::<Overloaded>()),
//!     );
//! # builder.build()?;
//! # Ok::<(), redial_server::BuildError>(())
//! ```
//!
//! What a caller hears of a layer's error depends on how far its handler had come:
//!
//! | the handler | as after | the caller hears | on record |
//! |---|---|---|---|
//! | has not started | `LoadShed`, a filter | -32000, not executed, or -32001 by [`overloaded_if`](TowerLayer::overloaded_if) | no: a retry may run |
//! | was stopped midway | `Timeout` | -32008, unknown | yes: it is not executed again |
//! | has ended with a result or an error | a layer that checks outcomes | -32000, executed | yes |
//! | has ended without effect | the same | -32000, not executed | no |
//!
//! The error's text is not sent, as if a handler had passed it on with `?`, unless the error is an
//! [`Abort`], which is one of `tower`'s boxed errors, too.
//!
//! Layers that send a request again (`Retry`, `Hedge`) need to clone it, and a [`TowerCall`] can't be: a handler
//! runs once. What waits in a layer, for `ConcurrencyLimit` or a `Buffer`, holds a run permit of the server:
//! [`MethodLimits`](crate::MethodLimits) bound calls without that.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll},
    time::Duration,
};

use tower_service::Service;

use crate::{
    abort::Abort,
    context::Context,
    handler::Completion,
    layer::{Layer, LayerCall, LayerFuture, Next, Reached},
    refusal,
    store::{Outcome, OutcomeKind},
};

/// The error of `tower`'s own layers.
type BoxError = Box<dyn Error + Send + Sync>;

type IsOverload = dyn Fn(&(dyn Error + 'static)) -> bool + Send + Sync;

/// Makes a layer of a layer of `tower`, which is around one service from then on: what it counts, it counts
/// over all methods that it is around. For each method alone it takes
/// [`layer_of`](crate::ServerBuilder::layer_of).
pub fn layer<L>(layer: L) -> TowerLayer<L::Service>
where
    L: tower_layer::Layer<Handlers>,
    L::Service: Service<TowerCall, Response = Outcome> + Clone + Send + 'static,
    <L::Service as Service<TowerCall>>::Error: Into<BoxError>,
    <L::Service as Service<TowerCall>>::Future: Send,
{
    TowerLayer {
        service: Mutex::new(layer.layer(Handlers { _private: () })),
        overload: None,
    }
}

/// A layer of `tower` as a [`Layer`]; see [`layer`].
pub struct TowerLayer<S> {
    service: Mutex<S>,
    overload: Option<OverloadRule>,
}

/// Which errors say that there is no room now, and when there may be.
#[derive(Clone)]
struct OverloadRule {
    is_overload: Arc<IsOverload>,
    retry_after: Duration,
}

impl<S> TowerLayer<S> {
    /// Takes these errors for a lack of room, if the handler has not started: -32001, and the caller may
    /// try again after so long. Redial's client does. Without this such a call ends as not executed, and
    /// is not tried again.
    #[must_use]
    pub fn overloaded_if(
        self,
        retry_after: Duration,
        is_overload: impl Fn(&(dyn Error + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        let overload = OverloadRule {
            is_overload: Arc::new(is_overload),
            retry_after,
        };
        Self {
            overload: Some(overload),
            ..self
        }
    }
}

impl<S> Layer for TowerLayer<S>
where
    S: Service<TowerCall, Response = Outcome> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn call(&self, call: LayerCall, next: Next) -> LayerFuture {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        let mut service = S::clone(&service);
        let overload = self.overload.clone();
        let progress = next.progress().clone();
        Box::pin(async move {
            let ready = poll_fn(|cx| service.poll_ready(cx)).await;
            let result = match ready.map_err(Into::into) {
                Ok(()) => {
                    let called = service.call(TowerCall { call, next });
                    called.await.map_err(Into::into)
                }
                Err(error) => Err(error),
            };
            result.unwrap_or_else(|error| refused(error, progress.reached(), overload))
        })
    }
}

impl<S> fmt::Debug for TowerLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerLayer").finish_non_exhaustive()
    }
}

/// What an error comes to. Of a handler that was stopped midway it is the caller of this who says that it
/// was interrupted.
fn refused(error: BoxError, reached: Reached, overload: Option<OverloadRule>) -> Outcome {
    let error = match error.downcast::<AbortError>() {
        Ok(abort) => return abort.0.into(),
        Err(error) => error,
    };
    let overload = overload.filter(|overload| (overload.is_overload)(&*error));
    match (reached, overload) {
        (Reached::NotStarted, Some(overload)) => {
            let error = refusal::overloaded_layer(overload.retry_after);
            let bytes = Completion::recorded_error(&error).outcome;
            Outcome::from_parts(bytes, OutcomeKind::NoEffect)
        }
        _ => Abort::foreign(error.to_string(), reached != Reached::Ended).into(),
    }
}

/// A call on its way to its handler: what goes through the services of `tower`.
#[derive(Debug)]
pub struct TowerCall {
    call: LayerCall,
    next: Next,
}

impl TowerCall {
    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        self.call.method()
    }

    /// Who calls, what is said beside the params, which attempt it is, and the rest of what a handler may
    /// want to know.
    #[must_use]
    pub fn context(&self) -> &Context {
        self.call.context()
    }
}

/// The service that a layer of `tower` is around: the layers that were added after it, and the handlers.
/// Dropping its future stops the handler.
#[derive(Clone, Debug)]
pub struct Handlers {
    _private: (),
}

impl Service<TowerCall> for Handlers {
    type Response = Outcome;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, TowerCall { call, next }: TowerCall) -> Self::Future {
        Box::pin(async move { Ok(next.run(call).await) })
    }
}

/// What a service that is a [`handler`] takes.
#[derive(Clone, Debug)]
pub struct TowerRequest<P> {
    /// The params of the call.
    pub params: P,
    /// The rest of what a handler may want to know.
    pub context: Context,
}

/// What [`handler`] makes of a service.
pub type ServiceFuture<T> = Pin<Box<dyn Future<Output = Result<T, Abort>> + Send>>;

/// Makes a handler of a service, which is cloned for each call and waited for until it is ready. Its error
/// is the call's own: as it is if it is an [`Abort`], otherwise without its text. A service that is not ready
/// and fails has not been called: the call had no effect.
///
/// Layers that are part of such a service are part of the handler, so that an error of theirs is an error
/// of the handler: executed, and on record. [`layer`] knows better.
///
/// ```
/// use redial_server::{Abort, Server, tower::{self, TowerRequest}};
///
/// let greet = ::tower::service_fn(async |request: TowerRequest<(String,)>| {
///     Ok::<_, Abort>(format!("hello {}, attempt {}", request.params.0, request.context.attempt()))
/// });
/// let builder = Server::builder().query("greet", tower::handler(greet));
/// # builder.build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
pub fn handler<S, P, T>(
    service: S,
) -> impl Fn(P, Context) -> ServiceFuture<T> + Send + Sync + 'static
where
    S: Service<TowerRequest<P>, Response = T> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    P: Send + 'static,
    T: 'static,
{
    let service = Mutex::new(service);
    move |params, context| {
        let service = service.lock().unwrap_or_else(PoisonError::into_inner);
        let mut service = S::clone(&service);
        Box::pin(async move {
            let ready = poll_fn(|cx| service.poll_ready(cx)).await;
            ready.map_err(|error| abort_of(error.into(), true))?;
            let called = service.call(TowerRequest { params, context });
            called.await.map_err(|error| abort_of(error.into(), false))
        })
    }
}

fn abort_of(error: BoxError, had_no_effect: bool) -> Abort {
    match error.downcast::<AbortError>() {
        Ok(abort) => abort.0,
        Err(error) => Abort::foreign(error.to_string(), had_no_effect),
    }
}

/// An [`Abort`] as one of `tower`'s errors.
struct AbortError(Abort);

impl Error for AbortError {}

impl fmt::Display for AbortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call was aborted")
    }
}

impl fmt::Debug for AbortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For services that fail with an [`Abort`] behind layers that box their errors.
impl From<Abort> for BoxError {
    fn from(abort: Abort) -> Self {
        Box::new(AbortError(abort))
    }
}
