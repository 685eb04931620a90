//! Asking for the outcome of a call, in the process that made it or in another one.

use std::{
    borrow::Cow,
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use redial_protocol::{
    ErrorCode, ErrorObject, Executed, MethodKind,
    rpc::{self, CallParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

use crate::{
    call::Call,
    cause::{Cause, GiveUpReason},
    config::CallLimits,
    error::{CallError, Details},
    handle::ClientHandle,
    inline_bytes::InlineBytes,
    policy::backoff::Backoff,
    report::Report,
    token::CallToken,
};

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution<T> {
    /// It was executed, and this is what it gave.
    Value(T),
    /// It was not executed, and never will be: the server refuses it from now on, should it still
    /// arrive.
    Never,
}

/// A question for the outcome of a call, which is sent when it is awaited. To ask again does no
/// harm, so it is retried as a query is, under the client's limits.
///
/// If the call is running, the server replies when it ends. It keeps the record for as long as
/// there is a token of the call: see [`CallToken`].
///
/// # Errors
///
/// Awaiting it gives [`CallError::Failed`] with the handler's own error, if that is the outcome;
/// [`CallError::Unknown`], with the token, if the server doesn't know the call's session, can't be
/// reached within the deadline, or has more to say than this client takes. It is never `NotExecuted`: that is [`Resolution::Never`].
#[must_use = "the question is sent when it is awaited"]
pub struct Resolve<T> {
    client: Arc<ClientHandle>,
    call: Call<()>,
    token: CallToken,
    output: PhantomData<fn() -> T>,
}

impl Resolve<Value> {
    pub(crate) fn new(client: &Arc<ClientHandle>, token: CallToken) -> Self {
        let id = Cow::Owned(token.id.to_string());
        // It is asked under an id of its own, which is of no session.
        let own = client.shared.with(|state| state.mux.random_call_id());
        let params = CallParams { id };
        let call = Call::new(client, rpc::RESOLVE.into(), &params, MethodKind::Query);
        Self {
            client: client.clone(),
            // It is no call of the program's.
            call: call
                .without_layers()
                .id(own)
                .about(token.id, token.table.clone()),
            token,
            output: PhantomData,
        }
    }
}

impl<T> Resolve<T> {
    /// How long to wait for an answer before the question is sent again.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.call = self.call.attempt_timeout(timeout);
        self
    }

    /// How many times the question may be sent.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.call = self.call.max_attempts(attempts);
        self
    }

    /// How long it may take in all, from the first poll on.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call = self.call.deadline(deadline);
        self
    }

    /// How long to wait before the question is sent again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.call = self.call.backoff(backoff);
        self
    }

    /// All limits at once.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.call = self.call.limits(limits);
        self
    }

    /// The same question, the result read as another type.
    pub fn returning<U: DeserializeOwned>(self) -> Resolve<U> {
        Resolve {
            client: self.client,
            call: self.call,
            token: self.token,
            output: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Resolve<T> {
    async fn run(self) -> Result<Resolution<T>, CallError> {
        // The client stays until the token is dropped: that may acknowledge the call, which has to be
        // sent.
        let Self {
            client: _client,
            call,
            token,
            ..
        } = self;
        match call.run().await {
            (Ok(result), report) => read(token, &result, report),
            (Err(error), _) => refused(token, error),
        }
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for Resolve<T> {
    type Output = Result<Resolution<T>, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T> fmt::Debug for Resolve<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolve")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Reads the server's reply.
fn read<T: DeserializeOwned>(
    token: CallToken,
    result: &InlineBytes,
    report: Report,
) -> Result<Resolution<T>, CallError> {
    let resolution: rpc::Resolution = match serde_json::from_slice(result.get()) {
        Ok(resolution) => resolution,
        Err(error) => {
            let text = format!("the reply to {} has no resolution: {error}", rpc::RESOLVE);
            return Err(unknown(token, Cause::MalformedReply(text), report));
        }
    };
    let error = resolution.error.map(ErrorObject::unmarked);
    let cause = match (resolution.state, resolution.result, error) {
        (rpc::State::Never, ..) => return Ok(Resolution::Never),
        // The record itself may be *unknown*: the server stopped while the handler ran.
        (rpc::State::Done, None, Some(error)) if error.executed() != Executed::Yes => {
            return Err(unknown(token, Cause::Server(error), report));
        }
        (rpc::State::Done, None, Some(error)) => Cause::Server(error),
        (rpc::State::Done, Some(result), None) => match decode(&result) {
            Ok(value) => return Ok(Resolution::Value(value)),
            Err(cause) => cause,
        },
        (state, ..) => {
            let text = format!(
                "the reply to {} is {state:?} without an outcome",
                rpc::RESOLVE
            );
            return Err(unknown(token, Cause::MalformedReply(text), report));
        }
    };
    let details = Box::new(details(&token, cause, report));
    Err(CallError::Failed { details })
}

fn decode<T: DeserializeOwned>(result: &RawValue) -> Result<T, Cause> {
    serde_json::from_str(result.get()).map_err(|error| Cause::Decode(error.to_string()))
}

/// There is no resolution. One refusal says something all the same: that the call was
/// acknowledged, or fenced.
fn refused<T>(token: CallToken, error: CallError) -> Result<Resolution<T>, CallError> {
    let stale = error
        .server_error()
        .filter(|error| error.code == ErrorCode::STALE);
    let executed = stale.map(ErrorObject::executed);
    let inner = error.details();
    let mut details = Box::new(details(&token, inner.cause.clone(), inner.report.clone()));
    details.reason = inner.reason;
    match executed {
        Some(Executed::No) => Ok(Resolution::Never),
        Some(Executed::Yes) => Err(CallError::Failed { details }),
        _ => {
            let token = Box::new(token);
            Err(CallError::Unknown { token, details })
        }
    }
}

fn unknown(token: CallToken, cause: Cause, report: Report) -> CallError {
    let details = Box::new(details(&token, cause, report));
    let token = Box::new(token);
    CallError::Unknown { token, details }
}

fn details(token: &CallToken, cause: Cause, report: Report) -> Details {
    Details {
        method: token.method.clone().into(),
        id: token.id,
        reason: GiveUpReason::Final,
        cause,
        report,
    }
}
