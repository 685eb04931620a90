//! A call on its way through the layers around it. A call without any doesn't come here.

use std::{
    borrow::Cow,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use redial_protocol::{Executed, MethodKind};
use uuid::Uuid;

use super::{guard::CallGuard, state::CallState};
use crate::{
    cause::{Cause, GiveUpReason},
    clock,
    error::{CallError, Details},
    handle::ClientHandle,
    inline_bytes::InlineBytes,
    layer::{CallEnd, Innermost, LayerCall, LayerFuture, Layers, Next},
    report::Report,
};

/// What layers take of a call's deadline without its being noticed: as precisely as timers count.
const UNNOTICED: Duration = Duration::from_millis(1);

/// A call on its way through its layers.
pub(super) struct LayeredCall {
    method: Cow<'static, str>,
    stage: Stage,
}

enum Stage {
    /// Never locked: so that a call may be looked at from several threads, whatever its layers are.
    Running(Mutex<LayerFuture>),
    Ended {
        id: Option<Uuid>,
        /// Until it is taken.
        result: Option<InlineBytes>,
        executed: Executed,
        report: Report,
    },
}

impl LayeredCall {
    /// The call is polled for the first time.
    pub(super) fn new(
        layers: Arc<Layers>,
        client: Arc<ClientHandle>,
        mut state: CallState,
    ) -> Self {
        let (kind, retrier) = (state.kind(), &mut state.retrier);
        let call = LayerCall {
            method: retrier.method.clone(),
            kind,
            is_notification: state.flags.is_notification,
            id: state.id,
            params: std::mem::replace(&mut retrier.params, InlineBytes::EMPTY),
            options: retrier.options.take(),
        };
        let method = call.method.clone();
        let bare = Box::new(Bare {
            client,
            state,
            since: clock::now(),
        });
        let future: LayerFuture = Box::pin(Next::new(layers, bare).run(call));
        Self {
            method,
            stage: Stage::Running(Mutex::new(future)),
        }
    }

    /// Ready when the layers have ended the call.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let Stage::Running(future) = &mut self.stage else {
            panic!("a call was polled after it had ended");
        };
        let future = future.get_mut().unwrap_or_else(PoisonError::into_inner);
        let end = ready!(future.as_mut().poll(context));
        let (result, error) = match end.result {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        self.stage = Stage::Ended {
            id: end.id,
            result,
            executed: end.executed,
            report: end.report,
        };
        Poll::Ready(error.map_or(Ok(()), Err))
    }

    /// The result of a call that has ended with one.
    pub(super) fn take_result(&mut self) -> InlineBytes {
        let result = match &mut self.stage {
            Stage::Ended { result, .. } => result.take(),
            Stage::Running(_) => None,
        };
        result.expect("it has ended with a result, which is taken once")
    }

    /// The result is not of the type that the caller expects. A layer may have answered in place of the
    /// server.
    pub(super) fn wrong_type(&self, error: &serde_json::Error) -> CallError {
        let (id, executed) = match &self.stage {
            Stage::Ended { id, executed, .. } => (*id, *executed),
            Stage::Running(_) => (None, Executed::Unknown),
        };
        let details = Box::new(Details {
            method: self.method.clone(),
            id: id.unwrap_or_default(),
            reason: GiveUpReason::Final,
            cause: Cause::Decode(error.to_string()),
            report: self.report(),
        });
        match executed {
            Executed::No => CallError::NotExecuted { details },
            _ => CallError::Failed { details },
        }
    }

    /// How the call went.
    pub(super) fn report(&self) -> Report {
        match &self.stage {
            Stage::Ended { report, .. } => report.clone(),
            Stage::Running(_) => Report::empty(),
        }
    }
}

/// The call that the layers are around.
struct Bare {
    client: Arc<ClientHandle>,
    state: CallState,
    /// When the call was first polled.
    since: Instant,
}

impl Bare {
    fn into_guard(self) -> CallGuard {
        CallGuard::with_state(self.client, self.state)
    }

    /// Restores what the layers were shown.
    fn restore(&mut self, call: LayerCall) {
        let retrier = &mut self.state.retrier;
        retrier.params = call.params;
        retrier.options = call.options;
    }

    /// Leaves the call what the layers have left of its deadline. If that is nothing, it is not sent.
    fn shorten(&mut self) -> Result<(), Cause> {
        let taken = clock::now().saturating_duration_since(self.since);
        if taken < UNNOTICED {
            return Ok(());
        }
        let defaults = || self.client.shared.config.call;
        let options = self.state.retrier.options.get_or_insert_default();
        let limits = options.limits.get_or_insert_with(defaults);
        let deadline = limits.deadline;
        limits.deadline = deadline.saturating_sub(taken);
        if limits.deadline.is_zero() {
            return Err(Cause::NotSent(deadline));
        }
        Ok(())
    }
}

impl Innermost for Bare {
    fn run(mut self: Box<Self>, call: LayerCall) -> LayerFuture {
        self.restore(call);
        let shortened = self.shorten();
        let mut guard = self.into_guard();
        guard.ask_report();
        Box::pin(async move {
            let result = match shortened {
                Ok(()) => run_to_end(&mut guard).await.and_then(|()| guard.conclude()),
                Err(cause) => Err(guard.reject(GiveUpReason::Deadline, cause)),
            };
            guard.into_end(result)
        })
    }

    fn refuse(mut self: Box<Self>, call: LayerCall, cause: Cause) -> CallEnd {
        self.restore(call);
        let mut guard = self.into_guard();
        let error = guard.reject(GiveUpReason::Final, cause);
        guard.into_end(Err(error))
    }
}

/// Polls the call to its end.
#[cfg(not(feature = "tracing"))]
async fn run_to_end(guard: &mut CallGuard) -> Result<(), CallError> {
    poll_fn(|context| guard.poll(context)).await
}

/// The same, and gives the attempts spans if the call has one.
#[cfg(feature = "tracing")]
async fn run_to_end(guard: &mut CallGuard) -> Result<(), CallError> {
    poll_fn(|context| {
        loop {
            let polled = guard.poll(context);
            if !guard.follow_attempts() || polled.is_ready() {
                return polled;
            }
        }
    })
    .await
}

impl CallState {
    fn kind(&self) -> MethodKind {
        if self.flags.is_query {
            MethodKind::Query
        } else {
            MethodKind::Mutation
        }
    }
}
