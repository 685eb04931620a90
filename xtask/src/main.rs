//! `cargo xtask`: the project's own commands. It builds and starts programs of this workspace; what
//! they do is theirs.

mod ci;
mod circles;
mod fuzz;
mod instructions;
mod text;
mod workspace;

use std::{env, ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::Parser;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Retries, duplicates and tail latency on a real server and real clients, in a minute.
    Demo(Forwarded),
    /// How backoff, jitter and attempt timeout trade latency against load under 30 % loss.
    Sweep(Forwarded),
    /// Kill -9 and restart of a server in the middle of a hundred thousand calls.
    Restarts(Forwarded),
    /// Kill -9 of server and clients, behind a proxy that cuts, doubles and holds back.
    Chaos(Forwarded),
    /// Loss of the database's machine under load, and promotion of its synchronous standby.
    Failover(Forwarded),
    /// What ten thousand idle connections, half-open frames and unread replies cost the others.
    Hostile(Forwarded),
    /// What one principal that takes all it may get leaves to another.
    Fairness(Forwarded),
    /// The server's memory and speed over ten million calls, with plain ids and with sessions.
    Memory(Forwarded),
    /// What a table in PostgreSQL takes over ten million calls.
    Growth(Forwarded),
    /// Power cuts, rebuilt from the system calls of a server with a store.
    Power(Forwarded),
    /// Load at and beyond a server's limit, with what holds against it and without, in virtual time.
    Storm(Forwarded),
    /// Simulated worlds of the real client and server, each from a seed, judged by an oracle.
    Sim(Forwarded),
    /// What a safe call costs, next to a bare echo of the same bytes.
    Bench(Forwarded),
    /// How many instructions a call takes, held against what stands in the repository.
    ///
    /// It needs valgrind, whose callgrind counts them. It exits with 1 if a call takes over 5 % more.
    Instructions(instructions::CountArgs),
    /// Lets libFuzzer look for bytes that panic, hang or mislead what reads them.
    ///
    /// It needs cargo-fuzz (`cargo install cargo-fuzz --locked`) and a C++ compiler, but no nightly
    /// toolchain. The first run builds for minutes. It exits with 1 if something was found.
    Fuzz(fuzz::FuzzArgs),
    /// Which files of a library import each other in circles, and whether a circle is too large.
    Circles,
    /// Everything that must pass before a change lands.
    Ci,
}

/// The flags of another program, which knows them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
struct Forwarded {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Task {
    fn run(self) -> Result<ExitCode> {
        match self {
            Self::Demo(flags) => flags.experiment("demo"),
            Self::Sweep(flags) => flags.experiment("sweep"),
            Self::Restarts(flags) => flags.experiment("restarts"),
            Self::Chaos(flags) => flags.experiment("chaos"),
            Self::Failover(flags) => flags.experiment("failover"),
            Self::Hostile(flags) => flags.experiment("hostile"),
            Self::Fairness(flags) => flags.experiment("fairness"),
            Self::Memory(flags) => flags.experiment("memory"),
            Self::Growth(flags) => flags.experiment("growth"),
            Self::Power(flags) => flags.experiment("power"),
            Self::Storm(flags) => flags.experiment("storm"),
            Self::Bench(flags) => flags.experiment("bench"),
            Self::Sim(flags) => workspace::run("redial-sim", &["--release"], &flags.args),
            Self::Instructions(args) => instructions::run(&args),
            Self::Fuzz(args) => fuzz::run(&args),
            Self::Circles => circles::run(),
            Self::Ci => ci::run(),
        }
    }
}

impl Forwarded {
    fn experiment(self, name: &str) -> Result<ExitCode> {
        let args = [vec![name.into()], self.args].concat();
        workspace::run("redial-lab", &[], &args)
    }
}

/// The command line, with `help X` as `X --help`: what a program's flags mean only it can say.
fn words(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<_> = args.collect();
    if words.len() == 3 && words[1] == "help" {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

fn main() -> ExitCode {
    let done = Task::parse_from(words(env::args_os())).run();
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
    fn a_wrong_flag_is_named_and_a_wrong_value_gets_its_range() {
        for (words, expected) in [
            (
                &["instructions", "--calls", "1"][..],
                "from 1000 to 1000000",
            ),
            (&["instructions", "--calls", "-1"], "from 1000 to 1000000"),
            (&["instructions", "--calls", "NaN"], "from 1000 to 1000000"),
            (
                &["fuzz", "--seconds", "18446744073709551616"],
                "from 1 to 604800",
            ),
            (&["fuzz", "--seconds", "-1"], "from 1 to 604800"),
            (&["fuzz", "frame"], "frames"),
            (&["dmeo"], "demo"),
            (&["ci", "--fast"], "--fast"),
        ] {
            let words = ["cargo xtask"].iter().chain(words);
            let error = Task::try_parse_from(words).err().expect("it is wrong");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn the_flags_of_another_program_reach_it_as_they_are() {
        let given = ["xtask", "demo", "--sed", "-1", "--help", "--", "x"];
        let Task::Demo(flags) = Task::parse_from(words(given.map(OsString::from).into_iter()))
        else {
            panic!("another command");
        };
        assert_eq!(flags.args, given[2..]);
        let help = words(["xtask", "help", "demo"].map(OsString::from).into_iter());
        assert_eq!(help, ["xtask", "demo", "--help"]);
    }
}
