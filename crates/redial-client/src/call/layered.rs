//! A call on its way through the layers around it. A call without any doesn't come here.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use redial_protocol::Executed;
use uuid::Uuid;

use crate::{
    cause::{Cause, GiveUpReason},
    error::{CallError, Details},
    inline_bytes::InlineBytes,
    layer::LayerFuture,
    report::Report,
};

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
    /// The layers have begun.
    pub(super) fn new(method: Cow<'static, str>, future: LayerFuture) -> Self {
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
