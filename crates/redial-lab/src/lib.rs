//! Experiments on Redial's real programs: each starts them as a user would, does something to
//! them, and reports what happened to their calls.
//!
//! `cargo xtask demo` and the like run them. The crate links neither end of the protocol, so what it
//! measures is what a user gets. `power` alone opens what a server has left with the store.

mod bench;
mod chaos;
mod crash;
mod demo;
mod experiment;
mod failover;
mod fairness;
mod growth;
mod harness;
mod help;
mod hostile;
mod memory;
mod power;
mod report;
mod restarts;
#[cfg(test)]
mod screens;
mod storm;
mod sweep;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use self::experiment::{Flags, conduct};

/// Experiments on the real programs.
#[derive(Parser)]
#[command(name = "redial-lab", bin_name = "cargo xtask")]
enum Command {
    /// Retries, duplicates and tail latency on a real server and real clients, in a minute.
    Demo(Flags<demo::Demo>),
    /// How backoff, jitter and attempt timeout trade latency against load under 30 % loss.
    Sweep(Flags<sweep::Sweep>),
    /// Kill -9 and restart of a server in the middle of a hundred thousand calls.
    Restarts(Flags<restarts::Restarts>),
    /// Kill -9 of server and clients, behind a proxy that cuts, doubles and holds back.
    Chaos(Flags<chaos::Chaos>),
    /// Loss of the database's machine, again and again, and promotion of its synchronous standby.
    Failover(Flags<failover::FailoverFlags>),
    /// What ten thousand idle connections, half-open frames and unread replies cost the others.
    Hostile(Flags<hostile::Hostile>),
    /// What one principal that takes all it may get leaves to another: latencies and refusals.
    Fairness(Flags<fairness::Fairness>),
    /// The server's memory and speed over ten million calls, with plain ids and with sessions.
    Memory(Flags<memory::Memory>),
    /// What a table in PostgreSQL takes over ten million calls: size, dead rows, log and processor time.
    Growth(Flags<growth::Growth>),
    /// What power cuts leave of a store, rebuilt from a server's system calls at many points.
    ///
    /// Needs strace; without it nothing is tried, which is an error if REDIAL_REQUIRE_SERVICES is set.
    Power(Flags<power::Power>),
    /// Load at and beyond a server's limit, in virtual time: a plain fleet, and Redial as it is by default.
    ///
    /// Takes about a minute for each seed after a build of two, and writes target/redial/storm.html. It exits with
    /// 1 if a line of its table does not hold.
    Storm(Flags<storm::StormFlags>),
    /// What a safe call costs, next to a bare echo of the same bytes.
    ///
    /// Takes six minutes after a build of two, and writes target/redial/bench.html. Let the machine
    /// do nothing else meanwhile. With --durable, what a durable call costs next to SQLite in process, in
    /// target/redial/bench-durable.html.
    Bench(Flags<bench::Bench>),
}

/// Runs the experiment that the command line asks for. The exit code is 0 if every promise was kept,
/// 1 if one was broken or the experiment failed, and 2 if a flag was wrong.
pub fn main() -> ExitCode {
    let given = help::brief(Command::command()).get_matches();
    let command = Command::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    let done = match command {
        Command::Demo(flags) => conduct(&flags),
        Command::Sweep(flags) => conduct(&flags),
        Command::Restarts(flags) => conduct(&flags),
        Command::Chaos(flags) => conduct(&flags),
        Command::Failover(flags) => conduct(&flags),
        Command::Hostile(flags) => conduct(&flags),
        Command::Fairness(flags) => conduct(&flags),
        Command::Memory(flags) => conduct(&flags),
        Command::Growth(flags) => conduct(&flags),
        Command::Power(flags) => conduct(&flags),
        Command::Storm(flags) => conduct(&flags),
        Command::Bench(flags) => conduct(&flags),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        help::brief(Command::command()).debug_assert();
    }

    /// Help that scrolls away, or that a terminal breaks where it likes.
    #[test]
    fn each_help_fits_on_a_screen() {
        let mut command = help::brief(Command::command());
        command.build();
        for experiment in command.get_subcommands_mut() {
            let help = experiment.render_help().to_string();
            let widest = help.lines().map(|line| line.chars().count()).max();
            let lines = help.lines().count();
            assert!(
                widest <= Some(80) && lines <= 40,
                "{widest:?} x {lines}:\n{help}"
            );
            let is_own = experiment.get_name() != "help";
            assert_eq!(help.contains("--json"), is_own, "{help}");
        }
    }

    #[test]
    fn a_wrong_flag_is_named_and_a_wrong_value_gets_its_range() {
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
            (
                &["failover", "--failovers", "0"],
                "a whole number from 1 to 1000",
            ),
            (&["hostile", "--rounds", "x"], "--rounds"),
            (&["fairness", "--calls", "1"], "from 100 to 1000000"),
            (
                &["growth", "--stages", "0"],
                "a whole number from 1 to 1000",
            ),
            (&["power", "--cuts", "0"], "a whole number from 1 to 100000"),
            (&["bench", "--rounds", "0"], "a whole number from 1 to 99"),
            (&["bench", "--seconds", "0"], "seconds from 0.1 to 60"),
            (&["storm", "--scenario", "a,x"], "letters from a to i"),
            (&["storm", "--clients", "5"], "from 20 to 20000"),
            (&["dmeo"], "dmeo"),
            (&["chaos", "--seed", "x"], "a whole number from 0"),
        ] {
            let words = ["cargo xtask"].iter().chain(words);
            let error = Command::try_parse_from(words)
                .err()
                .expect("it is wrong")
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// A number below zero is not taken for a flag of its own, and none is too large to be judged.
    #[test]
    fn every_number_has_a_range() {
        let command = Command::command();
        let mut seen = 0;
        for experiment in command.get_subcommands() {
            for flag in experiment.get_arguments().filter_map(clap::Arg::get_long) {
                let flag = format!("--{flag}");
                let error = |value| {
                    let words = ["cargo xtask", experiment.get_name(), &flag, value];
                    Command::try_parse_from(words)
                        .err()
                        .map(|error| error.to_string())
                };
                let is_choice = |error: &str| error.contains("possible values");
                let takes_words = error("x").is_none_or(|error| is_choice(&error));
                let takes_nothing = error("1").is_some_and(|error| error.contains("unexpected"));
                if takes_words || takes_nothing {
                    continue;
                }
                seen += 1;
                for number in ["-1", "18446744073709551616", "NaN", "x", "1e999", ""] {
                    let error = error(number).expect(number);
                    let is_clear = error.contains(&flag) && error.contains("expected ");
                    let has_range = error.contains(" from ") && error.contains(" to ");
                    assert!(
                        is_clear && has_range,
                        "{} {flag}: {error}",
                        experiment.get_name()
                    );
                }
            }
        }
        assert!(seen > 15, "{seen} flags take numbers");
    }
}
