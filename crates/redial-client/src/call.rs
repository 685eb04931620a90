//! One call: what may be chosen about it, and what awaiting it gives.

mod bare;
mod conclude;
mod finished;
mod guard;
mod layered;
#[cfg(feature = "metrics")]
mod metered;
mod prepared;
mod state;

use std::{
    borrow::Cow,
    fmt,
    future::{Future, IntoFuture, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use redial_protocol::{MethodKind, Priority};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use self::{guard::CallGuard, prepared::PreparedCall, state::CallExtra};
use crate::{
    call_options::CallOrigin,
    cause::{Cause, GiveUpReason},
    config::CallLimits,
    error::CallError,
    handle::ClientHandle,
    inline_bytes::InlineBytes,
    meter::Metered,
    mux::pending_call::CallFlags,
    policy::{adaptive_timeout::AdaptiveTimeout, backoff::Backoff, hedge::Hedge},
    report::{Reply, Report},
    token::CallToken,
};

/// A call that is prepared and not yet sent. Awaiting it gives the value; [`with_report`]
/// gives it with how it went.
///
/// [`with_report`]: Self::with_report
///
/// ```no_run
/// # async fn f(client: redial_client::Client) -> Result<(), redial_client::CallError> {
/// use std::time::Duration;
///
/// let reply = client
///     .request("inc", serde_json::json!({"key": "k", "delta": 2}))
///     .attempt_timeout(Duration::from_millis(100))
///     .max_attempts(6)
///     .deadline(Duration::from_secs(2))
///     .with_report()
///     .await?;
/// println!("{} after {} attempts", reply.value, reply.report.attempts());
/// # Ok(())
/// # }
/// ```
#[must_use = "a call is sent when it is awaited"]
pub struct Call<O> {
    client: Arc<ClientHandle>,
    prepared: PreparedCall,
    output: PhantomData<fn() -> O>,
}

impl<O> Call<O> {
    pub(crate) fn new(
        client: &Arc<ClientHandle>,
        method: Cow<'static, str>,
        params: &impl Serialize,
        kind: MethodKind,
    ) -> Self {
        // Not where they stay: what is lent to a serialiser is built in memory and then moved as a
        // whole.
        let mut json = InlineBytes::EMPTY;
        let problem = encode(params, &mut json).err();
        let mut prepared = PreparedCall::new(method, json);
        // What can't be sent meets no layer.
        if let Some(problem) = problem {
            prepared.set_problem(problem);
        } else if let Some(layers) = &client.layers {
            prepared.extra = Some(Box::new(CallExtra::Layers(layers.clone())));
        } else {
            prepared.metered = client.meter.metered();
        }
        prepared.flags.is_query = kind == MethodKind::Query;
        Self {
            client: client.clone(),
            prepared,
            output: PhantomData,
        }
    }

    pub(crate) fn resumed(client: &Arc<ClientHandle>, token: CallToken) -> Self {
        let (method, kind) = (token.method.into(), MethodKind::Mutation);
        let mut call = Self::new(client, method, &token.params, kind);
        call.prepared.id = Some(token.id);
        let mut call = call.about(token.id, token.table);
        call.prepared.retention = token.retention;
        call.prepared.flags.is_resumed = true;
        call
    }

    /// The same call, with nothing around it.
    pub(crate) fn without_layers(mut self) -> Self {
        let extra = self.prepared.extra.take();
        self.prepared.extra = extra.filter(|extra| matches!(**extra, CallExtra::Problem(_)));
        self.prepared.metered = Metered::No;
        self
    }

    /// The call goes where that one is known.
    pub(crate) fn about(mut self, id: Uuid, table: Option<Box<str>>) -> Self {
        let options = self.prepared.options.get_or_insert_default();
        options.origin = Some(CallOrigin { id, table });
        self
    }

    fn limits_mut(&mut self) -> &mut CallLimits {
        let defaults = || self.client.shared.config.call;
        let options = self.prepared.options.get_or_insert_default();
        options.limits.get_or_insert_with(defaults)
    }

    /// How long to wait for a reply before the next attempt.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.limits_mut().attempt_timeout = timeout;
        self
    }

    /// Has each attempt be waited for as long as calls of its method took lately, and some: see
    /// [`AdaptiveTimeout`].
    pub fn adaptive_timeout(mut self, adaptive: AdaptiveTimeout) -> Self {
        self.limits_mut().adaptive_timeout = Some(adaptive);
        self
    }

    /// How many attempts the call may have, the first included.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.limits_mut().max_attempts = attempts;
        self
    }

    /// How long the call may take in all, from the first poll on.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits_mut().deadline = deadline;
        self
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.limits_mut().backoff = backoff;
        self
    }

    /// When a copy of the call goes out although its attempt has not timed out.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.limits_mut().hedge = hedge;
        self
    }

    /// Whether the call ends at once, as *not executed*, while no endpoint works that it could go to
    /// ([`CallLimits::fail_fast`]).
    ///
    /// ```no_run
    /// # async fn f(client: redial_client::Client) {
    /// let call = client.query("suggestions", serde_json::json!({"for": "tea"}));
    /// match call.fail_fast(true).await {
    ///     Ok(value) => println!("{value}"),
    ///     // The page goes without them, and is not held up by a server that is down.
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    pub fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.limits_mut().fail_fast = fail_fast;
        self
    }

    /// All limits at once.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        *self.limits_mut() = limits;
        self
    }

    /// Sets the call's id, which must never have been used before, such as
    /// `Uuid::new_v4()` with that feature of the `uuid` crate. To send a call again that was sent
    /// before, use [`Client::resume`](crate::Client::resume).
    pub fn id(mut self, id: Uuid) -> Self {
        self.prepared.id = Some(id);
        self
    }

    /// The trace that the call belongs to (W3C Trace Context, section 3.2).
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        let options = self.prepared.options.get_or_insert_default();
        options.traceparent = Some(traceparent.into());
        self
    }

    /// How much it matters that the call is served, where a server can't serve all: of the calls of one caller
    /// it serves the critical ones first and sheds the sheddable ones first. In place of
    /// [`Config::priority`](crate::Config::priority). Every attempt says it; as with
    /// [`meta`](Self::meta), it is no part of the call, and a server without Redial's extensions hears
    /// nothing of it.
    ///
    /// ```no_run
    /// # async fn f(client: redial_client::Client) -> Result<(), redial_client::CallError> {
    /// use redial_client::Priority;
    ///
    /// let order = client.request("order", serde_json::json!({"item": 7}));
    /// order.priority(Priority::Critical).await?;
    /// let prefetched = client.query("suggestions", serde_json::json!({"for": "tea"}));
    /// prefetched.priority(Priority::Sheddable).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn priority(mut self, priority: Priority) -> Self {
        let options = self.prepared.options.get_or_insert_default();
        options.priority = Some(priority);
        self
    }

    /// Says something beside the params, such as a tenant, a locale or a token; in place of what was said
    /// of this key before. Handlers of Redial's server find it in their context. It is no part of the
    /// call: neither compared by the server nor kept in the call's [token](Self::token), so a resumed call
    /// says it again or says nothing. A server without Redial's extensions, and one that is not sent
    /// them, hears nothing of it. At most 32 entries and 8 KiB; beyond, the call ends as `NotExecuted`.
    ///
    /// ```no_run
    /// # async fn f(client: redial_client::Client) -> Result<(), redial_client::CallError> {
    /// let call = client.request("get", serde_json::json!({"key": "k"}));
    /// let value = call.meta("tenant", "acme").meta("locale", "fr").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn meta(mut self, key: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let options = self.prepared.options.get_or_insert_default();
        let meta = options.meta.get_or_insert_default();
        if let Err(error) = meta.insert(key.as_ref(), value.as_ref()) {
            self.prepared
                .set_problem(Cause::BadOption(error.to_string()));
        }
        self
    }

    /// The same call, its result read as another type.
    pub fn returning<T: DeserializeOwned>(self) -> Call<T> {
        Call {
            client: self.client,
            prepared: self.prepared,
            output: PhantomData,
        }
    }

    /// The call's token, to be stored before the call is sent: with it a program that crashed
    /// meanwhile can [`resolve`](crate::Client::resolve) or [`resume`](crate::Client::resume) it.
    ///
    /// It waits until the call has an id: for a connection, for the server to say whether it has
    /// sessions and, at the end of the session's window, for a number. From then on the call is
    /// bound to that id: if the session is lost before the call is sent, it ends as `NotExecuted`.
    ///
    /// # Errors
    ///
    /// [`CallError::NotExecuted`] if the call gets no id within its deadline, or its params can't be
    /// sent.
    pub async fn token(&mut self) -> Result<CallToken, CallError> {
        let call = &mut self.prepared;
        if let Some(CallExtra::Problem(problem)) = call.extra.as_deref() {
            let problem = problem.clone();
            let mut guard = CallGuard::new(self.client.clone(), call.bare());
            return Err(guard.reject(GiveUpReason::Final, problem));
        }
        if call.id.is_none() {
            let mut reservation = PreparedCall {
                params: InlineBytes::EMPTY,
                ..call.bare()
            };
            reservation.flags.is_reservation = true;
            let mut guard = CallGuard::new(self.client.clone(), reservation);
            poll_fn(|context| guard.poll_finished(context)).await;
            let (id, retention, table) = guard.reserved_id()?;
            (call.id, call.retention) = (Some(id), retention);
            let options = call.options.get_or_insert_default();
            options.origin = Some(CallOrigin { id, table });
        }
        let options = call.options.as_ref();
        Ok(CallToken {
            id: call.id.unwrap_or_default(),
            method: call.method.clone().into_owned(),
            params: call.params.to_raw(),
            table: options.and_then(|options| options.origin.clone()?.table),
            retention: call.retention.clone(),
        })
    }

    /// The call from its first attempt to its end, and how it went.
    pub(crate) async fn run(self) -> (Result<InlineBytes, CallError>, Report) {
        let mut guard = CallGuard::new(self.client, self.prepared);
        guard.ask_report();
        let finished = poll_fn(|context| guard.poll(context)).await;
        let result = finished.and_then(|()| guard.conclude());
        (result, guard.report())
    }
}

impl<O: DeserializeOwned> Call<O> {
    /// Sends the call and gives its value with how it went.
    ///
    /// # Errors
    ///
    /// [`CallError`] says whether the call was executed; it carries the report too.
    pub async fn with_report(self) -> Result<Reply<O>, CallError> {
        let mut future = self.into_future();
        future.ask_report();
        let value = (&mut future).await?;
        let report = future.report();
        Ok(Reply { value, report })
    }
}

impl<O: DeserializeOwned> IntoFuture for Call<O> {
    type Output = Result<O, CallError>;
    type IntoFuture = CallFuture<O>;

    // In place: what is built elsewhere is moved as a whole.
    #[inline(always)]
    fn into_future(self) -> CallFuture<O> {
        CallFuture {
            guard: CallGuard::new(self.client, self.prepared),
            output: PhantomData,
        }
    }
}

/// The future of a [`Call`]. Dropping it cancels the wait, not the execution, unless the server has
/// not started it yet.
#[must_use = "a call is sent when it is awaited"]
pub struct CallFuture<O> {
    guard: CallGuard,
    output: PhantomData<fn() -> O>,
}

impl<O> CallFuture<O> {
    /// The report is to say which endpoint answered.
    pub(crate) fn ask_report(&mut self) {
        self.guard.ask_report();
    }

    /// How the call went, once it has ended.
    pub(crate) fn report(&self) -> Report {
        self.guard.report()
    }
}

impl<O: DeserializeOwned> Future for CallFuture<O> {
    type Output = Result<O, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.guard.poll(context))?;
        Poll::Ready(self.guard.read())
    }
}

impl<O> fmt::Debug for CallFuture<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.debug("CallFuture", f)
    }
}

impl<O> fmt::Debug for Call<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = &self.client.shared.config.call;
        self.prepared.debug("Call", Some(defaults), f)
    }
}

/// A notification that is prepared and not yet sent. Awaiting it ends when all of it has been
/// handed to the system, which doesn't say that it arrived.
///
/// It is sent again only if nothing or not all of it was written, because a server doesn't
/// know a notification again.
#[derive(Debug)]
#[must_use = "a notification is sent when it is awaited"]
pub struct Notification {
    call: Call<()>,
}

impl Notification {
    pub(crate) fn new(mut call: Call<()>) -> Self {
        call.prepared.flags = CallFlags {
            is_notification: true,
            ..CallFlags::default()
        };
        Self { call }
    }

    /// How long it may take in all, from the first poll on.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call.limits_mut().deadline = deadline;
        self
    }
}

impl IntoFuture for Notification {
    type Output = Result<(), CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.call.run().await.0.map(drop) })
    }
}

/// Params as they go out: an object or an array, or left out.
fn encode(params: &impl Serialize, json: &mut InlineBytes) -> Result<(), Cause> {
    redial_protocol::write_json(&mut *json, params)
        .map_err(|error| Cause::BadParams(error.to_string()))?;
    match json.get() {
        b"null" => *json = InlineBytes::EMPTY,
        [b'{' | b'[', ..] => {}
        other => {
            return Err(Cause::BadParams(format!(
                "got {}; expected an object, an array, or null to leave them out",
                redial_protocol::cut(&String::from_utf8_lossy(other))
            )));
        }
    }
    Ok(())
}
