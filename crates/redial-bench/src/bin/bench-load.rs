//! A generator of load that costs next to nothing per call.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use redial_bench::{
    cpu,
    flags::{seconds, whole},
    load::{Load, Mode},
};
use redial_tls::ClientTls;

/// Makes as many calls as a server answers, on one thread, and measures them.
///
/// Every reply is checked, and so is the counter in the end: exit 0 only if each call had its
/// effect exactly once.
#[derive(Debug, Parser)]
#[command(name = "bench-load", version)]
struct Args {
    /// Where the server, or the echo, listens
    #[arg(long, value_name = "ADDR")]
    connect: SocketAddr,
    /// Speak TLS, and trust this authority: a PEM file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// What to ask
    #[arg(long, value_name = "MODE", default_value = "session")]
    mode: Mode,
    /// How many connections
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 1000), allow_negative_numbers = true)]
    connections: usize,
    /// Calls in flight on each connection
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<usize>(1, 65_536), allow_negative_numbers = true)]
    in_flight: usize,
    /// The share of calls that are sent twice, from 0 to 1
    #[arg(long, value_name = "P", default_value = "0", value_parser = share, allow_negative_numbers = true)]
    duplicates: f64,
    /// How many seconds are measured
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// How many seconds pass before anything is measured
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds, allow_negative_numbers = true)]
    warmup: f64,
    /// Never sleep: ask for replies all the time
    #[arg(long)]
    spin: bool,
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

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share from 0 to 1".to_owned()),
    }
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
    args.core.map(cpu::pin).transpose()?;
    anyhow::ensure!(
        args.duplicates == 0.0 || matches!(args.mode, Mode::Plain | Mode::Session),
        "--duplicates {}: only mutations may be sent twice; expected --mode plain or session. \
         Nothing was sent",
        args.duplicates
    );
    let tls = args.tls_ca.as_ref();
    let tls = tls.map(|ca| ClientTls::builder().roots_file(ca).build());
    let load = Load {
        peer: args.connect,
        tls: tls.transpose()?.map(|tls| tls.config()),
        mode: args.mode,
        connections: args.connections,
        in_flight: args.in_flight,
        duplicates: args.duplicates,
        warmup: Duration::from_secs_f64(args.warmup),
        length: Duration::from_secs_f64(args.seconds),
        spin: args.spin,
        watch: args.watch,
    };
    load.run()?.print(args.json);
    Ok(())
}
