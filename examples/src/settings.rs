//! Where the server program's flags come from beside its command line: the environment, and a file in TOML.
//!
//! What a flag is called decides what it is called there: `--max-running 64` is
//! `REDIAL_SERVER_MAX_RUNNING=64`, and `max-running = 64` in the file that `--config` names. A flag wins over the
//! environment, and the environment over the file. Paths count from the folder that the program runs in.

use std::{ffi::OsString, path::Path};

use anyhow::Context;
use clap::{ArgAction, Command};
use toml::Value;

/// What variables are called, before the flag's name in capitals: not as those of clients on the same
/// machine are.
const PREFIX: &str = "REDIAL_SERVER_";

/// The flag that names the file.
const CONFIG: &str = "config";

/// A flag that may be set elsewhere.
struct Flag {
    name: String,
    takes_value: bool,
}

impl Flag {
    fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('-', "_").to_uppercase())
    }
}

/// The arguments of the command line, with those flags behind the program's name that the environment
/// (`variable`) or the file sets and the command line doesn't.
///
/// # Errors
///
/// Names the variable, or the file and its key, and says what would be right.
pub fn with_settings(
    command: &Command,
    given: Vec<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Vec<OsString>> {
    let flags = flags(command);
    let mut set: Vec<String> = given.iter().skip(1).filter_map(name_of).collect();
    let mut more = Vec::new();
    for flag in &flags {
        let name = flag.variable();
        let Some(value) = variable(&name).filter(|_| !set.contains(&flag.name)) else {
            continue;
        };
        let value = value.into_string();
        let value = value.map_err(|_| anyhow::anyhow!("{name} is not UTF-8"))?;
        let value = match flag.takes_value {
            true => Value::String(value),
            false => Value::Boolean(switch(&value).with_context(|| name.clone())?),
        };
        more.extend(argument(flag, &value).with_context(|| name)?);
        set.push(flag.name.clone());
    }
    if let Some(path) = config_path(&given, &more) {
        more.extend(from_file(Path::new(&path), &flags, &set)?);
    }
    let mut all = given;
    all.splice(1..1.min(all.len()), more);
    Ok(all)
}

/// The flags that the file sets, and nothing else does.
fn from_file(path: &Path, flags: &[Flag], set: &[String]) -> anyhow::Result<Vec<OsString>> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read --config {shown}"))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("--config {shown}"))?;
    let mut more = Vec::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let flag = flags
            .iter()
            .find(|flag| flag.name == name && name != CONFIG);
        let flag = flag.with_context(|| {
            format!("--config {shown}: there is no setting {key:?}; expected the name of a flag, such as max-running")
        })?;
        if !set.contains(&name) {
            let made = argument(flag, &value);
            more.extend(made.with_context(|| format!("--config {shown}: {key}"))?);
        }
    }
    Ok(more)
}

/// The flags of a program that have a name and do something other than to print.
fn flags(command: &Command) -> Vec<Flag> {
    let mut command = command.clone();
    command.build();
    let printing = [ArgAction::Help, ArgAction::Version].map(|action| format!("{action:?}"));
    let flags = command.get_arguments().filter_map(|argument| {
        let action = argument.get_action();
        let is_printing = printing.contains(&format!("{action:?}"));
        Some(Flag {
            name: argument.get_long().filter(|_| !is_printing)?.to_owned(),
            takes_value: action.takes_values(),
        })
    });
    flags.collect()
}

/// What a flag is with this value; nothing if it is a switch that is off.
fn argument(flag: &Flag, value: &Value) -> anyhow::Result<Option<OsString>> {
    let name = &flag.name;
    if !flag.takes_value {
        let Value::Boolean(is_on) = value else {
            anyhow::bail!("expected true or false");
        };
        return Ok(is_on.then(|| format!("--{name}").into()));
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => anyhow::bail!("expected a text or a number"),
    };
    Ok(Some(format!("--{name}={text}").into()))
}

fn switch(text: &str) -> anyhow::Result<bool> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" | "" => Ok(false),
        _ => anyhow::bail!("got {text:?}; expected true or false"),
    }
}

/// The name of the flag that an argument is.
fn name_of(argument: &OsString) -> Option<String> {
    let name = argument.to_str()?.strip_prefix("--")?;
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    Some(name.to_owned())
}

/// The file that `--config` names, wherever that stands.
fn config_path(given: &[OsString], more: &[OsString]) -> Option<OsString> {
    let mut arguments = given.iter().chain(more);
    while let Some(argument) = arguments.next() {
        if name_of(argument).as_deref() == Some(CONFIG) {
            let text = argument.to_str()?;
            let value = text.split_once('=').map(|(_, value)| value.into());
            return value.or_else(|| arguments.next().cloned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::{Arg, CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[arg(long, default_value = "1")]
        max_running: u32,
        #[arg(long)]
        insecure: bool,
        #[arg(long)]
        config: Option<std::path::PathBuf>,
    }

    fn read(given: &str, variables: &[(&str, &str)]) -> Result<Args, String> {
        let known: BTreeMap<_, _> = variables.iter().copied().collect();
        let given = given.split_whitespace().map(OsString::from).collect();
        let found = |name: &str| known.get(name).map(OsString::from);
        let all = with_settings(&Args::command(), given, found);
        let all = all.map_err(|error| format!("{error:#}"))?;
        Args::try_parse_from(all).map_err(|error| error.to_string())
    }

    fn file(name: &str, text: &str) -> String {
        let name = format!("redial-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Kind: a setting that another one covers. Instance: the same in all three places.
    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let path = file("wins.toml", "max-running = 2\ninsecure = true\n");
        let all = format!("x --config {path}");
        assert_eq!(read("x", &[]).unwrap().max_running, 1);
        let args = read(&all, &[]).unwrap();
        assert_eq!((args.max_running, args.insecure), (2, true));
        let environment = [
            ("REDIAL_SERVER_MAX_RUNNING", "3"),
            ("REDIAL_SERVER_INSECURE", "false"),
        ];
        let args = read(&all, &environment).unwrap();
        assert_eq!((args.max_running, args.insecure), (3, false));
        let args = read(&format!("{all} --max-running=4"), &environment).unwrap();
        assert_eq!(args.max_running, 4);
        let args = read("x", &[("REDIAL_SERVER_CONFIG", &path)]).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((args.max_running, args.config), (2, Some(path.into())));
    }

    /// Kind: a setting that is not what its writer meant, and is passed over in silence.
    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, words) in [
            ("max-runing = 2", "there is no setting \"max-runing\""),
            ("config = \"x\"", "there is no setting \"config\""),
            ("insecure = 1", "insecure: expected true or false"),
            (
                "max_running = [1]",
                "max_running: expected a text or a number",
            ),
            ("max_running = ", "TOML parse error"),
        ] {
            let path = file("wrong.toml", text);
            let error = read(&format!("x --config {path}"), &[]).unwrap_err();
            std::fs::remove_file(&path).unwrap();
            assert!(error.contains(words) && error.contains(&path), "{error}");
        }
        let error = read("x", &[("REDIAL_SERVER_INSECURE", "perhaps")]).unwrap_err();
        assert!(
            error.starts_with("REDIAL_SERVER_INSECURE: got \"perhaps\""),
            "{error}"
        );
        let error = read("x --config /nope", &[]).unwrap_err();
        assert!(error.starts_with("cannot read --config /nope"), "{error}");
        // What only prints is no setting.
        let command = Args::command().arg(Arg::new("plain"));
        assert!(flags(&command).iter().all(|flag| flag.name != "help"));
    }
}
