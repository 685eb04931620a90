//! The command line: the program's commands, and what all of them have in common.

use std::{io::ErrorKind, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    call::CallArgs,
    config::ShowArgs,
    decode::DecodeArgs,
    discover::DiscoverArgs,
    failure::{Exit, Failure},
    faults::FaultsArgs,
    load::LoadArgs,
    output,
    ping::PingArgs,
    stats::StatsArgs,
};

/// Calls servers that speak JSON-RPC over TCP, and shows how they are doing
///
/// ADDR is HOST:PORT (127.0.0.1:7077 if left out), unix:/path, A,B,C or @PROFILE.
#[derive(Debug, Parser)]
#[command(name = "redial", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Call a method: its result, and whether it was executed
    Call(CallArgs),
    /// Measure how long a server takes to answer
    Ping(PingArgs),
    /// Make many calls, and measure how long they take
    Load(LoadArgs),
    /// Show what a server has done and holds, as top does
    Stats(StatsArgs),
    /// List the methods of a server, as a table, a page or types
    Discover(DiscoverArgs),
    /// Explain frames from a file, a capture or standard input
    Decode(DecodeArgs),
    /// Show which settings are in force, and from where
    Config(ShowArgs),
    /// Let a server drop, delay and cut on purpose
    Faults(FaultsArgs),
    /// Print a script that completes commands and flags in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page: that of the program, or of a command
    Man {
        /// The command
        command: Option<String>,
    },
}

/// Runs the program with the arguments of the process, and gives its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let given = command().try_get_matches();
    let cli = match given.and_then(|given| Cli::from_arg_matches(&given)) {
        Ok(cli) => cli,
        // What is wrong with the command line is said by clap, and so is the help.
        Err(said) => {
            return match (said.use_stderr(), said.print()) {
                (true, _) => Exit::Usage.into(),
                (false, Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
                    output::unwritable(error).report()
                }
                (false, _) => ExitCode::SUCCESS,
            };
        }
    };
    match cli.command.run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// The command line. A number or a time below 0 is a value, which the flag then refuses by its name, and no flag of
/// its own.
fn command() -> clap::Command {
    fn with_negative_numbers(command: clap::Command) -> clap::Command {
        let takes_value = |flag: &clap::Arg| flag.get_action().takes_values();
        let value_names = |flag: &clap::Arg| {
            let names = flag.get_value_names().unwrap_or_default().to_vec();
            names.into_iter()
        };
        let command = command.mut_args(|flag| {
            let is_value = takes_value(&flag);
            // No time begins with a hyphen: what does is a value that is wrong.
            let is_time = is_value && value_names(&flag).any(|name| name.ends_with("TIME"));
            flag.allow_negative_numbers(is_value)
                .allow_hyphen_values(is_time)
        });
        command.mut_subcommands(with_negative_numbers)
    }
    with_negative_numbers(Cli::command())
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Call(args) => args.run(),
            Self::Ping(args) => args.run(),
            Self::Load(args) => args.run(),
            Self::Stats(args) => args.run(),
            Self::Discover(args) => args.run(),
            Self::Decode(args) => args.run(),
            Self::Config(args) => args.run(),
            Self::Faults(args) => args.run(),
            Self::Completions { shell } => completions(shell),
            Self::Man { command } => man(command.as_deref()),
        }
    }
}

fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "redial", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

fn man(name: Option<&str>) -> Result<ExitCode, Failure> {
    let mut command = command();
    command.build();
    let page = match name {
        None => &command,
        Some(name) => command.find_subcommand(name).ok_or_else(|| {
            let names = command.get_subcommands().map(clap::Command::get_name);
            let names = names.collect::<Vec<_>>().join(", ");
            Failure::usage(format!("COMMAND is {name:?}; expected one of {names}"))
        })?,
    };
    let mut text = Vec::new();
    let title = name.map_or("redial".to_owned(), |name| format!("redial-{name}"));
    let man = clap_mangen::Man::new(page.clone()).title(title);
    let man = man.source(concat!("redial ", env!("CARGO_PKG_VERSION")));
    man.render(&mut text)
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
