//! `cargo xtask fuzz`: libFuzzer looks for bytes that do what no bytes may do.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    text::{table, thousands, whole},
    workspace::{Workspace, cargo},
};

/// Where the functions are that are fuzzed, from the workspace's root.
const CRATE: &str = "crates/redial-fuzz";
/// The longest input, in bytes. Longer ones find little more and take their time.
const MAX_BYTES: usize = 4096;
/// One input may take so many seconds before it counts as a hang.
const MAX_SECONDS: u64 = 10;
/// So many lines of the fuzzer's own are shown if it found something.
const LAST_LINES: usize = 30;

/// What may be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// What is fed; all of them, one after the other, if none is named
    #[arg(value_enum, value_name = "TARGET")]
    targets: Vec<Target>,
    /// How long each
    #[arg(long, default_value_t = 60, value_parser = whole(1, 604_800), allow_negative_numbers = true)]
    seconds: u64,
}

/// What is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// The frame decoder, against a model.
    Frames,
    /// The parser of messages to a server.
    Message,
    /// The parser of replies.
    Reply,
    /// A whole connection of a server.
    Connection,
    /// A client, by a peer that says anything.
    Client,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Message => "message",
            Self::Reply => "reply",
            Self::Connection => "connection",
            Self::Client => "client",
        }
    }
}

/// What the fuzzer said in the end.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Stats {
    runs: u64,
    runs_per_s: u64,
    /// Cases that led to somewhere new.
    kept_as_new: u64,
}

/// What came of it all.
#[derive(Serialize)]
struct Found {
    passed: bool,
    /// How long each target was fuzzed.
    seconds: u64,
    targets: Vec<Fuzzed>,
}

/// What came of one target's turn.
#[derive(Serialize)]
struct Fuzzed {
    target: &'static str,
    #[serde(flatten)]
    stats: Stats,
    has_finding: bool,
    /// Everything that the fuzzer said.
    log: PathBuf,
}

/// Fuzzes; the exit code says whether nothing was found.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    check_cargo_fuzz(&workspace.root)?;
    let folder = workspace.output("fuzz")?;
    let targets = match &args.targets[..] {
        [] => Target::value_variants(),
        some => some,
    };
    let fuzz = |target: &Target| {
        let fuzzing = Fuzzing {
            root: &workspace.root,
            folder: &folder,
            target: target.name(),
            seconds: args.seconds,
        };
        fuzzing.run()
    };
    let fuzzed = targets.iter().map(fuzz).collect::<Result<Vec<_>>>()?;
    let found = Found::new(args.seconds, fuzzed);
    match args.json {
        true => println!("{}", serde_json::to_string(&found)?),
        false => println!("\n{}", found.text()),
    }
    Ok(match found.passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl Found {
    fn new(seconds: u64, targets: Vec<Fuzzed>) -> Self {
        Self {
            passed: targets.iter().all(|fuzzed| !fuzzed.has_finding),
            seconds,
            targets,
        }
    }

    fn text(&self) -> String {
        let headings = ["target", "cases run", "per second", "kept as new", "result"];
        let mut table = table(&headings);
        for fuzzed in &self.targets {
            table.add_row([
                fuzzed.target,
                &thousands(fuzzed.stats.runs),
                &thousands(fuzzed.stats.runs_per_s),
                &thousands(fuzzed.stats.kept_as_new),
                match fuzzed.has_finding {
                    true => "A FINDING",
                    false => "nothing",
                },
            ]);
        }
        table.to_string()
    }
}

fn check_cargo_fuzz(root: &Path) -> Result<()> {
    let mut asked = cargo();
    asked.args(["fuzz", "--version"]).current_dir(root);
    let answer = asked.output().context("can't run cargo")?;
    ensure!(
        answer.status.success(),
        "cargo-fuzz is missing: `cargo install cargo-fuzz --locked` installs it. It also needs a \
         C++ compiler, but no nightly toolchain"
    );
    Ok(())
}

/// One target's turn.
struct Fuzzing<'a> {
    root: &'a Path,
    /// Where new cases, findings and what the fuzzer says are kept.
    folder: &'a Path,
    target: &'static str,
    seconds: u64,
}

impl Fuzzing<'_> {
    fn run(&self) -> Result<Fuzzed> {
        let kept = self.folder.join(self.target);
        fs::create_dir_all(&kept).with_context(|| format!("can't make {}", kept.display()))?;
        let log = self.file("log");
        let said = File::create(&log).with_context(|| format!("can't make {}", log.display()))?;
        eprintln!(
            "{}: built if need be, then fuzzed for {} s; it says more in {}",
            self.target,
            self.seconds,
            log.display()
        );
        let mut fuzz = cargo();
        // Without a sanitizer, which only nightly has. There is no unsafe code for one to watch.
        fuzz.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"])
            .arg(self.root.join("target").join("fuzz"))
            .arg(self.target)
            .args([
                &kept,
                &self.root.join(CRATE).join("corpus").join(self.target),
            ])
            .arg("--")
            .args(self.flags())
            .current_dir(self.root.join(CRATE))
            .stdout(Stdio::null())
            .stderr(said);
        let status = fuzz.status().context("can't run cargo fuzz")?;
        let text =
            fs::read_to_string(&log).with_context(|| format!("can't read {}", log.display()))?;
        let fuzzed = Fuzzed {
            target: self.target,
            stats: read(&text),
            has_finding: !status.success(),
            log,
        };
        if status.success() {
            return Ok(fuzzed);
        }
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        eprintln!("{last}");
        if !text.contains("Test unit written to") {
            bail!("cargo fuzz failed ({status}); see {}", fuzzed.log.display());
        }
        eprintln!("all of it: {}", fuzzed.log.display());
        Ok(fuzzed)
    }

    fn flags(&self) -> [String; 6] {
        [
            format!("-max_total_time={}", self.seconds),
            format!("-max_len={MAX_BYTES}"),
            format!("-timeout={MAX_SECONDS}"),
            "-print_final_stats=1".to_owned(),
            format!(
                "-dict={}",
                self.root.join(CRATE).join("words.dict").display()
            ),
            format!("-artifact_prefix={}", self.file("").display()),
        ]
    }

    fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.target))
    }
}

/// The figures among the lines that libFuzzer ends with.
fn read(text: &str) -> Stats {
    let figure = |name: &str| {
        let mut lines = text.lines().rev();
        let value = lines.find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        let value = value.and_then(|value| value.trim_start_matches(':').trim().parse().ok());
        value.unwrap_or(0)
    };
    Stats {
        runs: figure("number_of_executed_units"),
        runs_per_s: figure("average_exec_per_sec"),
        kept_as_new: figure("new_units_added"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_figures_are_read() {
        let text = "Done 7 runs in 2 second(s)\nstat::number_of_executed_units: 1013412\n\
                    stat::average_exec_per_sec:     168902\nstat::new_units_added:          257\n";
        let expected = Stats {
            runs: 1_013_412,
            runs_per_s: 168_902,
            kept_as_new: 257,
        };
        assert_eq!(read(text), expected);
        assert_eq!(read("killed"), Stats::default());
    }

    #[test]
    fn machines_are_told_what_the_table_says() {
        let fuzzed = |target, has_finding| Fuzzed {
            target,
            stats: Stats {
                runs: 1_013_412,
                runs_per_s: 168_902,
                kept_as_new: 257,
            },
            has_finding,
            log: format!("{target}.log").into(),
        };
        let found = Found::new(6, vec![fuzzed("frames", false), fuzzed("reply", true)]);
        let expected = |target, has_finding| {
            json!({
                "target": target, "runs": 1_013_412, "runs_per_s": 168_902, "kept_as_new": 257,
                "has_finding": has_finding, "log": format!("{target}.log"),
            })
        };
        let targets = [expected("frames", false), expected("reply", true)];
        let whole = json!({"passed": false, "seconds": 6, "targets": targets});
        assert_eq!(serde_json::to_value(&found).unwrap(), whole);
        let text = found.text();
        let mut rows = text.lines().filter(|line| line.contains("1,013,412"));
        assert!(rows.next().unwrap().contains("nothing"), "{text}");
        assert!(rows.next().unwrap().contains("A FINDING"), "{text}");
        assert!(Found::new(6, vec![fuzzed("frames", false)]).passed);
    }

    #[test]
    fn every_target_has_its_few_lines_and_a_corpus() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CRATE);
        assert!(root.join("words.dict").exists());
        for target in Target::value_variants() {
            let name = target.name();
            let lines = root.join("fuzz/fuzz_targets").join(format!("{name}.rs"));
            assert!(lines.exists(), "{}", lines.display());
            assert!(root.join("corpus").join(name).is_dir(), "{name}");
        }
    }
}
