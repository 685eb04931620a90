//! `cargo xtask`: the project's own commands. They start the real programs as a user would and
//! link neither end, so that what they measure is what a user gets.

mod bench;
mod chaos;
mod ci;
mod circles;
mod clock;
mod demo;
mod events;
mod flags;
mod fuzz;
mod hostile;
mod instructions;
mod leash;
mod memory;
mod mode;
mod process;
mod programs;
mod report;
mod restarts;
mod sim;
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
    /// Kill -9 and restart of a server in the middle of a hundred thousand calls.
    Restarts(restarts::Args),
    /// Kill -9 of server and clients, behind a proxy that cuts, doubles and holds back.
    Chaos(chaos::Args),
    /// What ten thousand idle connections, half-open frames and unread replies cost the others.
    Hostile(hostile::Args),
    /// The server's memory and speed over ten million calls, with plain ids and with sessions.
    Memory(memory::Args),
    /// Simulated worlds of the real client and server, each from a seed, judged by an oracle.
    ///
    /// 500 of them take some ten seconds after a build of minutes. It exits with 1 if a promise was
    /// broken, and says how to see the story of that seed.
    Sim(sim::Args),
    /// What a safe call costs, next to a bare echo of the same bytes.
    ///
    /// Takes six minutes after a build of two, and writes target/redial/bench.html. Let the machine
    /// do nothing else meanwhile.
    Bench(bench::Args),
    /// How many instructions a call takes, held against what stands in the repository.
    ///
    /// It needs valgrind, whose callgrind counts them. It exits with 1 if a call takes over 5 % more.
    Instructions(instructions::Args),
    /// Lets libFuzzer look for bytes that panic, hang or mislead what reads them.
    ///
    /// It needs cargo-fuzz (`cargo install cargo-fuzz --locked`) and a C++ compiler, but no nightly
    /// toolchain. The first run builds for minutes. It exits with 1 if something was found.
    Fuzz(fuzz::Args),
    /// Which files of a library import each other in circles, and whether a circle is too large.
    Circles,
    /// Everything that must pass before a change lands.
    Ci,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Demo(args) => demo::run(&args),
        Task::Sweep(args) => sweep::run(&args),
        Task::Restarts(args) => restarts::run(&args),
        Task::Chaos(args) => chaos::run(&args),
        Task::Hostile(args) => hostile::run(&args),
        Task::Memory(args) => memory::run(&args),
        Task::Sim(args) => sim::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Circles => circles::run(),
        Task::Ci => ci::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_consistent() {
        Task::command().debug_assert();
    }

    #[test]
    fn a_wrong_flag_is_named_and_a_wrong_value_is_told_its_range() {
        for (words, expected) in [
            (&["demo", "--sed", "1"][..], "--sed"),
            (&["demo", "--calls", "0"], "a whole number from 1 to 5000"),
            (&["sweep", "--seed", "x"], "--seed"),
            (&["memory", "--rounds", "0"], "a whole number from 1 to 99"),
            (
                &["restarts", "--clients", "0"],
                "a whole number from 1 to 64",
            ),
            (
                &["chaos", "--seconds", "0"],
                "a whole number from 1 to 86400",
            ),
            (&["hostile", "--rounds", "x"], "--rounds"),
            (&["bench", "--rounds", "0"], "a whole number from 1 to 99"),
            (&["bench", "--seconds", "0"], "seconds from 0.1 to 60"),
            (&["instructions", "--calls", "1"], "from 1000 to 1000000"),
            (&["fuzz", "frame"], "frames"),
            (&["dmeo"], "dmeo"),
            (&["ci", "--fast"], "--fast"),
            (
                &["sim", "--seeds", "0"],
                "a whole number from 1 to 100000000",
            ),
            (&["sim", "--seed", "x"], "a whole number from 0"),
            (&["sim", "--from", "18446744073709551615"], "--from"),
            (&["chaos", "--seed", "x"], "a whole number from 0"),
            (&["sim", "--call", "1"], "--seed"),
        ] {
            let words = ["cargo xtask"].iter().chain(words);
            let error = Task::try_parse_from(words)
                .err()
                .expect("it is wrong")
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// And is not taken for a flag of its own.
    #[test]
    fn a_number_below_zero_is_told_the_range_of_its_flag() {
        let command = Task::command();
        let mut seen = 0;
        for task in command.get_subcommands() {
            for flag in task.get_arguments().filter_map(clap::Arg::get_long) {
                let flag = format!("--{flag}");
                let error = |value| {
                    let words = ["cargo xtask", task.get_name(), &flag, value];
                    Task::try_parse_from(words)
                        .err()
                        .map(|error| error.to_string())
                };
                let is_number = error("x").is_some_and(|error| error.contains(" number from "));
                if is_number {
                    seen += 1;
                    let error = error("-1").expect("none of them may be below zero");
                    let is_named = error.contains(&flag) && error.contains(" number from ");
                    assert!(is_named, "{} {flag}: {error}", task.get_name());
                }
            }
        }
        assert!(seen > 20, "{seen} flags take numbers");
    }
}
