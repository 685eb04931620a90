//! One call: what may be chosen about it, and what awaiting it gives.

mod open;

use std::{
    borrow::Cow,
    fmt,
    future::{Future, IntoFuture, poll_fn},
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use redial_protocol::Kind;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

pub(crate) use self::open::Done;
use self::open::Open;
use crate::{
    client::Client,
    clock,
    config::CallLimits,
    error::{CallError, Cause, Details, Stop},
    mux::Nature,
    report::{Reply, Report},
    retry::{Flight, backoff::Backoff, hedge::Hedge},
    token::{CallToken, Hold},
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
    nature: Nature,
    /// Keeps the number that the call's token names.
    hold: Option<Arc<Hold>>,
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
            nature: Nature::default(),
            hold: None,
            output: PhantomData,
        }
    }

    pub(crate) fn with_kind(mut self, kind: Kind) -> Self {
        self.nature.is_query = kind == Kind::Query;
        self.resend_window = match kind {
            Kind::Query => None,
            Kind::Mutation => Some(self.client.shared().config.resend_window),
        };
        self
    }

    pub(crate) fn resumed(client: &Client, token: CallToken) -> Self {
        let call = Self::new(client, token.method.into(), &token.params);
        let mut call = call.with_kind(Kind::Mutation);
        call.id = Some(token.id);
        call.hold = token.hold;
        call.nature.is_resumed = true;
        call
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

    /// When a copy goes out although the attempt has not timed out.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.limits.hedge = hedge;
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
            nature: self.nature,
            hold: self.hold,
            output: PhantomData,
        }
    }

    /// What names the call, to be kept before it is sent: with it a program that crashed
    /// meanwhile can [`resolve`](Client::resolve) or [`resume`](Client::resume) it.
    ///
    /// It waits until the call can have a name: for a connection, for the server to say whether
    /// it has sessions and, at the end of the session's window, for a number. From then on the
    /// call is bound to that name: if the session is lost before the call is sent, it ends as
    /// `NotExecuted`.
    ///
    /// # Errors
    ///
    /// [`CallError::NotExecuted`] if there is no name for it within the call's deadline.
    pub async fn token(&mut self) -> Result<CallToken, CallError> {
        let params = match &self.params {
            Ok(params) => params.clone(),
            Err(cause) => return Err(self.refused(cause.clone())),
        };
        if self.id.is_none() {
            let flight = Flight::new(self.method.clone(), None, self.limits, clock::now());
            let nature = Nature {
                is_reservation: true,
                ..self.nature
            };
            let mut open = Open::new(self.client.shared(), flight, None, nature, None);
            let mut timer = pin!(None);
            let over = poll_fn(|context| open.poll(context, timer.as_mut())).await;
            let (id, hold) = open.name(over)?;
            (self.id, self.hold) = (Some(id), hold);
        }
        Ok(CallToken {
            id: self.id.unwrap_or_default(),
            method: self.method.clone().into_owned(),
            params,
            hold: self.hold.clone(),
        })
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
    pub(crate) async fn run(mut self) -> Result<Done, CallError> {
        let params = match self.check() {
            Ok(params) => params,
            Err(cause) => return Err(self.refused(cause)),
        };
        let mut flight = Flight::new(self.method, params, self.limits, clock::now());
        flight.traceparent = self.traceparent;
        flight.resend_window = self.resend_window;
        flight.is_notification = self.nature.is_notification;
        let nature = Nature {
            is_bound: self.hold.is_some(),
            ..self.nature
        };
        let mut open = Open::new(self.client.shared(), flight, self.id, nature, self.hold);
        let mut timer = pin!(None);
        let over = poll_fn(|context| open.poll(context, timer.as_mut())).await;
        open.conclude(over)
    }

    fn refused(&self, cause: Cause) -> CallError {
        let details = Details {
            method: self.method.clone(),
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
        let nature = Nature {
            is_notification: true,
            ..Nature::default()
        };
        Self {
            call: Call {
                nature,
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
