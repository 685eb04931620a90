//! Redial's server with the methods that are measured.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use redial_bench::{counters::server, cpu, flags::whole};
use redial_server::ServerTls;
use tokio::runtime::{Builder, Runtime};

/// Serves `inc {key, delta}` as a mutation, the same handler as the query `inc_query`, and
/// `get {key}`.
///
/// The first line on stdout is `listening on ADDR`. Ends when it is killed.
#[derive(Debug, Parser)]
#[command(name = "bench-server", version)]
struct Args {
    /// Address to listen on; port 0 lets the system choose one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Speak TLS, with this certificate: a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Threads of the runtime; with 1 it is tokio's current-thread runtime
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 256), allow_negative_numbers = true)]
    threads: usize,
    /// Run on this core only
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0, 1023), allow_negative_numbers = true)]
    core: Option<usize>,
    /// How many milliseconds the reply to a finished call with a plain id is kept: less than a run
    /// takes, so that the table neither grows nor shrinks while it is measured
    #[arg(long, value_name = "N", default_value = "1000", value_parser = whole::<u64>(1, 1_000_000), allow_negative_numbers = true)]
    ttl_ms: u64,
    /// The most calls with plain ids that are on record
    #[arg(long, value_name = "N", default_value = "20000000", value_parser = whole::<usize>(1, 10_000_000_000), allow_negative_numbers = true)]
    table_records: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.core.map(cpu::pin).transpose()?;
    runtime(args.threads)?.block_on(serve(&args))
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    if threads == 1 {
        return Builder::new_current_thread().enable_all().build();
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build()
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let server = server(Duration::from_millis(args.ttl_ms), args.table_records)?;
    let listener = server.bind(&args.listen.to_string()).await?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(server.serve(listener).await?);
    };
    let tls = ServerTls::builder().certificate_files(certificate, key);
    Ok(server.serve_tls(listener, tls.build()?).await?)
}
