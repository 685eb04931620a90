//! The spans themselves: one for each attempt, from its arrival to its answer, and one for each execution
//! below that of the attempt which brought the call.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redial_protocol::{CallKey, ErrorCode, MethodKind, Request, cut};
use tracing::{
    Instrument as _, Level, Span,
    field::{Empty, display},
    span::EnteredSpan,
};

use super::executions::Executions;
use crate::{
    caller::Caller,
    handler::{FirstPoll, HandlerFuture},
    observe::{EventKind, error_of},
};

/// Gives an attempt's span a parent in another process.
type Parent = dyn Fn(&Span, &str) + Send + Sync;

/// Whether and how attempts and executions have spans; see
/// [`ServerBuilder::traces`](crate::ServerBuilder::traces).
///
/// A span `rpc.server.attempt` lives from the arrival of an attempt to its answer, and a span
/// `rpc.server.execution` below it while the handler runs; what the handler itself says and does is below
/// that one. Names of fields are those of OpenTelemetry's conventions for RPC, and a stable interface:
///
/// | field | is |
/// |---|---|
/// | `otel.name`, `rpc.method` | the method |
/// | `otel.kind` | `server`, of an attempt |
/// | `rpc.system.name` | `jsonrpc` |
/// | `rpc.response.status_code`, `error.type`, `otel.status_code` | the code of an error, twice, and `ERROR` |
/// | `redial.attempt` | which attempt, from 1 |
/// | `redial.outcome` | of an attempt: `executed`, `joined`, `replayed` or `refused` |
/// | `redial.execution` | of an attempt that joined or is replayed: the `traceparent` of the execution's span, if [`links`](Self::links) names it; otherwise that of the attempt which brought the call |
/// | `redial.session` | the session |
/// | `client.address` | where the attempt came from |
/// | `trace_id`, `parent_span_id` | of the `traceparent` that came with the attempt |
///
/// Attempts of methods that the server has not have the method `_OTHER`; the protocol's own methods have
/// no spans.
///
/// ```
/// use redial_server::{Server, Traces};
///
/// let server = Server::builder()
///     .query("greet", async |(): ()| Ok("hello"))
///     // With OpenTelemetry: `span.set_parent(propagator.extract(...))`.
///     .traces(Traces::new().parent(|span, traceparent| drop((span, traceparent))))
///     .build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
#[derive(Clone, Default)]
pub struct Traces {
    is_on: bool,
    parent: Option<Arc<Parent>>,
    executions: Arc<Executions>,
}

/// The span of an attempt, if it has one: boxed, since calls without one are moved about.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptSpan(Option<Arc<TracedAttempt>>);

struct TracedAttempt {
    span: Span,
    /// Of a mutation whose id is a key.
    call: Option<NamedCall>,
}

struct NamedCall {
    key: CallKey,
    traceparent: Option<Box<str>>,
    executions: Arc<Executions>,
    /// The attempt has joined an execution that is not linked yet, since it had not begun.
    awaits_link: AtomicBool,
}

/// The span of an execution inside a store's transaction, if it has one: it ends when this is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExecutionSpan(
    #[expect(dead_code, reason = "the span ends when this is dropped")] Option<Box<Span>>,
);

/// This thread is inside the span of an execution, if that has one.
#[derive(Debug, Default)]
pub(crate) struct InsideExecution(Option<EnteredSpan>);

impl Traces {
    /// Spans of all attempts that bring calls, and of all executions.
    #[must_use]
    pub fn new() -> Self {
        Self {
            is_on: true,
            ..Self::default()
        }
    }

    /// Called with each attempt's span and the `traceparent` that came with it: the program's tracing
    /// library makes the caller's span its parent. Without it the fields `trace_id` and `parent_span_id`
    /// alone say so.
    #[must_use]
    pub fn parent(self, parent: impl Fn(&Span, &str) + Send + Sync + 'static) -> Self {
        Self {
            parent: Some(Arc::new(parent)),
            ..self
        }
    }

    /// Has the span of an attempt that joins an execution, or is replayed, linked to the execution's, which may
    /// be in another trace: a call may be resumed by another process. `name` gives the `traceparent` of an
    /// execution's span when it begins, and `link` is called with an attempt's span and that `traceparent`.
    /// Without this the field `redial.execution` alone says which attempt brought the call.
    ///
    /// ```
    /// use redial_server::Traces;
    ///
    /// // With OpenTelemetry: the text of `span.context()`, and `span.add_link(...)`.
    /// let traces = Traces::new().links(|_| None, |span, execution| drop((span, execution)));
    /// ```
    #[must_use]
    pub fn links(
        self,
        name: impl Fn(&Span) -> Option<String> + Send + Sync + 'static,
        link: impl Fn(&Span, &str) + Send + Sync + 'static,
    ) -> Self {
        let (name, link) = (Some(Arc::new(name) as _), Some(Arc::new(link) as _));
        Self {
            executions: Arc::new(Executions::new(name, link, self.executions.max)),
            ..self
        }
    }

    /// Of how many executions, the latest, it is remembered how their spans are named. 1,024 by default; each
    /// costs about 300 bytes. An attempt that is replayed later has no link.
    #[must_use]
    pub fn linked_executions(self, max: usize) -> Self {
        let Executions { name, link, .. } = &*self.executions;
        Self {
            executions: Arc::new(Executions::new(name.clone(), link.clone(), max)),
            ..self
        }
    }

    /// The span of an attempt that arrives.
    #[inline]
    pub(crate) fn attempt(
        &self,
        request: &Request<'_>,
        kind: impl FnOnce() -> Option<MethodKind>,
        caller: &Caller,
    ) -> AttemptSpan {
        let is_traced = self.is_on && !request.method.starts_with("rpc.");
        AttemptSpan(is_traced.then(|| self.make(request, kind(), caller)))
    }

    #[cold]
    fn make(
        &self,
        request: &Request<'_>,
        kind: Option<MethodKind>,
        caller: &Caller,
    ) -> Arc<TracedAttempt> {
        let method = kind.map_or("_OTHER", |_| &*request.method);
        let span = tracing::span!(
            target: "redial_server",
            parent: None,
            Level::INFO,
            "rpc.server.attempt",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system.name = "jsonrpc",
            rpc.method = method,
            rpc.response.status_code = Empty,
            error.type = Empty,
            redial.attempt = request.meta.attempt,
            redial.outcome = Empty,
            redial.execution = Empty,
            redial.session = Empty,
            client.address = Empty,
            trace_id = Empty,
            parent_span_id = Empty,
        );
        if let Some(address) = caller.address {
            span.record("client.address", display(address.ip()));
        }
        let key = request.id.and_then(|id| id.key(request.dialect));
        if let Some(CallKey::Session(call)) = &key {
            span.record("redial.session", display(call.session));
        }
        let traceparent = request.meta.traceparent.as_deref();
        if let Some(text) = traceparent {
            self.join(&span, text);
        }
        // What nothing listens to needs no link.
        let is_linked = kind == Some(MethodKind::Mutation) && !span.is_disabled();
        let key = key.filter(|_| is_linked);
        let call = key.map(|key| NamedCall {
            key: match caller.principal() {
                Some(principal) => key.owned_by(principal),
                None => key,
            },
            traceparent: traceparent.map(|text| cut(text).into()),
            executions: Arc::clone(&self.executions),
            awaits_link: AtomicBool::new(false),
        });
        Arc::new(TracedAttempt { span, call })
    }

    /// Puts the span into its caller's trace.
    fn join(&self, span: &Span, traceparent: &str) {
        let mut parts = traceparent.split('-').skip(1);
        if let (Some(trace), Some(parent)) = (parts.next(), parts.next()) {
            span.record("trace_id", cut(trace));
            span.record("parent_span_id", cut(parent));
        }
        if let Some(parent) = &self.parent {
            parent(span, traceparent);
        }
    }
}

impl AttemptSpan {
    /// Something has happened to the attempt.
    #[inline]
    pub(crate) fn note(&self, kind: EventKind, error: impl FnOnce() -> Option<ErrorCode>) {
        if let Some(attempt) = &self.0 {
            attempt.note(kind, error);
        }
    }

    /// The span of the execution that starts now for this attempt.
    #[inline]
    pub(crate) fn execution(&self) -> ExecutionSpan {
        let attempt = self.0.as_deref();
        ExecutionSpan(attempt.map(|attempt| Box::new(attempt.execution())))
    }

    /// The same, and this thread is inside of it until the handler has been polled.
    #[inline]
    pub(crate) fn enter_execution(&self) -> InsideExecution {
        let attempt = self.0.as_deref();
        InsideExecution(attempt.map(|attempt| attempt.execution().entered()))
    }

    /// A handler's future inside the span of its execution, which begins with its first poll.
    pub(crate) fn around(&self, future: HandlerFuture) -> HandlerFuture {
        match self.0.clone() {
            None => future,
            Some(attempt) => Box::pin(async move { inside(attempt.execution(), future).await }),
        }
    }
}

impl InsideExecution {
    /// The handler was polled for the first time, and came to this outcome if it is ready.
    #[inline]
    pub(crate) fn end(self, polled: FirstPoll, outcome: &[u8]) -> FirstPoll {
        match self.0 {
            None => polled,
            Some(entered) => end(entered.exit(), polled, outcome),
        }
    }
}

#[cold]
fn end(span: Span, polled: FirstPoll, outcome: &[u8]) -> FirstPoll {
    match polled {
        FirstPoll::Pending(future) => FirstPoll::Pending(inside(span, future)),
        polled => {
            record_error(&span, error_of(outcome));
            polled
        }
    }
}

/// A future inside a span, which has the error that it ends with.
fn inside(span: Span, future: HandlerFuture) -> HandlerFuture {
    Box::pin(async move {
        let completion = future.instrument(span.clone()).await;
        record_error(&span, error_of(&completion.outcome));
        completion
    })
}

impl TracedAttempt {
    #[cold]
    fn note(&self, kind: EventKind, error: impl FnOnce() -> Option<ErrorCode>) {
        let outcome = match kind {
            EventKind::Joined => "joined",
            EventKind::Replayed => "replayed",
            EventKind::Refused(code) => {
                record_error(&self.span, Some(code));
                "refused"
            }
            EventKind::Replied => {
                self.link(|call| call.awaits_link.load(Ordering::Relaxed));
                return record_error(&self.span, error());
            }
            _ => return,
        };
        self.span.record("redial.outcome", outcome);
        if matches!(kind, EventKind::Joined | EventKind::Replayed) {
            self.link(|_| true);
        }
    }

    /// Links the attempt to the execution whose outcome it gets.
    fn link(&self, is_due: impl FnOnce(&NamedCall) -> bool) {
        if let Some(call) = self.call.as_ref().filter(|call| is_due(call)) {
            let is_linked = call.executions.link(&call.key, &self.span);
            call.awaits_link.store(!is_linked, Ordering::Relaxed);
        }
    }

    /// The span of the execution that begins now for this attempt.
    #[cold]
    fn execution(&self) -> Span {
        let span = tracing::span!(
            target: "redial_server",
            parent: &self.span,
            Level::INFO,
            "rpc.server.execution",
            otel.status_code = Empty,
            rpc.response.status_code = Empty,
            error.type = Empty,
        );
        // Here and not at its event, which the request is gone for where the call was queued.
        self.span.record("redial.outcome", "executed");
        if let Some(call) = &self.call {
            let traceparent = call.traceparent.as_deref();
            call.executions.begin(&call.key, &span, traceparent);
        }
        span
    }
}

fn record_error(span: &Span, error: Option<ErrorCode>) {
    if let Some(code) = error {
        let code = code.to_string();
        span.record("rpc.response.status_code", &*code);
        span.record("error.type", &*code);
        span.record("otel.status_code", "ERROR");
    }
}

impl fmt::Debug for TracedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.span.fmt(f)
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces")
            .field("is_on", &self.is_on)
            .finish_non_exhaustive()
    }
}
