//! Redial's client as a program would use it: tasks that call in a loop.

use std::{
    net::SocketAddr,
    path::PathBuf,
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
use redial_client::{Client, ClientTls, Config};

/// Calls `inc` as often as a server answers, from many tasks on one thread, and measures it.
///
/// Exit 0 only if every call is ok and the counter shows exactly those that were made.
#[derive(Debug, Parser)]
#[command(name = "bench-client", version)]
struct Args {
    /// Where the server listens
    #[arg(long, value_name = "ADDR")]
    connect: SocketAddr,
    /// Speak TLS, and trust this authority: a PEM file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// How many connections the client opens
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 1000), allow_negative_numbers = true)]
    connections: usize,
    /// Tasks, each with one call in flight
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 65_536), allow_negative_numbers = true)]
    concurrency: usize,
    /// Send plain ids instead of a session's
    #[arg(long)]
    plain: bool,
    /// How many seconds are measured
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// How many seconds pass before anything is measured
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds, allow_negative_numbers = true)]
    warmup: f64,
    /// Run on this core only
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0, 1023), allow_negative_numbers = true)]
    core: Option<usize>,
    /// Measure the CPU time of this process, the server, as well
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

/// How many calls a task makes before it records them. One of them is timed: to read the clock for
/// each would be a twentieth of what is measured.
const BATCH: u64 = 8;

struct Tally {
    latencies: Histogram<u64>,
    slices: Slices,
    /// When the first slice began. What ended before is not measured.
    from: Instant,
    /// When the measurement ended, if it has.
    until: Option<Instant>,
    ends: bool,
    calls: i64,
}

impl Tally {
    /// As many calls as make a batch have ended, the last one now. One of them took so long.
    fn add(&mut self, latency: Duration, now: Instant) {
        self.calls += BATCH as i64;
        if now >= self.from && self.until.is_none_or(|until| now < until) {
            let latency = latency.as_nanos() as u64;
            self.latencies.saturating_record_n(latency, BATCH);
            self.slices.add(now.duration_since(self.from), BATCH);
        }
    }
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
    let mut client = Client::builder().config(config);
    if let Some(ca) = &args.tls_ca {
        client = client.tls(ClientTls::builder().roots_file(ca).build()?);
    }
    let client = client.connect(args.connect).await?;
    let value = || {
        client.call::<Get>(GetParams {
            key: "bench".into(),
        })
    };
    let before = value().await?;
    let tally = Shared(Arc::new(Mutex::new(Tally {
        latencies: histogram(),
        slices: Slices::of(Duration::ZERO),
        from: clock::now(),
        until: None,
        ends: false,
        calls: 0,
    })));
    let tasks: Vec<_> = (0..args.concurrency)
        .map(|_| tokio::spawn(make_calls(client.clone(), tally.clone())))
        .collect();
    let measured = measure(args, &tally).await;
    tally.lock().ends = true;
    for task in tasks {
        task.await.context("a task panicked")??;
    }
    let (after, calls) = (value().await?, tally.lock().calls);
    ensure!(
        after - before == calls,
        "{calls} calls were ok and had {} effects; expected one each",
        after - before
    );
    client.close().await;
    let (elapsed, cpu) = measured?;
    let tally = tally.lock();
    let slices = tally.slices.clone();
    Ok(Summary::new(&tally.latencies, slices, elapsed, cpu))
}

/// How long was measured, and what was used before and after. What was counted is known when all
/// tasks have recorded their last calls.
async fn measure(args: &Args, tally: &Shared) -> Result<(Duration, [Cpu; 2])> {
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let (before, from) = (Cpu::now(args.watch)?, clock::now());
    let length = Duration::from_secs_f64(args.seconds);
    {
        let mut tally = tally.lock();
        tally.latencies.reset();
        tally.slices = Slices::of(length);
        tally.from = from;
    }
    tokio::time::sleep(length).await;
    let (after, until) = (Cpu::now(args.watch)?, clock::now());
    tally.lock().until = Some(until);
    Ok((until.duration_since(from), [before, after]))
}

async fn make_calls(client: Client, tally: Shared) -> Result<()> {
    let mut start = clock::now();
    loop {
        call(&client).await?;
        let latency = clock::now().duration_since(start);
        for _ in 1..BATCH {
            call(&client).await?;
        }
        start = clock::now();
        let mut tally = tally.lock();
        tally.add(latency, start);
        if tally.ends {
            return Ok(());
        }
    }
}

async fn call(client: &Client) -> Result<()> {
    let params = IncParams {
        key: "bench".into(),
        delta: 1,
    };
    client.call::<Inc>(params).await?;
    Ok(())
}
