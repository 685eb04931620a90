//! Spans of calls and their attempts, by way of the facade [`tracing`](https://docs.rs/tracing) (feature
//! `tracing`).

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng as _, SeedableRng as _, rngs::SysRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::Executed;
use tracing::{
    Instrument as _, Level, Span,
    field::{Empty, display},
};

use crate::{
    error_kind::{code_of, kind_of},
    layer::{CallEnd, Layer, LayerCall, LayerFuture, Next},
    report::AttemptEnd,
};

/// Gives the `traceparent` of a span.
type Traceparent = dyn Fn(&Span) -> Option<String> + Send + Sync;

/// How calls have spans; see [`ClientBuilder::traces`](crate::ClientBuilder::traces).
///
/// A span `rpc.client.call` lives from the first poll of a call to its end, below the span in which it is
/// awaited, and a span `rpc.client.attempt` below it for each attempt. Names of fields are those of
/// OpenTelemetry's conventions for RPC, and a stable interface:
///
/// | field | is |
/// |---|---|
/// | `otel.name`, `rpc.method` | the method |
/// | `otel.kind` | `client`, of a call |
/// | `rpc.system.name` | `jsonrpc` |
/// | `rpc.response.status_code`, `error.type`, `otel.status_code` | the code of the server's error; that or what kind of error it is; `ERROR` |
/// | `server.address` | the endpoint that answered |
/// | `redial.attempts`, `redial.replayed`, `redial.executed` | of a call: how many there were, whether the reply was recorded before, and `no`, `yes` or `unknown` |
/// | `redial.attempt`, `redial.hedge`, `redial.attempt.end` | of an attempt: which, from 1; whether it was a copy; [why](crate::AttemptEnd::name) it ended |
/// | `trace_id`, `span_id`, `parent_span_id` | of a call: what its `traceparent` says |
///
/// Every attempt of a call carries one `traceparent`: so the server's spans are in the same trace, below
/// the call.
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

/// The spans of a call's attempts.
pub(crate) struct AttemptSpans {
    /// The call's, if it has one.
    call: Option<Span>,
    /// In the order of the attempts; `None` for those that have ended.
    open: Vec<Option<Span>>,
}

/// How far an attempt has come.
pub(crate) struct AttemptTrace {
    pub(crate) number: u32,
    pub(crate) is_hedge: bool,
    pub(crate) end: Option<AttemptEnd>,
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

    /// Asks for the `traceparent` of each call's span, which the program's tracing library knows, in place
    /// of ids that are drawn here. `None` leaves the call as it is.
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

    /// Puts the call into a trace: that of the program's library, the one that it is in, or a new one.
    fn join(&self, span: &Span, call: &mut LayerCall) {
        if let Some(traceparent) = &self.traceparent {
            if let Some(text) = traceparent(span) {
                call.set_traceparent(text);
            }
            return;
        }
        let Some(ids) = &self.ids else {
            return;
        };
        let mut ids = ids.lock().unwrap_or_else(PoisonError::into_inner);
        let own = format!("{:016x}", ids.next_u64().max(1));
        let mut parts = call.traceparent().unwrap_or_default().split('-').skip(1);
        let (trace, flags) = match (parts.next(), parts.next(), parts.next()) {
            (Some(trace), Some(parent), Some(flags)) => {
                span.record("parent_span_id", parent);
                (trace.to_owned(), flags.to_owned())
            }
            _ => {
                let trace = u128::from(ids.next_u64().max(1)) << 64 | u128::from(ids.next_u64());
                (format!("{trace:032x}"), "01".to_owned())
            }
        };
        span.record("trace_id", &*trace);
        span.record("span_id", &*own);
        call.set_traceparent(format!("00-{trace}-{own}-{flags}"));
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
        self.join(&span, &mut call);
        call.set_span(span.clone());
        Box::pin(async move {
            let end = next.run(call).instrument(span.clone()).await;
            record_end(&span, &end);
            end
        })
    }
}

impl AttemptSpans {
    pub(crate) fn new(call: Option<Span>) -> Self {
        Self {
            call,
            open: Vec::new(),
        }
    }

    /// Whether the call has a span, so that those of its attempts are wanted.
    pub(crate) fn are_wanted(&self) -> bool {
        self.call.is_some()
    }

    /// Opens the spans of attempts that are new, and closes those of attempts that have ended.
    pub(crate) fn look(&mut self, attempts: &[AttemptTrace]) {
        let Some(call) = &self.call else {
            return;
        };
        // An attempt of which nothing was written is cancelled.
        self.open.truncate(attempts.len());
        for (at, attempt) in attempts.iter().enumerate() {
            if at == self.open.len() {
                self.open.push(Some(attempt_span(call, attempt)));
            }
            if let Some(end) = attempt.end
                && let Some(span) = self.open[at].take()
            {
                span.record("redial.attempt.end", end.name());
            }
        }
    }
}

fn attempt_span(call: &Span, attempt: &AttemptTrace) -> Span {
    tracing::span!(
        target: "redial_client",
        parent: call,
        Level::INFO,
        "rpc.client.attempt",
        redial.attempt = attempt.number,
        redial.hedge = attempt.is_hedge,
        redial.attempt.end = Empty,
    )
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
