//! So many calls through one end in memory, for an instruction counter to be run on it.

use clap::Parser;
use redial_bench::{
    flags::whole,
    in_memory::{Path, run},
};

/// Makes calls through the whole of the server or the client, with a stub at the other end, and
/// prints nothing. Twice as many calls less the same once is what calls cost without the start.
#[derive(Debug, Parser)]
#[command(name = "bench-count", version)]
struct Args {
    /// What the calls go through
    #[arg(long, value_name = "PATH")]
    path: Path,
    /// How many calls
    #[arg(long, value_name = "N", default_value = "20000", value_parser = whole::<u32>(1, 1_000_000_000), allow_negative_numbers = true)]
    calls: u32,
    /// How many arrive in one read, or are in flight at once
    #[arg(long, value_name = "N", default_value = "32", value_parser = whole::<u32>(1, 512), allow_negative_numbers = true)]
    at_once: u32,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    run(args.path, args.calls, args.at_once)
}
