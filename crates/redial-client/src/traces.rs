//! Spans of calls and their attempts, by way of the facade [`tracing`](https://docs.rs/tracing) (feature
//! `tracing`).

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{SeedableRng as _, rngs::SysRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::Executed;
use tracing::{
    Instrument as _, Level, Span,
    field::{Empty, display},
};

use crate::{
    attempt_spans::{AttemptSpans, Traceparent},
    error_kind::{code_of, kind_of},
    layer::{CallEnd, Layer, LayerCall, LayerFuture, Next},
    traceparent::{Trace, draw_span_id, is_traceparent},
};

/// How calls have spans; see [`ClientBuilder::traces`](crate::ClientBuilder::traces).
///
/// A span `rpc.client.call` lives from the first poll of a call to its end, below the span in which it is
/// awaited, and a span `rpc.client.attempt` below it for each attempt. Names of fields are those of
/// OpenTelemetry's conventions for RPC, and a stable interface:
///
/// | field | is |
/// |---|---|
/// | `otel.name`, `rpc.method` | the method |
/// | `otel.kind` | `client` |
/// | `rpc.system.name` | `jsonrpc` |
/// | `rpc.response.status_code`, `error.type`, `otel.status_code` | the code of the server's error; that or what kind of error it is; `ERROR` |
/// | `server.address` | the endpoint that answered |
/// | `redial.attempts`, `redial.replayed`, `redial.executed` | of a call: how many there were, whether the reply was recorded before, and `no`, `yes` or `unknown` |
/// | `redial.attempt`, `redial.hedge`, `redial.attempt.end` | of an attempt: which, from 1; whether it was a copy; [why](crate::AttemptEnd::name) it ended, or `unsent` |
/// | `trace_id`, `span_id`, `parent_span_id` | of a call: its trace, its own id there, and whose span it is below in another process |
/// | `span_id` | of an attempt: its own id, which it sends |
///
/// Each attempt says in its `traceparent` that what the server does for it is below its own span. A layer
/// further in that sets the [`traceparent`](LayerCall::set_traceparent) of the call sets that of all its
/// attempts. Where nothing listens to spans no attempt has one, and a call that is in no trace sends no
/// `traceparent`.
///
/// ```
/// use redial_client::{Client, Traces};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), redial_client::BuildError> {
/// let client = Client::builder().traces(Traces::new()).connect_lazy("127.0.0.1:7077")?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Traces {
    traceparent: Option<Arc<Traceparent>>,
    /// `None` where the system has no random numbers: then nothing names the trace.
    ids: Option<Arc<Mutex<ChaCha8Rng>>>,
}

impl Default for Traces {
    fn default() -> Self {
        Self::new()
    }
}

impl Traces {
    /// Spans for all calls, with random ids for those that are in no trace yet.
    #[must_use]
    pub fn new() -> Self {
        let ids = ChaCha8Rng::try_from_rng(&mut SysRng).ok();
        Self {
            traceparent: None,
            ids: ids.map(|rng| Arc::new(Mutex::new(rng))),
        }
    }

    /// Asks for the `traceparent` of the span of each call, and of each attempt, which the program's tracing
    /// library knows, in place of ids that are drawn here. `None`, or what has not the form of W3C Trace
    /// Context, leaves an attempt with the call's, and a call as it is.
    #[must_use]
    pub fn traceparent(
        self,
        traceparent: impl Fn(&Span) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            traceparent: Some(Arc::new(traceparent)),
            ..self
        }
    }

    /// Puts the call into a trace: that of the program's library, the one that it is in, or a new one. Gives
    /// what its attempts say of that.
    fn join(&self, span: &Span, call: &mut LayerCall) -> Option<Arc<Traceparent>> {
        if let Some(traceparent) = &self.traceparent {
            if let Some(text) = traceparent(span).filter(|text| is_traceparent(text)) {
                call.set_traceparent(text);
            }
            return Some(Arc::clone(traceparent));
        }
        // Where nothing listens there is no span that the server's could be below.
        let ids = self.ids.as_ref().filter(|_| !span.is_disabled())?;
        let (trace, own) = {
            let mut ids = ids.lock().unwrap_or_else(PoisonError::into_inner);
            (
                Trace::of(call.traceparent(), &mut *ids),
                draw_span_id(&mut *ids),
            )
        };
        span.record("trace_id", &*trace.id);
        span.record("span_id", &*own);
        if let Some(parent) = &trace.parent {
            span.record("parent_span_id", &**parent);
        }
        call.set_traceparent(trace.traceparent(&own));
        let ids = Arc::clone(ids);
        Some(Arc::new(move |attempt: &Span| {
            let own = draw_span_id(&mut *ids.lock().unwrap_or_else(PoisonError::into_inner));
            attempt.record("span_id", &*own);
            Some(trace.traceparent(&own))
        }))
    }
}

impl Layer for Traces {
    fn call(&self, mut call: LayerCall, next: Next) -> LayerFuture {
        let span = tracing::span!(
            target: "redial_client",
            Level::INFO,
            "rpc.client.call",
            otel.name = call.method(),
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system.name = "jsonrpc",
            rpc.method = call.method(),
            rpc.response.status_code = Empty,
            error.type = Empty,
            server.address = Empty,
            redial.attempts = Empty,
            redial.replayed = Empty,
            redial.executed = Empty,
            trace_id = Empty,
            span_id = Empty,
            parent_span_id = Empty,
        );
        let traceparent = self.join(&span, &mut call);
        if !span.is_disabled() {
            call.set_spans(AttemptSpans::new(span.clone(), traceparent));
        }
        Box::pin(async move {
            let end = next.run(call).instrument(span.clone()).await;
            record_end(&span, &end);
            end
        })
    }
}

fn record_end(span: &Span, end: &CallEnd) {
    let report = end.report();
    span.record("redial.attempts", report.attempts());
    if let Some(replayed) = report.replayed() {
        span.record("redial.replayed", replayed);
    }
    if let Some(endpoint) = report.endpoint() {
        span.record("server.address", endpoint);
    }
    let executed = match end.executed() {
        Executed::No => "no",
        Executed::Yes => "yes",
        Executed::Unknown => "unknown",
    };
    span.record("redial.executed", executed);
    if let Err(error) = end.result() {
        match code_of(error) {
            Some(code) => {
                span.record("rpc.response.status_code", display(code));
                span.record("error.type", display(code));
            }
            None => {
                span.record("error.type", kind_of(error.cause()));
            }
        }
        span.record("otel.status_code", "ERROR");
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}
