//! `cargo xtask sim`: simulated worlds of the real client and server, one for each seed, judged by
//! an oracle; or the story of one.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::{
    clock,
    flags::whole,
    process::Process,
    programs::{Workspace, cargo},
    report::scale::thousands,
};

/// How long the program may say nothing: it reports every ten seeds.
const SILENCE: Duration = Duration::from_secs(120);
/// How long it may take to end after its last line.
const END: Duration = Duration::from_secs(20);

/// The exit code of a program that was given wrong flags.
const WRONG_FLAGS: i32 = 2;
/// How many violations are shown; the story of the seed has all of them.
const SHOWN: usize = 10;

const MS_PER_HOUR: f64 = 3.6e6;

/// What is told of many worlds, by what it is about. Callers wait for calls, and for the answer to
/// what became of one.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "callers",
        &[
            "waits",
            "ok",
            "failed",
            "not_executed",
            "unknown",
            "abandoned",
        ],
    ),
    ("the server", &["effects", "joined", "replayed", "refused"]),
    (
        "the network",
        &["connections", "requests", "copies", "cuts"],
    ),
    ("the world", &["server_ends", "client_deaths"]),
];

/// What may be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds to play
    #[arg(long, default_value_t = 500, value_parser = whole(1, 100_000_000), allow_negative_numbers = true)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1, value_parser = whole(0, u64::MAX / 2), allow_negative_numbers = true)]
    from: u64,
    /// Play this one seed, and tell what happened
    #[arg(long, conflicts_with_all = ["seeds", "from", "json"], value_parser = whole(0, u64::MAX), allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Of the one seed, tell only the story of this call
    #[arg(long, requires = "seed", value_parser = clap::value_parser!(u32), allow_negative_numbers = true)]
    call: Option<u32>,
    /// Whom to play with: real, model (a small server with the same rules), or a deliberate bug by
    /// its name, which is to be found; a name that is none is answered with all there are
    #[arg(long, default_value = "real")]
    subject: String,
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
}

/// Plays the seeds, or tells the story of one; the exit code says whether all promises were kept.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let program = build(&workspace, args.json)?;
    match args.seed {
        Some(seed) => tell(&program, seed, args),
        None => play(&program, args),
    }
}

fn build(workspace: &Workspace, quiet: bool) -> Result<std::path::PathBuf> {
    let mut build = cargo();
    build.current_dir(&workspace.root);
    build.args(["build", "--release", "-p", "redial-sim"]);
    if quiet {
        build.arg("--quiet");
    }
    let status = build.status().context("can't run cargo")?;
    ensure!(status.success(), "building redial-sim failed ({status})");
    Ok(workspace.release("redial-sim"))
}

/// What is told is the program's own.
fn tell(program: &std::path::Path, seed: u64, args: &Args) -> Result<ExitCode> {
    let mut command = std::process::Command::new(program);
    command.args(["--seed", &seed.to_string(), "--subject", &args.subject]);
    if let Some(call) = args.call {
        command.args(["--call", &call.to_string()]);
    }
    let status = command.status().context("can't run redial-sim")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn play(program: &std::path::Path, args: &Args) -> Result<ExitCode> {
    let start = clock::now();
    let words = [
        "--json".to_owned(),
        format!("--seeds={}", args.seeds),
        format!("--from={}", args.from),
        format!("--subject={}", args.subject),
    ];
    let mut process = Process::start("redial-sim", program, &words)?;
    let summary = match watch(&process, args.seeds) {
        Ok(summary) => summary,
        Err(error) => return refused(&mut process).ok_or(error),
    };
    process.finish(END)?;
    let played = Played {
        summary,
        seconds: clock::now().duration_since(start).as_secs_f64(),
    };
    match args.json {
        true => println!("{}", played.json()),
        false => println!("{}", played.text(&args.subject)?),
    }
    Ok(match played.first_failing_seed() {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

/// Passes on what the program says of its flags, if that is why it ended: only it knows the bugs.
fn refused(process: &mut Process) -> Option<ExitCode> {
    let (status, _) = process.finish(END).ok()?;
    (status.code() == Some(WRONG_FLAGS)).then(|| {
        eprintln!("{}", process.stderr());
        ExitCode::from(WRONG_FLAGS as u8)
    })
}

/// Shows how far it is, and gives what it says at its end. The bar is not drawn where nobody looks.
fn watch(process: &Process, seeds: u64) -> Result<Value> {
    let style = "{bar:24} {pos}/{len} seeds, {per_sec}, {eta} to go";
    let style = ProgressStyle::with_template(style).context("a fixed template")?;
    let bar = ProgressBar::new(seeds).with_style(style);
    loop {
        let line = process.line(SILENCE)?;
        match serde_json::from_str(&line) {
            Ok(Value::Number(played)) => bar.set_position(played.as_u64().unwrap_or(0)),
            Ok(summary @ Value::Object(_)) => {
                bar.finish_and_clear();
                return Ok(summary);
            }
            _ => bail!("redial-sim said {line:?}; expected a number or an object"),
        }
    }
}

/// What came of it.
struct Played {
    summary: Value,
    seconds: f64,
}

impl Played {
    fn first_failing_seed(&self) -> Option<u64> {
        self.summary["first_failing_seed"].as_u64()
    }

    fn seeds(&self) -> u64 {
        self.summary["seeds"].as_u64().unwrap_or(0)
    }

    fn simulated_hours(&self) -> f64 {
        self.summary["tally"]["virtual_ms"].as_f64().unwrap_or(0.0) / MS_PER_HOUR
    }

    fn json(&self) -> Value {
        let mut whole = self.summary.clone();
        whole["elapsed_s"] = json!(self.seconds);
        whole["seeds_per_s"] = json!(self.seeds() as f64 / self.seconds);
        whole["simulated_hours"] = json!(self.simulated_hours());
        whole
    }

    fn text(&self, subject: &str) -> Result<String> {
        let tally = self.summary["tally"].as_object();
        let tally = tally.context("redial-sim gave no figures")?;
        let mut text = format!(
            "{} {} in {:.1} s ({:.0} a second), {:.1} simulated hours",
            thousands(self.seeds()),
            if self.seeds() == 1 { "seed" } else { "seeds" },
            self.seconds,
            self.seeds() as f64 / self.seconds,
            self.simulated_hours(),
        );
        for (title, names) in GROUPS {
            text.push_str(&format!("\n  {title:<11} {}", figures(tally, names)));
        }
        text.push('\n');
        text.push_str(&self.verdict(subject));
        Ok(text)
    }

    fn verdict(&self, subject: &str) -> String {
        let Some(seed) = self.first_failing_seed() else {
            return "no promise was broken".to_owned();
        };
        let violations = self.summary["violations"].as_array();
        let violations = violations.map_or(&[][..], Vec::as_slice);
        let mut text = String::new();
        for violation in violations.iter().take(SHOWN) {
            let violation = violation.as_str().unwrap_or_default();
            text.push_str(&format!("VIOLATION {violation}\n"));
        }
        if violations.len() > SHOWN {
            text.push_str(&format!("and {} more\n", violations.len() - SHOWN));
        }
        let subject = match subject {
            "real" => String::new(),
            other => format!(" --subject {other}"),
        };
        text.push_str(&format!(
            "seed {seed} failed; its story: cargo xtask sim --seed {seed}{subject}"
        ));
        text
    }
}

/// These figures, as in `2 ok, 1 failed`.
fn figures(tally: &Map<String, Value>, names: &[&str]) -> String {
    let one = |name: &&str| {
        let value = tally.get(*name).and_then(Value::as_u64).unwrap_or(0);
        format!("{} {}", thousands(value), name.replace('_', " "))
    };
    names.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(seed: Option<u64>) -> Played {
        Played {
            summary: json!({
                "seeds": 1200,
                "first_failing_seed": seed,
                "violations": ["at most one effect: call 7: 2 of them"],
                "tally": {"waits": 5000, "client_deaths": 2, "virtual_ms": 7_200_000},
            }),
            seconds: 4.0,
        }
    }

    #[test]
    fn a_good_run_says_how_fast_and_how_much() {
        let text = played(None).text("real").unwrap();
        assert!(
            text.contains("(300 a second), 2.0 simulated hours"),
            "{text}"
        );
        assert!(text.contains("\n  callers     5,000 waits, 0 ok"), "{text}");
        assert!(text.contains("2 client deaths\n"), "{text}");
        assert!(text.ends_with("no promise was broken"), "{text}");
        assert_eq!(played(None).json()["seeds_per_s"], 300.0);
    }

    #[test]
    fn a_very_bad_run_shows_only_some_of_it() {
        let mut played = played(Some(9));
        let violations: Vec<_> = (1..=25).map(|call| format!("call {call}: lost")).collect();
        played.summary["violations"] = json!(violations);
        let text = played.text("real").unwrap();
        assert_eq!(text.matches("VIOLATION").count(), SHOWN, "{text}");
        assert!(
            text.contains("call 10: lost\nand 15 more\nseed 9 failed"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_run_says_which_seed_and_how_to_see_it() {
        let text = played(Some(9)).text("no-join").unwrap();
        assert!(
            text.contains("VIOLATION at most one effect: call 7"),
            "{text}"
        );
        assert!(
            text.ends_with("cargo xtask sim --seed 9 --subject no-join"),
            "{text}"
        );
    }
}
