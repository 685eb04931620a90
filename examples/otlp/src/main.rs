//! A client and a server whose spans are one trace, exported to an OpenTelemetry collector.
//!
//! With a collector that takes OTLP over HTTP on port 4318 (Jaeger does, and the Collector itself):
//!
//! ```text
//! cargo run -p redial-otlp-example -- server
//! cargo run -p redial-otlp-example -- client
//! ```
//!
//! `OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318` names another one. The server loses its first reply on
//! purpose: the trace of the call shows two attempts, what the server did for each, the one execution, and
//! that the second attempt was replayed from it.

mod otlp;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use redial_client::Client;
use redial_server::{Context, Fault, FaultRule, Faults, Server};

const ADDRESS: &str = "127.0.0.1:7077";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (mode, address) = (args.next(), args.next());
    let address = address.as_deref().unwrap_or(ADDRESS);
    match mode.as_deref() {
        Some("server") => {
            let exporter = otlp::install("counter-server")?;
            serve(address).await?;
            exporter.flush().await
        }
        Some("client") => {
            let exporter = otlp::install("counter-client")?;
            call(address).await?;
            exporter.flush().await
        }
        _ => {
            eprintln!("expected `server [ADDRESS]` or `client [ADDRESS]`");
            std::process::exit(2)
        }
    }
}

async fn serve(address: &str) -> anyhow::Result<()> {
    let faults = Faults::new(1);
    faults.set([FaultRule::new(Fault::DropReply, 1.0)?.for_method("inc")]);
    let (value, rules) = (Arc::new(AtomicI64::new(0)), faults.clone());
    let inc = move |(by,): (i64,), _: Context| {
        let (value, rules) = (Arc::clone(&value), rules.clone());
        async move {
            // Only the first reply is lost.
            rules.clear();
            let add = tracing::info_span!("add");
            Ok(add.in_scope(|| value.fetch_add(by, Ordering::Relaxed) + by))
        }
    };
    let server = Server::builder()
        .mutation("inc", inc)
        .faults(faults)
        .traces(otlp::server_traces())
        .build()?;
    let listener = server.bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    tokio::select! {
        served = server.serve(listener) => served?,
        stop = tokio::signal::ctrl_c() => stop?,
    }
    Ok(())
}

async fn call(address: &str) -> anyhow::Result<()> {
    let client = Client::builder()
        .traces(otlp::client_traces())
        .connect(address)
        .await?;
    let call = client.request("inc", (1,));
    let reply = call
        .attempt_timeout(Duration::from_millis(300))
        .with_report()
        .await?;
    println!("{} after {} attempts", reply.value, reply.report.attempts());
    Ok(())
}
