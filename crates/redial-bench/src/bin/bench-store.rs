//! What a durable call is compared to.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use redial_bench::{
    durable::{
        Subject,
        log::Log,
        measure,
        redis::Redis,
        sqlite::{Rows, Sqlite},
    },
    flags::{seconds, whole},
};

/// What does the job of a durable call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoreSubject {
    /// A record at the end of a file, and fdatasync
    Log,
    /// SQLite in this process: a counter, and a record under a unique id
    Sqlite,
    /// SQLite in this process: a counter, and a record that is only appended
    Appended,
    /// Redis that syncs each write, with a script that finds duplicates
    Redis,
}

/// Makes durable calls in batches, each with one sync, and measures them.
#[derive(Debug, Parser)]
#[command(name = "bench-store", version)]
struct Args {
    /// What does it
    #[arg(long, value_name = "WHAT", value_enum)]
    what: StoreSubject,
    /// Where the file goes, for log, sqlite and appended
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where Redis listens
    #[arg(long, value_name = "ADDR")]
    connect: Option<SocketAddr>,
    /// Calls in a batch
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 65_536), allow_negative_numbers = true)]
    batch: usize,
    /// How many seconds are measured
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// How many seconds pass before anything is measured
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds, allow_negative_numbers = true)]
    warmup: f64,
    /// Measure the CPU time of this process, the server, as well
    #[arg(long, value_name = "PID", allow_negative_numbers = true)]
    watch: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let mut subject: Box<dyn Subject> = match args.what {
        StoreSubject::Log => Box::new(Log::create(&args.folder)?),
        StoreSubject::Sqlite => Box::new(Sqlite::create(&args.folder, Rows::Unique)?),
        StoreSubject::Appended => Box::new(Sqlite::create(&args.folder, Rows::Appended)?),
        StoreSubject::Redis => {
            let address = args.connect.context("--what redis needs --connect ADDR")?;
            Box::new(Redis::connect(address)?)
        }
    };
    let times = [args.warmup, args.seconds].map(Duration::from_secs_f64);
    measure(&mut *subject, args.batch, times, args.watch)?.print(args.json);
    Ok(())
}
