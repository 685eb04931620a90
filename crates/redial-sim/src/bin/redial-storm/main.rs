//! Plays one storm, and prints what is left of it as JSON: `cargo xtask storm` runs it for each storm, fleet
//! and seed, and draws the pictures.

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::Parser;
use redial_sim::{Conditions, Fleet, Storm, call, serve, storm};

/// One storm of `cargo xtask storm`, as JSON.
#[derive(Parser)]
struct StormArgs {
    /// Which storm, by its letter
    #[arg(long, value_parser = scenario)]
    scenario: Storm,
    /// Who sends it: naive or redial
    #[arg(long, value_parser = fleet)]
    fleet: Fleet,
    /// What decides everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clients there are at most
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    clients: u32,
    /// Serve it on loopback, in real time: print the address, and go on until killed
    #[arg(long, conflicts_with = "connect")]
    serve: bool,
    /// Play it against the server that serves it there
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<SocketAddr>,
}

fn scenario(text: &str) -> Result<Storm, String> {
    let mut letters = text.chars();
    let storm = letters.next().and_then(Storm::of);
    storm
        .filter(|_| letters.next().is_none())
        .ok_or_else(|| "expected a letter from a to i".to_owned())
}

fn fleet(text: &str) -> Result<Fleet, String> {
    let mut fleets = Fleet::ALL.into_iter();
    fleets
        .find(|fleet| fleet.name() == text)
        .ok_or_else(|| "expected naive or redial".to_owned())
}

fn main() -> ExitCode {
    match run(&StormArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &StormArgs) -> anyhow::Result<()> {
    let conditions = Conditions {
        storm: args.scenario,
        fleet: args.fleet,
        seed: args.seed,
        clients: args.clients,
    };
    let record = match args.connect {
        _ if args.serve => return serve(&conditions, |address| println!("listening on {address}")),
        Some(server) => call(&conditions, server)?,
        None => storm(&conditions),
    };
    let text = serde_json::to_string(&record)?;
    Ok(writeln!(io::stdout(), "{text}")?)
}
