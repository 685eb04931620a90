//! `cargo xtask`: the project's own commands. They start the real programs as a user would and
//! link neither end, so that what they measure is what a user gets.

mod ci;
mod clock;
mod demo;
mod events;
mod process;
mod programs;
mod report;
mod sweep;
mod wire;

use std::process::ExitCode;

use clap::Parser;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Retries, duplicates and tail latency on a real server and real clients, in a minute.
    Demo(demo::Args),
    /// How backoff, jitter and attempt timeout trade latency against load under 30 % loss.
    Sweep(sweep::Args),
    /// Everything that must pass before a change lands.
    Ci,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Demo(args) => demo::run(&args),
        Task::Sweep(args) => sweep::run(&args),
        Task::Ci => ci::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
