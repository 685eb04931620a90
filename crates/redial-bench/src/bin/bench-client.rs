//! Redial's client as a program would use it: tasks that call in a loop.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use redial_bench::{
    clock, cpu,
    flags::{seconds, whole},
    methods::{Get, GetParams, Inc, IncParams},
    slices::Slices,
    summary::{Cpu, Summary, histogram},
};
use redial_client::{Client, Config};

/// Calls `inc` as often as a server answers, from many tasks on one thread, and measures it.
///
/// Exit 0 only if every call is ok and the counter shows exactly those that were made.
#[derive(Debug, Parser)]
#[command(name = "bench-client", version)]
struct Args {
    /// Where the server listens
    #[arg(long, value_name = "ADDR")]
    connect: SocketAddr,
    /// Connections of the one client
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 1000), allow_negative_numbers = true)]
    connections: usize,
    /// Tasks, each with one call under way
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 65_536), allow_negative_numbers = true)]
    concurrency: usize,
    /// Without sessions
    #[arg(long)]
    plain: bool,
    /// How long is measured
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// How long before anything is measured
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds, allow_negative_numbers = true)]
    warmup: f64,
    /// Run on this core alone
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0, 1023), allow_negative_numbers = true)]
    core: Option<usize>,
    /// Measure what this process runs for as well: the server
    #[arg(long, value_name = "PID", allow_negative_numbers = true)]
    watch: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What all tasks share. They run on one thread, but on the runtime itself, as a program's would: a
/// set of local tasks costs a system call more whenever one of them is woken.
#[derive(Clone)]
struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Tally {
    latencies: Histogram<u64>,
    slices: Slices,
    /// When the first slice began.
    sliced_from: Instant,
    ends: bool,
    calls: i64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(summary) => {
            summary.print(args.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Summary> {
    args.core.map(cpu::pin).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(drive(args))
}

async fn drive(args: &Args) -> Result<Summary> {
    let config = Config {
        connections: args.connections,
        sessions: !args.plain,
        max_in_flight: Config::default().max_in_flight.max(args.concurrency),
        ..Config::default()
    };
    let client = Client::builder().config(config).connect(args.connect);
    let client = client.await?;
    let value = || {
        client.call::<Get>(GetParams {
            key: "bench".into(),
        })
    };
    let before = value().await?;
    let tally = Shared(Arc::new(Mutex::new(Tally {
        latencies: histogram(),
        slices: Slices::of(Duration::ZERO),
        sliced_from: clock::now(),
        ends: false,
        calls: 0,
    })));
    let tasks: Vec<_> = (0..args.concurrency)
        .map(|_| tokio::spawn(make_calls(client.clone(), tally.clone())))
        .collect();
    let summary = measure(args, &tally).await;
    tally.lock().ends = true;
    for task in tasks {
        task.await.context("a task has panicked")??;
    }
    let (after, calls) = (value().await?, tally.lock().calls);
    ensure!(
        after - before == calls,
        "{calls} calls had {} effects",
        after - before
    );
    client.close().await;
    summary
}

async fn measure(args: &Args, tally: &Shared) -> Result<Summary> {
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let (before, from) = (Cpu::now(args.watch)?, clock::now());
    let length = Duration::from_secs_f64(args.seconds);
    {
        let mut tally = tally.lock();
        tally.latencies.reset();
        tally.slices = Slices::of(length);
        tally.sliced_from = from;
    }
    tokio::time::sleep(length).await;
    let (after, elapsed) = (Cpu::now(args.watch)?, clock::now().duration_since(from));
    let tally = tally.lock();
    let slices = tally.slices.clone();
    Ok(Summary::new(
        &tally.latencies,
        slices,
        elapsed,
        [before, after],
    ))
}

async fn make_calls(client: Client, tally: Shared) -> Result<()> {
    let mut start = clock::now();
    loop {
        let params = IncParams {
            key: "bench".into(),
            delta: 1,
        };
        client.call::<Inc>(params).await?;
        let end = clock::now();
        let mut tally = tally.lock();
        let latency = end.duration_since(start).as_nanos() as u64;
        tally.latencies.saturating_record(latency);
        let at = end.duration_since(tally.sliced_from);
        tally.slices.add(at, 1);
        tally.calls += 1;
        if tally.ends {
            return Ok(());
        }
        start = end;
    }
}
