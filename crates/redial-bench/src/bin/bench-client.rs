//! Redial's client as a program would use it: tasks that call in a loop.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
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
use tokio::task::LocalSet;

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
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 1000))]
    connections: usize,
    /// Tasks, each with one call under way
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 65_536))]
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
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0, 1023))]
    core: Option<usize>,
    /// Measure what this process runs for as well: the server
    #[arg(long, value_name = "PID")]
    watch: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What all tasks share.
struct Tally {
    latencies: RefCell<Histogram<u64>>,
    slices: RefCell<Slices>,
    /// When the first slice began.
    sliced_from: Cell<Instant>,
    ends: Cell<bool>,
    calls: Cell<i64>,
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
    LocalSet::new().block_on(&runtime, drive(args))
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
    let tally = Rc::new(Tally {
        latencies: RefCell::new(histogram()),
        slices: RefCell::new(Slices::of(Duration::ZERO)),
        sliced_from: clock::now().into(),
        ends: false.into(),
        calls: 0.into(),
    });
    let tasks: Vec<_> = (0..args.concurrency)
        .map(|_| tokio::task::spawn_local(make_calls(client.clone(), Rc::clone(&tally))))
        .collect();
    let summary = measure(args, &tally).await;
    tally.ends.set(true);
    for task in tasks {
        task.await.context("a task has panicked")??;
    }
    let (after, calls) = (value().await?, tally.calls.get());
    ensure!(
        after - before == calls,
        "{calls} calls had {} effects",
        after - before
    );
    client.close().await;
    summary
}

async fn measure(args: &Args, tally: &Tally) -> Result<Summary> {
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let (before, from) = (Cpu::now(args.watch)?, clock::now());
    tally.latencies.borrow_mut().reset();
    let length = Duration::from_secs_f64(args.seconds);
    tally.slices.replace(Slices::of(length));
    tally.sliced_from.set(from);
    tokio::time::sleep(length).await;
    let (after, elapsed) = (Cpu::now(args.watch)?, clock::now().duration_since(from));
    let (latencies, slices) = (tally.latencies.borrow(), tally.slices.borrow().clone());
    Ok(Summary::new(&latencies, slices, elapsed, [before, after]))
}

async fn make_calls(client: Client, tally: Rc<Tally>) -> Result<()> {
    let mut start = clock::now();
    while !tally.ends.get() {
        let params = IncParams {
            key: "bench".into(),
            delta: 1,
        };
        client.call::<Inc>(params).await?;
        let end = clock::now();
        let latency = end.duration_since(start).as_nanos() as u64;
        tally.latencies.borrow_mut().saturating_record(latency);
        let at = end.duration_since(tally.sliced_from.get());
        tally.slices.borrow_mut().add(at, 1);
        tally.calls.set(tally.calls.get() + 1);
        start = end;
    }
    Ok(())
}
