//! `cargo xtask instructions`: how many instructions a call takes through the whole of one end,
//! compared with the known count. No other load on the machine changes it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    text::{table, thousands, whole},
    workspace::{Workspace, cargo},
};

/// Where the known counts are, from the workspace's root.
const FILE: &str = "crates/redial-bench/instructions.toml";
/// What is counted, as `bench-count` names it.
const PATHS: [&str; 6] = [
    "server-query",
    "server-plain",
    "server-session",
    "server-session-metrics",
    "client-session",
    "client-session-metrics",
];
/// What comes to the name of a path where metrics are recorded.
const METRICS: &str = "-metrics";
/// The share by which metrics may make a call dearer.
const FOR_METRICS: f64 = 0.08;
/// The share from which on a change counts. Compilers and processors differ by less, as a rule.
const TOLERANCE: f64 = 0.05;

/// The flags of `cargo xtask instructions`.
#[derive(clap::Args)]
pub(crate) struct CountArgs {
    /// Write the counts to the repository instead of comparing them with it
    #[arg(long)]
    update: bool,
    /// Calls that are counted; as many are made before them
    #[arg(long, default_value_t = 20_000, value_parser = whole(1000, 1_000_000), allow_negative_numbers = true)]
    calls: u64,
}

/// The file of known counts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The version of the compiler that they were counted with.
    rustc: String,
    /// Instructions per call.
    per_call: BTreeMap<String, u64>,
}

/// How a count compares.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Same,
    More,
    Less,
    New,
}

/// Counts; the exit code says whether no call takes more than 5 % more than it did.
pub(crate) fn run(args: &CountArgs) -> Result<ExitCode> {
    check_valgrind()?;
    let workspace = Workspace::find()?;
    let program = workspace.build("redial-bench")?.join("bench-count");
    let file = workspace.root.join(FILE);
    let mut counts = BTreeMap::new();
    for path in PATHS {
        counts.insert(path.to_owned(), per_call(&program, path, args.calls)?);
    }
    let rustc = rustc()?;
    if args.update {
        let text = written(&rustc, &counts);
        fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
    }
    let known = read(&file)?;
    println!("\n{}", compared(&counts, &known));
    if rustc != known.rustc {
        println!("The known counts are of {}, these of {rustc}.", known.rustc);
    }
    let changes = counts.iter().map(|(path, count)| {
        let known = known.per_call.get(path);
        (path.as_str(), change(*count, known.copied()))
    });
    if !are_metrics_cheap(&counts) {
        return Ok(ExitCode::FAILURE);
    }
    Ok(conclude(changes))
}

fn are_metrics_cheap(counts: &BTreeMap<String, u64>) -> bool {
    let dearer = counts.iter().filter(|(path, with)| {
        let without = path.strip_suffix(METRICS).and_then(|path| counts.get(path));
        without.is_some_and(|without| **with as f64 > *without as f64 * (1.0 + FOR_METRICS))
    });
    let told = |(path, _): &(_, _)| eprintln!("error: {path} takes over 8 % more than without");
    dearer.inspect(told).count() == 0
}

fn compared(counts: &BTreeMap<String, u64>, known: &Known) -> String {
    let row = |(path, count): (&String, &u64)| {
        let known = known.per_call.get(path).copied();
        let change = known.map(|known| (*count as f64 / known as f64 - 1.0) * 100.0);
        [
            path.clone(),
            thousands(*count),
            known.map_or_else(String::new, thousands),
            change.map_or_else(String::new, |change| format!("{change:+.1} %")),
        ]
    };
    let headings = ["path", "instructions a call", "known", "change"];
    table(headings, &counts.iter().map(row).collect::<Vec<_>>())
}

fn conclude<'a>(changes: impl Iterator<Item = (&'a str, Change)>) -> ExitCode {
    const UPDATE: &str = "`cargo xtask instructions --update`";
    let mut code = ExitCode::SUCCESS;
    for (path, change) in changes {
        let error = match change {
            Change::Same => continue,
            Change::Less => {
                println!("{path} takes fewer instructions than it did; {UPDATE} records that.");
                continue;
            }
            Change::More => "takes over 5 % more instructions than it did",
            Change::New => "has no known count",
        };
        eprintln!("error: {path} {error}; if that is intended, {UPDATE} writes it to {FILE}");
        code = ExitCode::FAILURE;
    }
    code
}

fn change(count: u64, known: Option<u64>) -> Change {
    match known.map(|known| count as f64 / known as f64) {
        None => Change::New,
        Some(ratio) if ratio > 1.0 + TOLERANCE => Change::More,
        Some(ratio) if ratio < 1.0 - TOLERANCE => Change::Less,
        Some(_) => Change::Same,
    }
}

fn read(file: &Path) -> Result<Known> {
    let text = fs::read_to_string(file).with_context(|| {
        let file = file.display();
        format!("can't read {file}; `cargo xtask instructions --update` makes it")
    })?;
    toml::from_str(&text).with_context(|| format!("{} is no file of counts", file.display()))
}

fn written(rustc: &str, counts: &BTreeMap<String, u64>) -> String {
    let line = |(path, count): (&String, &u64)| format!("{path} = {count}\n");
    format!(
        "# Instructions per call through the whole of one end, and through the peer in memory at \
         the\n# other; `cargo xtask instructions` counts them, and writes this with --update.\n\
         rustc = \"{rustc}\"\n\n[per_call]\n{}",
        counts.iter().map(line).collect::<String>()
    )
}

fn rustc() -> Result<String> {
    let output = cargo().arg("--version").output();
    let output = output.context("can't run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1);
    Ok(version.context("cargo printed no version")?.to_owned())
}

fn check_valgrind() -> Result<()> {
    let found = Command::new("valgrind").arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    bail!(
        "no valgrind, whose callgrind counts the instructions: install it with \
         `apt-get install valgrind`, `dnf install valgrind` or the like"
    )
}

/// What a call takes beyond those before it: the start of the program counts in both.
fn per_call(program: &PathBuf, path: &str, calls: u64) -> Result<u64> {
    let [once, twice] = [calls, calls * 2].map(|calls| count(program, path, calls));
    let (once, twice) = (once?, twice?);
    ensure!(
        twice > once,
        "{path}: {calls} more calls took no more instructions"
    );
    Ok((twice - once) / calls)
}

fn count(program: &PathBuf, path: &str, calls: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--path", path, "--calls", &calls.to_string()])
        .output()
        .context("can't run valgrind")?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{path}: {}\n{printed}",
        output.status
    );
    collected(&printed).with_context(|| format!("callgrind printed no count:\n{printed}"))
}

/// The count that callgrind printed.
fn collected(printed: &str) -> Option<u64> {
    let mut lines = printed.lines();
    let line = lines.find_map(|line| line.split_once("Collected :"));
    line?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_count_is_found() {
        let printed = "==7== Events    : Ir\n==7== Collected : 22394247\n==7== \n";
        assert_eq!(collected(printed), Some(22_394_247));
        assert_eq!(collected("==7== out of memory"), None);
    }

    #[test]
    fn up_to_five_per_cent_is_no_change() {
        let known = Some(1000);
        assert_eq!(change(1050, known), Change::Same);
        assert_eq!(change(950, known), Change::Same);
        assert_eq!(change(1051, known), Change::More);
        assert_eq!(change(949, known), Change::Less);
        assert_eq!(change(949, None), Change::New);
        let only = |change| conclude([("server-session", change)].into_iter());
        assert_eq!(only(Change::Less), ExitCode::SUCCESS);
        assert_eq!(only(Change::More), ExitCode::FAILURE);
        assert_eq!(only(Change::New), ExitCode::FAILURE);
    }

    #[test]
    fn metrics_may_cost_eight_per_cent() {
        let counts = |with| BTreeMap::from([("x".to_owned(), 100), ("x-metrics".to_owned(), with)]);
        assert!(are_metrics_cheap(&counts(108)) && !are_metrics_cheap(&counts(109)));
    }

    #[test]
    fn what_is_written_is_read() {
        let counts = BTreeMap::from([("client-session".to_owned(), 7), ("x".to_owned(), 9)]);
        let known: Known = toml::from_str(&written("1.95.0", &counts)).unwrap();
        assert_eq!((&*known.rustc, known.per_call), ("1.95.0", counts));
    }

    #[test]
    fn every_path_has_a_known_count() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let known = read(&root.join(FILE)).unwrap();
        let paths: Vec<_> = known.per_call.keys().map(String::as_str).collect();
        let mut expected = PATHS;
        expected.sort_unstable();
        assert_eq!(paths, expected);
    }
}
