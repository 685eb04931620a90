//! One call: what may be chosen about it, and what awaiting it gives.

mod open;

use std::{
    borrow::Cow,
    fmt,
    future::{Future, IntoFuture, poll_fn},
    marker::PhantomData,
    pin::{Pin, pin},
    time::Duration,
};

use redial_protocol::Kind;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use self::open::{Done, Open};
use crate::{
    client::Client,
    clock,
    config::CallLimits,
    error::{CallError, CallToken, Cause, Details, Stop},
    report::{Reply, Report},
    retry::{Flight, backoff::Backoff},
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
    client: Client,
    method: Cow<'static, str>,
    params: Result<Option<Box<RawValue>>, Cause>,
    limits: CallLimits,
    id: Option<Uuid>,
    traceparent: Option<String>,
    resend_window: Option<Duration>,
    /// An earlier life of this call may have been executed.
    is_resumed: bool,
    is_notification: bool,
    output: PhantomData<fn() -> O>,
}

impl<O> Call<O> {
    pub(crate) fn new(client: &Client, method: Cow<'static, str>, params: &impl Serialize) -> Self {
        Self {
            client: client.clone(),
            method,
            params: encode(params),
            limits: client.shared().config.call,
            id: None,
            traceparent: None,
            resend_window: None,
            is_resumed: false,
            is_notification: false,
            output: PhantomData,
        }
    }

    pub(crate) fn with_kind(mut self, kind: Kind) -> Self {
        self.resend_window = match kind {
            Kind::Query => None,
            Kind::Mutation => Some(self.client.shared().config.resend_window),
        };
        self
    }

    pub(crate) fn resumed(client: &Client, token: CallToken) -> Self {
        let call = Self::new(client, token.method.into(), &token.params);
        Self {
            id: Some(token.id),
            is_resumed: true,
            ..call.with_kind(Kind::Mutation)
        }
    }

    /// How long to wait for a reply before the next attempt.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.limits.attempt_timeout = timeout;
        self
    }

    /// How many attempts the call may have, the first included.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.limits.max_attempts = attempts;
        self
    }

    /// What bounds everything, from the first poll on.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.limits.backoff = backoff;
        self
    }

    /// All limits at once.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The call's id, where the caller chooses it: one that was never used before, such as
    /// `Uuid::new_v4()` with that feature of the `uuid` crate. To send a call again that was sent
    /// before, use [`Client::resume`].
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// The trace that the call belongs to, as in W3C Trace Context, section 3.2.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// The same call, its result read as another type.
    pub fn returning<T: DeserializeOwned>(self) -> Call<T> {
        Call {
            client: self.client,
            method: self.method,
            params: self.params,
            limits: self.limits,
            id: self.id,
            traceparent: self.traceparent,
            resend_window: self.resend_window,
            is_resumed: self.is_resumed,
            is_notification: self.is_notification,
            output: PhantomData,
        }
    }

    /// What names the call, to be kept before it is sent: with it a program that crashed
    /// meanwhile can [`resume`](Client::resume) it.
    pub fn token(&mut self) -> CallToken {
        let id = *self
            .id
            .get_or_insert_with(|| self.client.shared().with(|state| state.new_id()));
        CallToken {
            id,
            method: self.method.clone().into_owned(),
            params: self.params.as_ref().ok().cloned().flatten(),
        }
    }

    /// What can't be right about the call, whatever the server says.
    fn check(&mut self) -> Result<Option<Box<RawValue>>, Cause> {
        let params = std::mem::replace(&mut self.params, Ok(None))?;
        if let Some(problem) = self.limits.problem() {
            return Err(Cause::BadOption(problem));
        }
        match &self.traceparent {
            Some(text) if !is_traceparent(text) => Err(Cause::BadOption(format!(
                "traceparent is {:?}; expected the form of W3C Trace Context, \
                 00-(32 hex digits)-(16 hex digits)-(2 hex digits)",
                redial_protocol::cut(text)
            ))),
            _ => Ok(params),
        }
    }

    /// The call from its first attempt to its end.
    async fn run(mut self) -> Result<Done, CallError> {
        let params = match self.check() {
            Ok(params) => params,
            Err(cause) => return Err(self.refused(cause)),
        };
        let mut flight = Flight::new(self.method, params, self.limits, clock::now());
        flight.traceparent = self.traceparent;
        flight.resend_window = self.resend_window;
        flight.is_notification = self.is_notification;
        let mut open = Open::new(self.client.shared(), flight, self.id, self.is_resumed);
        let mut timer = pin!(None);
        let over = poll_fn(|context| open.poll(context, timer.as_mut())).await;
        open.conclude(over)
    }

    fn refused(self, cause: Cause) -> CallError {
        let details = Details {
            method: self.method,
            id: self.id.unwrap_or_default(),
            stop: Stop::Final,
            cause,
            report: Report::empty(),
        };
        CallError::NotExecuted {
            details: Box::new(details),
        }
    }
}

impl<O: DeserializeOwned> Call<O> {
    /// Sends the call and gives its value with how it went.
    ///
    /// # Errors
    ///
    /// [`CallError`] says whether the call was executed; it carries the report too.
    pub async fn with_report(self) -> Result<Reply<O>, CallError> {
        let done = self.run().await?;
        let report = done.report;
        match serde_json::from_str(done.result.get()) {
            Ok(value) => Ok(Reply { value, report }),
            Err(error) => Err(CallError::Failed {
                details: Box::new(Details {
                    method: done.method,
                    id: done.id,
                    stop: Stop::Final,
                    cause: Cause::Decode(error.to_string()),
                    report,
                }),
            }),
        }
    }
}

impl<O: DeserializeOwned + 'static> IntoFuture for Call<O> {
    type Output = Result<O, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.with_report().await?.value) })
    }
}

impl<O> fmt::Debug for Call<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("id", &self.id)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
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
    pub(crate) fn new(call: Call<()>) -> Self {
        Self {
            call: Call {
                is_notification: true,
                resend_window: Some(Duration::ZERO),
                ..call
            },
        }
    }

    /// What bounds everything, from the first poll on.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call.limits.deadline = deadline;
        self
    }
}

impl IntoFuture for Notification {
    type Output = Result<(), CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.call.run().await.map(|_| ()) })
    }
}

/// Params as they go out: an object or an array, or left out.
fn encode(params: &impl Serialize) -> Result<Option<Box<RawValue>>, Cause> {
    let raw = to_raw_value(params).map_err(|error| Cause::BadParams(error.to_string()))?;
    match raw.get().as_bytes() {
        b"null" => Ok(None),
        [b'{' | b'[', ..] => Ok(Some(raw)),
        _ => Err(Cause::BadParams(format!(
            "they are {}; expected an object, an array or nothing",
            redial_protocol::cut(raw.get())
        ))),
    }
}

fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &str| {
        part.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(|part| is_hex(part))
}
