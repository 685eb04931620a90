//! What a server says over HTTP to those that look after it: `/livez`, `/readyz` and `/metrics`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use redial_server::Server;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};

/// The buckets of durations, in seconds: from 50 us, which is what a call in memory takes, in steps of
/// about two.
pub const DURATION_BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0,
];

/// The buckets of how many steps a commit has made durable.
const STEP_BUCKETS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// The most connections at once: a scraper and a few probes need no more.
const MAX_CONNECTIONS: usize = 64;

/// How long a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last: a peer that does not take its answer keeps no place from others for longer. One
/// that asks again makes another.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How often what was recorded is moved into its buckets when nothing asks for it.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps the metrics of this process. To be called before the server is built, once.
///
/// # Errors
///
/// If something else keeps them already.
pub fn install_exporter() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .with_recommended_naming(true)
        .set_buckets_for_metric(Matcher::Suffix("duration".to_owned()), &DURATION_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("steps".to_owned()), &STEP_BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("--http")?;
    Ok(handle)
}

/// Parses the address of `--http`.
///
/// # Errors
///
/// Says what an address is.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an IP address and a port, such as 127.0.0.1:9077 or [::1]:0";
    text.parse().map_err(|_| expected.to_owned())
}

/// Only this machine may ask, unless more is allowed: who asks is not asked who it is.
///
/// # Errors
///
/// Names the flag and says what to do.
pub fn check(address: SocketAddr, is_insecure: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        is_insecure || redial_protocol::unmapped(address).ip().is_loopback(),
        "--http: other machines can reach {address}, and could read the metrics; expected an address of \
         this machine, such as 127.0.0.1:9077, or --http-insecure"
    );
    Ok(())
}

/// Listens.
///
/// # Errors
///
/// Names the flag.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on --http {address}"))
}

/// Answers until the runtime ends, also while the server drains.
pub async fn serve(listener: TcpListener, server: Server, metrics: PrometheusHandle) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::spawn({
        let metrics = metrics.clone();
        async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.run_upkeep();
            }
        }
    });
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let Ok((io, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (server, metrics) = (server.clone(), metrics.clone());
        tokio::spawn(async move {
            serve_one(io, server, metrics).await;
            drop(permit);
        });
    }
}

async fn serve_one(
    io: impl AsyncRead + AsyncWrite + Unpin,
    server: Server,
    metrics: PrometheusHandle,
) {
    let service = service_fn(move |request: Request<_>| {
        let response = answer(request.method(), request.uri().path(), &server, &metrics);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    // A peer that speaks no HTTP, or is too slow, is its own concern.
    drop(tokio::time::timeout(CONNECTION_TIMEOUT, connection).await);
}

fn answer(
    method: &Method,
    path: &str,
    server: &Server,
    metrics: &PrometheusHandle,
) -> Response<Full<Bytes>> {
    let known = ["/livez", "/readyz", "/metrics"];
    if !known.contains(&path) {
        let text = format!("there is {} here\n", known.join(", "));
        return response(StatusCode::NOT_FOUND, text);
    }
    if ![Method::GET, Method::HEAD].contains(method) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n".to_owned());
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => {
            let mut rendered = response(StatusCode::OK, metrics.render());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            rendered.headers_mut().insert(CONTENT_TYPE, kind);
            rendered
        }
        "/readyz" => {
            let readiness = server.readiness();
            let status = match readiness.is_ready() {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            response(status, format!("{readiness}\n"))
        }
        _ => response(StatusCode::OK, "alive\n".to_owned()),
    }
}

fn response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// Kind: a place that a peer keeps for as long as it likes. Instances: one that sends nothing, and one that does
    /// not take its answer.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_take_its_answer_keeps_its_place_for_a_while_only() {
        for request in ["", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let server = Server::builder().build().unwrap();
            let metrics = PrometheusBuilder::new().build_recorder().handle();
            // The answer does not fit.
            let (mut peer, io) = duplex(48);
            let serving = tokio::spawn(serve_one(io, server, metrics));
            peer.write_all(request.as_bytes()).await.unwrap();
            let limit = CONNECTION_TIMEOUT + Duration::from_secs(1);
            let ended = tokio::time::timeout(limit, serving).await;
            assert!(ended.is_ok(), "{request:?}");
        }
    }
}
