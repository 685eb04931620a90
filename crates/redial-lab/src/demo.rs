//! `cargo xtask demo`: the notebook's demo, the forced duplicate, and every kind of trouble with
//! sessions and naively.

mod chapters;
mod chart;
mod duplicate;
mod page;
mod run;
mod scenario;
mod stories;
mod table;
mod timeline;
mod verdict;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::{chapters::Chapters, duplicate::Duplicate, run::Run, scenario::KEY, verdict::Verdict};
use crate::{
    harness::{clock, flags::whole, mode::Mode, programs::Programs, workspace::Workspace},
    report,
};

/// What may be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// Decides the faults and the jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Calls per run; the notebook's scenario makes at most 100
    #[arg(long, default_value_t = 300, value_parser = whole(1, 5000), allow_negative_numbers = true)]
    calls: u64,
    /// Use the programs in this folder instead of building them
    #[arg(long, hide = true, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Everything that was seen.
pub(crate) struct Outcome {
    seed: u64,
    calls: u64,
    duplicate: Duplicate,
    runs: Vec<Run>,
    chapters: Chapters,
    took: Duration,
}

/// Runs the demo; the exit code says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let programs = workspace.programs(args.programs.as_deref(), args.json)?;
    let folder = workspace.output()?;
    let outcome = watch(&programs, &folder, args)?;
    let page = folder.join("demo.html");
    report::page::write(&page, &page::html(&outcome))?;
    let problems = outcome.problems();
    if args.json {
        println!("{}", outcome.json(&page));
    } else {
        print!("{}", outcome.text(&page));
    }
    Ok(report::terminal::verdict(&problems))
}

fn watch(programs: &Programs, folder: &Path, args: &Args) -> Result<Outcome> {
    let start = clock::now();
    let events = folder.join("events");
    std::fs::create_dir_all(&events).with_context(|| format!("can't make {}", events.display()))?;
    let steps = 1 + scenario::ALL.len() * scenario::MODES.len() + chapters::STEPS;
    let bar = ProgressBar::new(steps as u64).with_style(
        ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}").context("a fixed template")?,
    );
    bar.set_message("the forced duplicate");
    bar.tick();
    let duplicate =
        duplicate::force(programs, &events, args.seed).context("the forced duplicate")?;
    bar.inc(1);
    let mut runs = Vec::new();
    for scenario in &scenario::ALL {
        for mode in scenario::MODES {
            bar.set_message(format!("{}, {}", scenario.name, mode.name()));
            let run = run::run(programs, &events, scenario, mode, args.calls, args.seed)
                .with_context(|| format!("scenario {:?}, mode {}", scenario.name, mode.name()))?;
            runs.push(run);
            bar.inc(1);
        }
    }
    let chapters = chapters::watch(programs, &events, args.calls, args.seed, &bar)?;
    bar.finish_and_clear();
    Ok(Outcome {
        seed: args.seed,
        calls: args.calls,
        duplicate,
        runs,
        chapters,
        took: clock::now().duration_since(start),
    })
}

impl Outcome {
    /// Which promises were broken. What happens naively breaks none: none is made.
    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.duplicate.problem().into_iter().collect();
        for run in self.runs.iter().filter(|run| run.mode == Mode::Session) {
            let name = run.scenario.name;
            if run.verdict != Verdict::Exact {
                problems.push(format!("{name}, with a session: {}", run.verdict.text()));
            }
            let missing = run.summary.calls - run.summary.ok;
            if missing > 0 && ["notebook", "no faults"].contains(&name) {
                problems.push(format!(
                    "{name}, with a session: {missing} calls were not ok"
                ));
            }
        }
        problems.extend(self.chapters.problems());
        problems
    }

    /// Where a naive client was lucky: under these faults it should have counted twice.
    fn surprises(&self) -> Vec<String> {
        let expected = ["lossy replies", "cut connections"];
        let lucky = self
            .runs
            .iter()
            .filter(|run| run.mode == Mode::Naive && expected.contains(&run.scenario.name))
            .filter(|run| run.verdict == Verdict::Exact)
            .map(|run| {
                format!(
                    "{}, naively: nothing was counted twice this time",
                    run.scenario.name
                )
            });
        lucky.chain(self.chapters.surprises()).collect()
    }

    fn text(&self, page: &Path) -> String {
        let duplicate = &self.duplicate;
        let mut text = format!(
            "\nThe forced duplicate: one id sent three times, {} effect(s); the replies:\n",
            duplicate.effects
        );
        for (index, reply) in duplicate.replies.iter().enumerate() {
            let verdict = duplicate.verdicts[index];
            let verdict = verdict.map_or_else(|| "?".to_owned(), |verdict| format!("{verdict:?}"));
            text.push_str(&format!("  {:9} {reply}\n", verdict.to_lowercase()));
        }
        text.push_str(&format!(
            "\nEach scenario with a session (one id per call) and naively (one per attempt):\n{}\n",
            table::terminal(&self.runs)
        ));
        text.push_str(&self.chapters.text());
        for surprise in self.surprises() {
            text.push_str(&format!("note: {surprise}\n"));
        }
        text.push_str(&format!(
            "seed {}, {:.1} s. Pictures and timelines: {}\n",
            self.seed,
            self.took.as_secs_f64(),
            page.display()
        ));
        text
    }

    fn json(&self, page: &Path) -> Value {
        let runs = self.runs.iter().map(|run| {
            let (least, most) = verdict::expected(&run.summary);
            json!({
                "scenario": run.scenario.name,
                "mode": run.mode,
                "client": run.summary,
                "effects_expected": {"least": least, "most": most},
                "effects_found": run.effects,
                "judged": run.verdict,
                "commands": run.commands,
            })
        });
        json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "notes": self.surprises(),
            "seed": self.seed,
            "elapsed_s": self.took.as_secs_f64(),
            "page": page,
            "duplicate": {
                "key": KEY,
                "requests": self.duplicate.requests,
                "replies": self.duplicate.replies,
                "effects": self.duplicate.effects,
            },
            "runs": runs.collect::<Vec<_>>(),
            "chapters": self.chapters.json(),
        })
    }
}
