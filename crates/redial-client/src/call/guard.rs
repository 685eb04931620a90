//! A call as it is polled, with the client that it belongs to: one lock per poll, and no timer of
//! its own.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use redial_protocol::Executed;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    bare,
    finished::Finished,
    layered::LayeredCall,
    prepared::PreparedCall,
    state::{CallExtra, CallState},
};
#[cfg(feature = "metrics")]
use crate::meter::Metered;
use crate::{
    cause::{Cause, GiveUpReason},
    clock,
    error::CallError,
    handle::ClientHandle,
    inline_bytes::InlineBytes,
    layer::CallEnd,
    mux::pending_call::CallId,
    report::Report,
    timer_task,
    token::Retention,
};

/// An id, what keeps it from being acknowledged, and the name of its table.
type ReservedId = (Uuid, Option<Arc<Retention>>, Option<Box<str>>);

/// A call with its client. However its future ends, the call is pending no longer.
pub(super) struct CallGuard {
    /// `None` once the call has ended, so that a future that is kept keeps no client.
    pub(super) client: Option<Arc<ClientHandle>>,
    pub(super) state: CallState,
    pub(super) finished: Option<Finished>,
}

impl CallGuard {
    #[inline(always)]
    pub(super) fn new(client: Arc<ClientHandle>, call: PreparedCall) -> Self {
        let resend_window = call.resend_window(&client.shared.config);
        Self::with_state(client, CallState::new(call, resend_window))
    }

    /// The same of a call that has been on its way already, and was not sent.
    #[inline(always)]
    pub(super) fn with_state(client: Arc<ClientHandle>, state: CallState) -> Self {
        Self {
            client: Some(client),
            state,
            finished: None,
        }
    }

    /// The report is to say which endpoint answered.
    pub(super) fn ask_report(&mut self) {
        self.state.is_reported = true;
    }

    /// Ready when the call has ended and can be concluded. An error if it can't be sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let begins = self.state.retrier.started().is_none();
        if begins {
            if self.state.extra.is_some() {
                return self.poll_aside(context);
            }
            if let Err(cause) = self.state.check() {
                return Poll::Ready(Err(self.reject(GiveUpReason::Final, cause)));
            }
            #[cfg(feature = "metrics")]
            if self.state.metered == Metered::Waiting {
                self.begin_metered();
            }
        }
        let polled = self.poll_finished(context);
        #[cfg(feature = "metrics")]
        if polled.is_ready() && self.state.metered == Metered::InFlight {
            self.end_metered();
        }
        polled.map(Ok)
    }

    /// The same of a call that is not sent straight away. It never begins here.
    #[cold]
    fn poll_aside(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if !matches!(self.state.extra.as_deref(), Some(CallExtra::Layered(_))) {
            self.begin_layers()?;
        }
        let Some(CallExtra::Layered(call)) = self.state.extra.as_deref_mut() else {
            panic!("a call was polled after it had ended");
        };
        let ended = ready!(call.poll(context));
        self.client = None;
        Poll::Ready(ended)
    }

    /// Hands the call to its layers, unless something is wrong with it.
    fn begin_layers(&mut self) -> Result<(), CallError> {
        let extra = self.state.extra.take().map(|extra| *extra);
        let layers = match extra {
            Some(CallExtra::Layers(layers)) => self.state.check().map(|()| layers),
            Some(CallExtra::Problem(cause)) => Err(cause),
            other => {
                self.state.extra = other.map(Box::new);
                return Ok(());
            }
        };
        let layers = layers.map_err(|cause| self.reject(GiveUpReason::Final, cause))?;
        let client = self.client.clone().expect("it has not ended");
        let rest = PreparedCall::new(self.method().clone(), InlineBytes::EMPTY);
        let state = std::mem::replace(&mut self.state, CallState::new(rest, None));
        let call = bare::begin(layers, client, state);
        self.state.extra = Some(Box::new(CallExtra::Layered(call)));
        Ok(())
    }

    /// Ends a call that has not begun.
    #[cold]
    pub(super) fn reject(&mut self, reason: GiveUpReason, cause: Cause) -> CallError {
        let client = self.client.take().expect("it has not ended");
        self.state.rejected(reason, cause, &client.shared)
    }

    /// For the layers around a call that has ended.
    pub(super) fn into_end(self, result: Result<InlineBytes, CallError>) -> CallEnd {
        let executed = match &result {
            Ok(_) if self.state.flags.is_notification => Executed::Unknown,
            Ok(_) => Executed::Yes,
            Err(error) => error.executed(),
        };
        let finished = self.finished.as_ref();
        CallEnd {
            method: self.method().clone(),
            id: finished.map_or(self.state.id, |finished| finished.removed.id.uuid()),
            result,
            executed,
            report: self.report(),
        }
    }

    /// Looks after the spans of the attempts, if they are to have any. Whether one was made for an attempt
    /// that waits for it: then the call is to be polled again.
    #[cfg(feature = "tracing")]
    pub(super) fn follow_attempts(&mut self) -> bool {
        let options = self.state.retrier.options.as_mut();
        let Some(options) = options.filter(|options| options.spans.are_wanted()) else {
            return false;
        };
        let mut spans = std::mem::take(&mut options.spans);
        let is_made = spans.follow(&self.attempts());
        self.state.retrier.options.get_or_insert_default().spans = spans;
        is_made
    }

    /// How far its attempts have come.
    #[cfg(feature = "tracing")]
    fn attempts(&self) -> Vec<crate::attempt_spans::AttemptTrace> {
        use crate::attempt_spans::AttemptTrace;
        if self.finished.is_some() {
            let report = self.report();
            let states = report.history().map(|attempt| AttemptTrace {
                number: attempt.number,
                is_hedge: attempt.is_hedge,
                end: Some(attempt.end),
            });
            return states.collect();
        }
        let (Some(client), Some(key)) = (&self.client, self.state.pending_key()) else {
            return Vec::new();
        };
        client.shared.with(|state| {
            let attempts = state.mux.call(key).attempts.iter();
            let states = attempts.map(|attempt| AttemptTrace {
                number: attempt.number,
                is_hedge: attempt.is_hedge,
                end: attempt.ended.map(|(_, end)| end),
            });
            states.collect()
        })
    }

    fn method(&self) -> &Cow<'static, str> {
        &self.state.retrier.method
    }

    /// What layers have made of the call, if it went through any.
    fn layered(&mut self) -> Option<&mut LayeredCall> {
        match self.state.extra.as_deref_mut()? {
            CallExtra::Layered(call) => Some(call),
            _ => None,
        }
    }

    /// Ready when the call has ended and can be concluded.
    pub(super) fn poll_finished(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(client) = &self.client else {
            panic!("a call was polled after it had ended");
        };
        let (call, finished) = (&mut self.state, &mut self.finished);
        let begins = call.retrier.started().is_none();
        let shared = &client.shared;
        // One lock for everything: to begin, to decide, to set the timer, and to end.
        let (next, driverless) = shared.with(|state| {
            let entered = begins.then(|| shared.enter(state, context.waker()));
            let next = call.step(state, context.waker(), clock::now, finished);
            let timer = next.map_continue(|until| {
                let entered = entered.unwrap_or_else(|| shared.enter(state, context.waker()));
                entered.map(|entered| state.set_timer(entered, call.key(), until))
            });
            (timer, state.mux.driverless.take())
        });
        if let Some(link) = driverless {
            shared.start_driver(link);
        }
        let Some(timer) = next.continue_value() else {
            return Poll::Ready(());
        };
        match timer {
            Ok(None) => {}
            Ok(Some(timer)) => timer_task::start(shared, timer),
            Err(error) => panic!("a call has to be awaited on a tokio runtime: {error}"),
        }
        Poll::Pending
    }

    /// The value, read where the result lies.
    pub(super) fn read<O: DeserializeOwned>(&mut self) -> Result<O, CallError> {
        let Some(result) = self.finished.as_ref().and_then(Finished::result) else {
            let other = self.conclude()?;
            let value = serde_json::from_slice(other.get());
            return value.map_err(|error| self.wrong_type(&error));
        };
        let value = serde_json::from_slice(result.get());
        self.client = None;
        self.state.retention = None;
        value.map_err(|error| self.wrong_type(&error))
    }

    /// The result, or whether the call was executed.
    pub(super) fn conclude(&mut self) -> Result<InlineBytes, CallError> {
        if let Some(layered) = self.layered() {
            return Ok(layered.take_result());
        }
        let client = self.client.as_ref().expect("it is concluded once");
        let finished = self.finished.as_mut().expect("the call has ended");
        let result = self.state.conclude(finished, &client.shared);
        #[cfg(feature = "metrics")]
        if self.state.metered == Metered::InFlight {
            self.conclude_metered(&result);
        }
        self.client = None;
        self.state.retention = None;
        result
    }

    fn wrong_type(&mut self, error: &serde_json::Error) -> CallError {
        if let Some(layered) = self.layered() {
            return layered.wrong_type(error);
        }
        let finished = self.finished.as_ref().expect("the call has ended");
        self.state.wrong_type(finished, error)
    }

    /// How the call went.
    pub(super) fn report(&self) -> Report {
        match (&self.finished, self.state.extra.as_deref()) {
            (Some(finished), _) => self.state.report(finished),
            (None, Some(CallExtra::Layered(call))) => call.report(),
            (None, _) => Report::empty(),
        }
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_ref();
        let limits = client.map(|client| &client.shared.config.call);
        self.state.debug(name, limits, f)
    }

    /// The id that a reservation got, what keeps it from being acknowledged, and the table that it is
    /// of. To be called when the reservation has ended.
    pub(super) fn reserved_id(&mut self) -> Result<ReservedId, CallError> {
        let place = self.state.place();
        let table = place.and_then(|place| place.table.clone());
        let reserved = self.finished.as_ref().and_then(Finished::reserved_id);
        match (&self.client, reserved) {
            (Some(client), Some(CallId::Session(call))) => {
                let retention = Retention::new(&client.shared, call, false);
                Ok((call.uuid(), Some(retention), table))
            }
            (_, Some(CallId::Plain(id))) => Ok((id, None, table)),
            _ => Err(self.conclude().expect_err("it was not sent")),
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        if self.state.metered == Metered::InFlight {
            self.abandon_metered();
        }
        if let Some(client) = &self.client
            && std::mem::take(&mut self.state.is_pending)
        {
            let remains = client.shared.with(|state| self.state.abandon(state));
            drop(remains);
        }
    }
}
