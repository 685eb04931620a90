//! What joins `tracing` with OpenTelemetry: where spans are exported, and how a call's trace goes over the
//! wire.

use std::{collections::HashMap, pin::Pin, time::Duration};

use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Exports spans until it is flushed.
pub(crate) struct Exporter(SdkTracerProvider);

/// Has all spans of this process exported, in the name of this service.
pub(crate) fn install(service: &'static str) -> anyhow::Result<Exporter> {
    let http = OnRuntime {
        client: HyperClient::with_default_connector(EXPORT_TIMEOUT, None),
        runtime: Handle::current(),
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpJson)
        .with_http_client(http)
        .build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("redial"));
    tracing_subscriber::registry()
        .with(layer.with_filter(LevelFilter::INFO))
        .try_init()?;
    Ok(Exporter(provider))
}

impl Exporter {
    /// Exports what is left.
    pub(crate) async fn flush(self) -> anyhow::Result<()> {
        // It waits for its thread.
        Ok(tokio::task::spawn_blocking(move || self.0.shutdown()).await??)
    }
}

/// Each attempt sends the context of its own span.
pub(crate) fn client_traces() -> redial_client::Traces {
    redial_client::Traces::new().traceparent(traceparent)
}

/// The span of an attempt is below the one that sent it; where it gets the outcome of an execution that
/// another attempt has brought, it is linked to the span of that.
pub(crate) fn server_traces() -> redial_server::Traces {
    redial_server::Traces::new()
        .parent(|span, caller| {
            // Fails where nothing listens to the span: then there is nothing to join.
            let _ = span.set_parent(context(caller));
        })
        .links(traceparent, |span, execution| {
            span.add_link(context(execution).span().span_context().clone());
        })
}

/// The context of a span as W3C Trace Context writes it.
fn traceparent(span: &Span) -> Option<String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    headers.remove("traceparent")
}

fn context(traceparent: &str) -> Context {
    let headers = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract(&headers)
}

/// The exporter has a thread of its own, and hyper needs tokio's.
#[derive(Debug)]
struct OnRuntime {
    client: HyperClient,
    runtime: Handle,
}

impl HttpClient for OnRuntime {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let client = self.client.clone();
        let sent = self
            .runtime
            .spawn(async move { client.send_bytes(request).await });
        Box::pin(async move { sent.await? })
    }
}
