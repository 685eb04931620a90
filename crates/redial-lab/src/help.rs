//! What `--help` says: in 80 columns, a flag after the other, so that it fits on a screen.

use clap::{Arg, ArgAction, Command};

use crate::report::terminal::wrapped;

/// How wide a line may be.
const COLUMNS: usize = 80;

/// What the names of the commands take of a line, where they are listed.
const NAMES: usize = 12;

/// The command line with such help.
pub(crate) fn brief(command: Command) -> Command {
    command.mut_subcommands(|command| {
        let about = command
            .get_about()
            .map(|about| wrapped(&about.to_string(), COLUMNS - NAMES));
        let specs = command.get_arguments().map(spec);
        // Behind a short flag, and before the text.
        let column = 6 + specs.map(|spec| spec.len()).max().unwrap_or(0) + 2;
        let help = Arg::new("help").short('h').long("help");
        let help = help.action(ArgAction::HelpShort).help("Print help");
        let command = command.mut_args(|flag| explained(flag, COLUMNS - column));
        let command = command.disable_help_flag(true).arg(help);
        let more = command.get_long_about().map(ToString::to_string);
        let more = more.and_then(|text| Some(wrapped(text.split_once("\n\n")?.1, COLUMNS)));
        let command = command.about(about.unwrap_or_default()).long_about(None);
        command.after_help(more.unwrap_or_default())
    })
}

/// A flag as it is shown: `--calls <CALLS>`.
fn spec(flag: &Arg) -> String {
    let long = flag.get_long().unwrap_or_default();
    let value = flag.get_value_names().and_then(|names| names.first());
    match value.filter(|_| flag.get_action().takes_values()) {
        Some(value) => format!("--{long} <{value}>"),
        None => format!("--{long}"),
    }
}

/// With its default and what it takes in the text, where they are wrapped as well.
fn explained(flag: Arg, width: usize) -> Arg {
    let Some(help) = flag.get_help() else {
        return flag;
    };
    let mut text = help.to_string();
    if !flag.get_action().takes_values() {
        return flag.help(wrapped(&text, width)).long_help(None);
    }
    let defaults = flag.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() {
        text += &format!(" [default: {}]", defaults.join(", "));
    }
    let values = flag.get_possible_values();
    let values: Vec<_> = values.iter().map(|value| value.get_name()).collect();
    if !values.is_empty() {
        text += &format!(" [possible values: {}]", values.join(", "));
    }
    let text = wrapped(&text, width);
    let flag = flag.hide_default_value(true).hide_possible_values(true);
    flag.help(text).long_help(None)
}
