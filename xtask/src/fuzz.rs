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
    workspace::{Workspace, cargo, make_folder},
};

/// Where the fuzzed functions are, from the workspace's root.
const CRATE: &str = "crates/redial-fuzz";
/// The longest input. Longer ones find little more and take their time.
const MAX_INPUT_BYTES: usize = 4096;
/// An input that takes longer counts as a hang.
const MAX_INPUT_SECONDS: u64 = 10;
/// So many of the fuzzer's own lines are shown if it found something.
const LAST_LINES: usize = 30;

/// The flags of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct FuzzArgs {
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// What to fuzz; without a name all of them, one after the other
    #[arg(value_enum, value_name = "TARGET")]
    targets: Vec<Target>,
    /// How many seconds to fuzz each target
    #[arg(long, default_value_t = 60, value_parser = whole(1, 604_800), allow_negative_numbers = true)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// The frame decoder, against a model.
    Frames,
    /// The parser of messages to a server.
    Message,
    /// The parser of replies.
    Reply,
    /// A whole connection of a server.
    Connection,
    /// A client whose peer says anything.
    Client,
}

impl Target {
    fn name(self) -> String {
        let value = self.to_possible_value().expect("no target is hidden");
        value.get_name().to_owned()
    }
}

/// The results of all targets.
#[derive(Serialize)]
struct FuzzResults {
    passed: bool,
    /// How long each target was fuzzed.
    seconds: u64,
    targets: Vec<TargetResult>,
}

/// The result of one target.
#[derive(Serialize)]
struct TargetResult {
    target: Target,
    #[serde(flatten)]
    stats: Stats,
    has_finding: bool,
    /// Everything that the fuzzer printed.
    log: PathBuf,
}

/// The fuzzer's final figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Stats {
    runs: u64,
    runs_per_s: u64,
    /// Cases that led to somewhere new.
    kept_as_new: u64,
}

/// Fuzzes; the exit code says whether nothing was found.
pub(crate) fn run(args: &FuzzArgs) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    check_cargo_fuzz(&workspace.root)?;
    let folder = workspace.output("fuzz")?;
    let targets = if args.targets.is_empty() {
        Target::value_variants()
    } else {
        &args.targets
    };
    let fuzz = |target: &Target| fuzz(*target, args.seconds, &workspace.root, &folder);
    let targets = targets.iter().map(fuzz).collect::<Result<Vec<_>>>()?;
    let results = FuzzResults {
        passed: targets.iter().all(|target| !target.has_finding),
        seconds: args.seconds,
        targets,
    };
    if args.json {
        println!("{}", serde_json::to_string(&results)?);
    } else {
        println!("\n{}", results.text());
    }
    Ok(if results.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl FuzzResults {
    fn text(&self) -> String {
        let headings = ["target", "cases run", "per second", "kept as new", "result"];
        let row = |result: &TargetResult| {
            let finding = if result.has_finding {
                "A FINDING"
            } else {
                "nothing"
            };
            [
                result.target.name(),
                thousands(result.stats.runs),
                thousands(result.stats.runs_per_s),
                thousands(result.stats.kept_as_new),
                finding.to_owned(),
            ]
        };
        table(headings, &self.targets.iter().map(row).collect::<Vec<_>>())
    }
}

fn check_cargo_fuzz(root: &Path) -> Result<()> {
    let mut version = cargo();
    version.args(["fuzz", "--version"]).current_dir(root);
    let output = version.output().context("can't run cargo")?;
    ensure!(
        output.status.success(),
        "cargo-fuzz is missing: `cargo install cargo-fuzz --locked` installs it. It also needs a \
         C++ compiler, but no nightly toolchain. Nothing was fuzzed"
    );
    Ok(())
}

/// Fuzzes one target. New cases, findings and the log are kept in `folder`.
fn fuzz(target: Target, seconds: u64, root: &Path, folder: &Path) -> Result<TargetResult> {
    let (name, home) = (target.name(), root.join(CRATE));
    let kept = folder.join(&name);
    make_folder(&kept)?;
    let log = folder.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("can't make {}", log.display()))?;
    let shown = log.display();
    eprintln!("{name}: built if need be, then fuzzed for {seconds} s; the log is {shown}");
    let mut fuzz = cargo();
    // Without a sanitizer, which only nightly has. There is no unsafe code for one to watch.
    fuzz.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"])
        .arg(root.join("target").join("fuzz"))
        .arg(&name)
        .args([&kept, &home.join("corpus").join(&name)])
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_INPUT_BYTES}"))
        .arg(format!("-timeout={MAX_INPUT_SECONDS}"))
        .arg("-print_final_stats=1")
        .arg(format!("-dict={}", home.join("words.dict").display()))
        .arg(format!("-artifact_prefix={}.", kept.display()))
        .current_dir(&home)
        .stdout(Stdio::null())
        .stderr(file);
    let status = fuzz.status().context("can't run cargo fuzz")?;
    let text = fs::read_to_string(&log).with_context(|| format!("can't read {shown}"))?;
    if !status.success() {
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        eprintln!("{}\nall of it: {shown}", last.join("\n"));
        if !text.contains("Test unit written to") {
            bail!("cargo fuzz failed ({status}) and found nothing; see {shown}");
        }
    }
    Ok(TargetResult {
        target,
        stats: read(&text),
        has_finding: !status.success(),
        log,
    })
}

/// The figures in the lines that libFuzzer ends with.
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

    const STATS: Stats = Stats {
        runs: 1_013_412,
        runs_per_s: 168_902,
        kept_as_new: 257,
    };

    #[test]
    fn the_last_figures_are_read() {
        let text = "Done 7 runs in 2 second(s)\nstat::number_of_executed_units: 1013412\n\
                    stat::average_exec_per_sec:     168902\nstat::new_units_added:          257\n";
        assert_eq!(read(text), STATS);
        assert_eq!(read("killed"), Stats::default());
    }

    #[test]
    fn json_says_what_the_table_says() {
        let result = |target, has_finding| TargetResult {
            target,
            stats: STATS,
            has_finding,
            log: "a.log".into(),
        };
        let results = FuzzResults {
            passed: false,
            seconds: 6,
            targets: vec![result(Target::Frames, false), result(Target::Reply, true)],
        };
        let expected = |target, has_finding| {
            json!({
                "target": target, "runs": 1_013_412, "runs_per_s": 168_902, "kept_as_new": 257,
                "has_finding": has_finding, "log": "a.log",
            })
        };
        let targets = [expected("frames", false), expected("reply", true)];
        let whole = json!({"passed": false, "seconds": 6, "targets": targets});
        assert_eq!(serde_json::to_value(&results).unwrap(), whole);
        let text = results.text();
        let rows: Vec<_> = text
            .lines()
            .filter(|line| line.contains("1,013,412"))
            .collect();
        assert!(
            rows[0].contains("nothing") && rows[1].contains("A FINDING"),
            "{text}"
        );
    }

    #[test]
    fn every_target_has_its_few_lines_and_a_corpus() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CRATE);
        assert!(home.join("words.dict").exists());
        for target in Target::value_variants() {
            let name = target.name();
            let lines = home.join("fuzz/fuzz_targets").join(format!("{name}.rs"));
            assert!(lines.exists(), "{}", lines.display());
            assert!(home.join("corpus").join(&name).is_dir(), "{name}");
        }
    }
}
