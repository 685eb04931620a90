//! `cargo xtask instructions`: how many instructions a call takes through the whole of one end,
//! which no other load on the machine changes, held against what it was.

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

/// Where the counts stand, from the workspace's root.
const BOOK: &str = "crates/redial-bench/instructions.toml";
/// What the counts are of, as `bench-count` names them.
const PATHS: [&str; 4] = [
    "server-query",
    "server-plain",
    "server-session",
    "client-session",
];
/// From this share on more or less is news. Compilers and processors differ by less, as a rule.
const TOLERANCE: f64 = 0.05;

/// What may be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the counts down instead of holding them against those that stand there
    #[arg(long)]
    update: bool,
    /// Calls that are counted; as many are made before them
    #[arg(long, default_value_t = 20_000, value_parser = whole(1000, 1_000_000), allow_negative_numbers = true)]
    calls: u64,
}

/// The file of counts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    /// Which compiler they were counted with.
    rustc: String,
    /// Instructions per call.
    per_call: BTreeMap<String, u64>,
}

/// How a count compares.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    More,
    Less,
    New,
}

/// Counts; the exit code says whether no call takes more than 5 % more than it did.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    check_valgrind()?;
    let workspace = Workspace::find()?;
    let program = workspace.build("redial-bench")?.join("bench-count");
    let file = workspace.root.join(BOOK);
    let mut counts = BTreeMap::new();
    for path in PATHS {
        counts.insert(path.to_owned(), per_call(&program, path, args.calls)?);
    }
    let rustc = rustc()?;
    if args.update {
        let text = written(&rustc, &counts);
        fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
    }
    let book = read(&file)?;
    let verdicts = counts.iter().map(|(path, count)| {
        let known = book.per_call.get(path).copied();
        (path, *count, known, verdict(*count, known))
    });
    let verdicts: Vec<_> = verdicts.collect();
    let mut table = table(&["path", "instructions a call", "known", "change"]);
    for (path, count, known, _) in &verdicts {
        let change = known.map(|known| (*count as f64 / known as f64 - 1.0) * 100.0);
        table.add_row([
            path.to_string(),
            thousands(*count),
            known.map_or_else(String::new, thousands),
            change.map_or_else(String::new, |change| format!("{change:+.1} %")),
        ]);
    }
    println!("\n{table}");
    if rustc != book.rustc {
        println!(
            "Those known were counted with {}; this is {rustc}.",
            book.rustc
        );
    }
    Ok(conclude(
        verdicts.into_iter().map(|it| (it.0.as_str(), it.3)),
    ))
}

fn conclude<'a>(verdicts: impl Iterator<Item = (&'a str, Verdict)>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (path, verdict) in verdicts {
        match verdict {
            Verdict::Same => {}
            Verdict::Less => println!(
                "{path} takes less than it did: `cargo xtask instructions --update` keeps it so."
            ),
            Verdict::More | Verdict::New => {
                let what = match verdict {
                    Verdict::More => "takes over 5 % more instructions than it did",
                    _ => "stands nowhere yet",
                };
                eprintln!(
                    "error: {path} {what}; if that is meant to be, \
                     `cargo xtask instructions --update` writes it to {BOOK}"
                );
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn verdict(count: u64, known: Option<u64>) -> Verdict {
    let Some(known) = known else {
        return Verdict::New;
    };
    match count as f64 / known as f64 {
        ratio if ratio > 1.0 + TOLERANCE => Verdict::More,
        ratio if ratio < 1.0 - TOLERANCE => Verdict::Less,
        _ => Verdict::Same,
    }
}

fn read(file: &Path) -> Result<Book> {
    let text = fs::read_to_string(file).with_context(|| {
        let file = file.display();
        format!("can't read {file}; `cargo xtask instructions --update` makes it")
    })?;
    toml::from_str(&text).with_context(|| format!("what stands in {}", file.display()))
}

fn written(rustc: &str, counts: &BTreeMap<String, u64>) -> String {
    let lines = counts
        .iter()
        .map(|(path, count)| format!("{path} = {count}\n"));
    format!(
        "# Instructions per call through the whole of one end, and through the peer in memory at \
         the\n# other; `cargo xtask instructions` counts them, and writes this with --update.\n\
         rustc = \"{rustc}\"\n\n[per_call]\n{}",
        lines.collect::<String>()
    )
}

fn rustc() -> Result<String> {
    let output = cargo().arg("--version").output();
    let output = output.context("can't run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1);
    Ok(version.context("cargo says no version")?.to_owned())
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
    ensure!(twice > once, "{path}: {calls} calls more took nothing more");
    Ok((twice - once) / calls)
}

fn count(program: &PathBuf, path: &str, calls: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--path", path, "--calls", &calls.to_string()])
        .output()
        .context("can't run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{path}: {}\n{said}", output.status);
    collected(&said).with_context(|| format!("callgrind told no count:\n{said}"))
}

/// The count in callgrind's own words.
fn collected(said: &str) -> Option<u64> {
    let mut lines = said.lines();
    let line = lines.find_map(|line| line.split_once("Collected :"));
    line?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_count_is_found() {
        let said = "==7== Events    : Ir\n==7== Collected : 22394247\n==7== \n";
        assert_eq!(collected(said), Some(22_394_247));
        assert_eq!(collected("==7== out of memory"), None);
    }

    #[test]
    fn five_per_cent_are_no_news() {
        let known = Some(1000);
        assert_eq!(verdict(1050, known), Verdict::Same);
        assert_eq!(verdict(950, known), Verdict::Same);
        assert_eq!(verdict(1051, known), Verdict::More);
        assert_eq!(verdict(949, known), Verdict::Less);
        assert_eq!(verdict(949, None), Verdict::New);
        let only = |verdict| conclude([("server-session", verdict)].into_iter());
        assert_eq!(only(Verdict::Less), ExitCode::SUCCESS);
        assert_eq!(only(Verdict::More), ExitCode::FAILURE);
        assert_eq!(only(Verdict::New), ExitCode::FAILURE);
    }

    #[test]
    fn what_is_written_is_read() {
        let counts = BTreeMap::from([("client-session".to_owned(), 7), ("x".to_owned(), 9)]);
        let book: Book = toml::from_str(&written("1.95.0", &counts)).unwrap();
        assert_eq!((&*book.rustc, book.per_call), ("1.95.0", counts));
    }

    #[test]
    fn every_path_stands_in_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let book = read(&root.join(BOOK)).unwrap();
        let paths: Vec<_> = book.per_call.keys().map(String::as_str).collect();
        let mut expected = PATHS;
        expected.sort_unstable();
        assert_eq!(paths, expected);
    }
}
