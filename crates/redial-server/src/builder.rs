//! How a server is put together.

mod build;
mod describe;

use std::{future::Future, pin::Pin, sync::Arc};

use redial_protocol::{Method, MethodKind, Principal};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    auth::{ErasedVerifier, Verifier},
    config::Config,
    discover::{Descriptions, ServiceInfo},
    error::BuildError,
    failure_texts::Disclosure,
    fault::{FaultControl, Faults},
    function::{AsyncHandler, ContextHandler, ParamsHandler},
    handler::TypedHandler,
    layer::Layer,
    method_limits::MethodLimits,
    observe::Observer,
    router::{MethodBody, Router},
    server::Server,
    shared::{Policy, SpawnBackground},
    store::{Store, TransactionMethod},
    traces::Traces,
};

/// Puts a [`Server`] together: methods, limits, faults and an observer. Errors are reported by
/// [`build`](Self::build).
///
/// ```
/// use redial_server::{Abort, Config, Context, Method, MethodKind, Server};
///
/// /// Doubles a number.
/// enum Double {}
///
/// impl Method for Double {
///     const NAME: &'static str = "double";
///     const KIND: MethodKind = MethodKind::Query;
///     type Params = (i64,);
///     type Output = i64;
/// }
///
/// let server = Server::builder()
///     .config(Config { max_running: 64, ..Config::default() })
///     .method::<Double>(|(number,)| async move {
///         number.checked_mul(2).ok_or_else(|| Abort::failed("too large"))
///     })
///     .query("attempt", async |(): (), context: Context| Ok(context.attempt()))
///     .build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
#[derive(Default)]
pub struct ServerBuilder {
    config: Config,
    router: Router,
    faults: Option<Faults>,
    fault_control: Option<FaultControl>,
    observers: Vec<Arc<dyn Observer>>,
    traces: Traces,
    /// Observers of this crate, which leave what is for people to those of the program.
    instruments: Vec<Arc<dyn Observer>>,
    /// The latest of them that records metrics.
    #[cfg(feature = "metrics")]
    recorder: Option<Arc<crate::metrics::Recorder>>,
    disclosure: Arc<Disclosure>,
    exposes_failures: bool,
    unix_principals: bool,
    verifier: Option<Arc<dyn ErasedVerifier>>,
    policy: Option<Policy>,
    info: ServiceInfo,
    descriptions: Descriptions,
    session_seed: Option<u64>,
    spawn_background: Option<SpawnBackground>,
    store: Option<Arc<dyn Store>>,
    layers: Vec<(Option<String>, Arc<dyn Layer>)>,
    /// The first thing that was wrong.
    error: Option<BuildError>,
}

impl Server {
    /// Starts a builder with the default [`Config`] and no methods.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

impl ServerBuilder {
    /// Sets all limits.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Adds a typed method: its name, its kind and its types are those of `M`, so that those of a
    /// closure need not be written out.
    ///
    /// A handler is polled in place while it doesn't wait for anything; one that computes for long
    /// should move to a thread of its own (`spawn_blocking`). It runs at most once per call, on
    /// behalf of the call and not of the connection: when the caller goes away, it goes on.
    ///
    /// ```
    /// use redial_server::{Abort, Method, MethodKind, Server};
    ///
    /// enum Withdraw {}
    ///
    /// impl Method for Withdraw {
    ///     const NAME: &'static str = "withdraw";
    ///     const KIND: MethodKind = MethodKind::Mutation;
    ///     type Params = (String, u64);
    ///     type Output = u64;
    /// }
    ///
    /// let builder = Server::builder().method::<Withdraw>(|(account, cents)| async move {
    ///     if account.is_empty() {
    ///         return Err(Abort::failed("which account?"));
    ///     }
    ///     Ok(100_u64.saturating_sub(cents))
    /// });
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn method<M: Method>(self, handler: impl ParamsHandler<M::Params, M::Output>) -> Self {
        self.add(M::NAME, M::KIND, handler)
    }

    /// The same for a handler that takes the call's [`Context`](crate::Context), too.
    ///
    /// ```
    /// use redial_server::{Method, MethodKind, Server};
    ///
    /// enum Attempt {}
    ///
    /// impl Method for Attempt {
    ///     const NAME: &'static str = "attempt";
    ///     const KIND: MethodKind = MethodKind::Query;
    ///     type Params = (String,);
    ///     type Output = String;
    /// }
    ///
    /// let builder = Server::builder().method_with_context::<Attempt>(|(name,), context| async move {
    ///     Ok(format!("{} {}", name.to_lowercase(), context.attempt()))
    /// });
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn method_with_context<M: Method>(
        self,
        handler: impl ContextHandler<M::Params, M::Output>,
    ) -> Self {
        self.add(M::NAME, M::KIND, handler)
    }

    /// Adds a method without effect under a name. It is never recorded, and runs again for every
    /// attempt.
    ///
    /// The params of a call are an object or an array. A type with named fields takes either, its
    /// values in the fields' order if it is an array; a tuple takes an array, so one positional param
    /// is `(i64,)`, not `i64`; `()` takes none; a [`serde_json::Value`] takes any. What doesn't fit is
    /// refused with -32602 before the handler starts. A handler refuses what it doesn't like with
    /// [`Abort::failed`](crate::Abort::failed).
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use redial_server::{Abort, Server};
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct AtParams {
    ///     index: usize,
    /// }
    ///
    /// let names = Arc::new(Mutex::new(vec!["Ada".to_owned()]));
    /// let builder = Server::builder().query("at", move |params: AtParams| {
    ///     // One clone for each call, which its future takes along.
    ///     let names = Arc::clone(&names);
    ///     async move {
    ///         let name = names.lock().unwrap().get(params.index).cloned();
    ///         name.ok_or_else(|| Abort::failed("no name there"))
    ///     }
    /// });
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn query<A, P, T>(self, name: &str, handler: impl AsyncHandler<A, P, T>) -> Self
    where
        A: 'static,
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
    {
        self.add(name, MethodKind::Query, handler)
    }

    /// Adds a method with effect under a name. It runs at most once per call, and its outcome is
    /// recorded, an [`Abort::failed`](crate::Abort::failed) like any other: a retry gets it again. A
    /// handler that has certainly done nothing may say so with
    /// [`Abort::no_effect`](crate::Abort::no_effect). For its params see [`query`](Self::query).
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicI64, Ordering::Relaxed}};
    /// use redial_server::{Abort, Server};
    ///
    /// let total = Arc::new(AtomicI64::new(0));
    /// let builder = Server::builder().mutation("add", move |(delta,): (i64,)| {
    ///     let total = Arc::clone(&total);
    ///     async move {
    ///         if delta < 0 {
    ///             return Err(Abort::failed("expected a delta from 0").code(7));
    ///         }
    ///         Ok(total.fetch_add(delta, Relaxed) + delta)
    ///     }
    /// });
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn mutation<A, P, T>(self, name: &str, handler: impl AsyncHandler<A, P, T>) -> Self
    where
        A: 'static,
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
    {
        self.add(name, MethodKind::Mutation, handler)
    }

    /// Keeps the record of every mutation in a durable table, too: a call that was acknowledged is then
    /// never lost, and a client finds its session and its calls after a restart.
    ///
    /// A call of a [`mutation`](Self::mutation) is recorded twice, before its handler starts and after
    /// it has ended. One whose process dies in between ends as *interrupted* (-32008), unless its
    /// method is [`resumable`](Self::resumable). A store offers a third kind of method, whose effect
    /// and record are one transaction; see its own crate.
    #[must_use]
    pub fn store(self, store: impl Store) -> Self {
        Self {
            store: Some(Arc::new(store)),
            ..self
        }
    }

    /// Adds a method that runs inside a transaction of the [store](Self::store). The store's crate has
    /// typed methods for it.
    #[must_use]
    pub fn transaction_method(mut self, name: &str, method: Arc<dyn TransactionMethod>) -> Self {
        let body = MethodBody::Transaction(method);
        let texts = self.disclosure.of(name);
        let added = (self.router).add(name, MethodKind::Mutation, body, texts);
        self.error = self.error.or(added.err());
        self
    }

    /// Has calls of a mutation that a crash has interrupted run again, under the same id, when a
    /// server is made on the same [store](Self::store). So a handler may run more than once; it is
    /// safe to mark one that passes its call's id on as its own idempotency key
    /// ([`Context::call_id`](crate::Context::call_id)). Without a store it changes nothing.
    ///
    /// ```
    /// use redial_server::{Context, Server};
    ///
    /// let builder = Server::builder()
    ///     .mutation("pay", async |(cents,): (u64,), context: Context| {
    ///         let _key = context.call_id();
    ///         Ok(cents)
    ///     })
    ///     .resumable("pay");
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn resumable(mut self, name: &str) -> Self {
        let marked = self.router.set_resumable(name);
        self.error = self.error.or(marked.err());
        self
    }

    /// Bounds the calls of one method: how long a handler may run, and how many run at once. So a method
    /// whose handlers hang is left by its calls, and takes no more permits than it may.
    #[must_use]
    pub fn method_limits(mut self, name: &str, limits: MethodLimits) -> Self {
        let set = self.router.set_limits(name, limits);
        self.error = self.error.or(set.err());
        self
    }

    /// Puts a [`Layer`] around the handlers of all methods, whether they were added before it or are
    /// later. The first layer that is added is the outermost. A method that runs inside a transaction of
    /// a store can have none: [`build`](Self::build) then fails, rather than leave it without; see
    /// [`layer_of`](Self::layer_of).
    #[must_use]
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push((None, Arc::new(layer)));
        self
    }

    /// The same for one method.
    #[must_use]
    pub fn layer_of(mut self, method: &str, layer: impl Layer) -> Self {
        self.layers.push((Some(method.to_owned()), Arc::new(layer)));
        self
    }

    /// Lets requests and replies go wrong by these rules, which can be changed at any time
    /// through a clone of `faults`. Without this the server has rules of its own, none of them
    /// set: see [`Server::faults`].
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        Self {
            faults: Some(faults),
            ..self
        }
    }

    /// Lets certain callers look at the fault rules and change them while the server runs, with
    /// `rpc.faults`, as the program `redial` does. Default: no caller, and there is no such method.
    ///
    /// **Not for production**: these callers can have the server drop every request.
    ///
    /// ```
    /// use redial_server::{FaultControl, Server};
    ///
    /// let builder = Server::builder().fault_control(FaultControl::Local);
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn fault_control(self, who: FaultControl) -> Self {
        Self {
            fault_control: Some(who),
            ..self
        }
    }

    /// Takes who connects to a Unix socket for a principal, `uid:` and the number of its user. Default
    /// false: all of them are one peer without a name.
    #[must_use]
    pub fn unix_principals(self, has_principals: bool) -> Self {
        Self {
            unix_principals: has_principals,
            ..self
        }
    }

    /// Sends callers the texts of panics, and of errors that a handler passes on with `?`. Default false:
    /// such a text was meant for no caller and may hold paths, queries or secrets, so the caller gets a
    /// reference (`the handler failed (reference 7f3a09c1e2d4)`), and the text goes to
    /// [`Observer::observe_hidden`] or, without an observer, to standard error. What a handler says with
    /// [`Abort::failed`](crate::Abort::failed) is sent in any case.
    ///
    /// ```
    /// use redial_server::Server;
    ///
    /// let builder = Server::builder()
    ///     .query("port", async |(text,): (String,)| Ok(text.parse::<u16>()?))
    ///     .expose_failures(cfg!(debug_assertions));
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn expose_failures(self, exposes_failures: bool) -> Self {
        Self {
            exposes_failures,
            ..self
        }
    }

    /// Calls the observer for whatever happens: to attempts, connections, sessions, and in the store. May
    /// be called for several observers.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Records metrics by way of the facade `metrics`: see [`metrics`](crate::metrics) for their names. To
    /// be called when the program has installed its exporter, which is looked for when the server is built.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self) -> Self {
        let recorder = Arc::new(crate::metrics::Recorder::default());
        self.instruments.push(recorder.clone());
        self.recorder = Some(recorder);
        self
    }

    /// Gives attempts and executions spans of `tracing`: see [`Traces`].
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Asks callers for a token that shows who they are, unless their transport vouches for them: a
    /// client certificate, or a Unix socket, whose peers have principals then. Until a connection has
    /// shown one, only `rpc.auth`, `rpc.hello` with a token and `rpc.ping` are answered; all else is
    /// -32005. It is closed after [`Config::auth_timeout`](crate::Config::auth_timeout).
    ///
    /// A connection has one principal for its life: a token of another is refused, and one of the same
    /// renews it.
    #[must_use]
    pub fn authenticate(self, verifier: impl Verifier) -> Self {
        Self {
            verifier: Some(Arc::new(verifier)),
            ..self
        }
    }

    /// Lets a principal call a method only if this says so: else -32009, without effect or record. Asked
    /// for each new call, on the connection's task, so it must not wait; outcomes on record are replayed
    /// without it. The methods of the protocol itself are not asked about.
    ///
    /// ```
    /// use redial_server::{Principal, Server};
    ///
    /// let builder = Server::builder()
    ///     .mutation("refund", async |(cents,): (u64,)| Ok(cents))
    ///     .policy(|principal, method| match principal.map(Principal::as_str) {
    ///         Some("token:billing") => true,
    ///         Some(_) => method != "refund",
    ///         None => false,
    ///     });
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn policy(
        self,
        policy: impl Fn(Option<&Principal>, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            policy: Some(Box::new(policy)),
            ..self
        }
    }

    /// The name and the version of the service in the answer of `rpc.discover`. Default: Redial's.
    #[must_use]
    pub fn info(self, title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            info: ServiceInfo {
                title: title.into(),
                version: version.into(),
            },
            ..self
        }
    }

    /// Makes the ids of sessions repeat. **Only for simulations**: a session must not be known
    /// again by another server, and its id must not be guessed.
    #[must_use]
    pub fn session_seed(self, seed: u64) -> Self {
        Self {
            session_seed: Some(seed),
            ..self
        }
    }

    /// Spawns with `spawn` what the server does beside serving connections, instead of on the runtime
    /// that serves the first of them. **Only for simulations**, which stop a server while time goes on.
    #[must_use]
    pub fn spawn_background(
        self,
        spawn: impl Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            spawn_background: Some(Box::new(spawn)),
            ..self
        }
    }

    fn add<A, P, T>(
        mut self,
        name: &str,
        kind: MethodKind,
        handler: impl AsyncHandler<A, P, T>,
    ) -> Self
    where
        A: 'static,
        P: DeserializeOwned + Send + 'static,
        T: Serialize + 'static,
    {
        let texts = self.disclosure.of(name);
        let handler = TypedHandler::new(handler, texts.clone());
        let body = MethodBody::Handler(Box::new(handler));
        let added = self.router.add(name, kind, body, texts);
        self.error = self.error.or(added.err());
        self
    }
}
