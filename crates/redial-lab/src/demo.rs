//! `cargo xtask demo`: the notebook's demo, the forced duplicate, and every kind of trouble, with a
//! session and naively.

mod chapters;
mod chart;
mod duplicate;
mod page;
mod patterns;
mod run;
mod scenario;
mod table;
mod timeline;
mod verdict;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::json;

use self::{
    chapters::Chapters, duplicate::Duplicate, run::Run, scenario::KEY, verdict::EffectCheck,
};
use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{
        clock,
        flags::{CALLS_PER_RUN, SEEDS, whole},
        mode::Mode,
        programs::Programs,
        progress,
    },
};

/// The flags of the demo.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Decides the faults and the jitter
    #[arg(long, default_value_t = 1, value_parser = whole(SEEDS), allow_negative_numbers = true)]
    seed: u64,
    /// Calls per run; the notebook's scenario makes at most 100
    #[arg(long, default_value_t = 300, value_parser = whole(CALLS_PER_RUN), allow_negative_numbers = true)]
    calls: u64,
}

/// What all parts of the demo found.
pub(crate) struct DemoResults {
    seed: u64,
    calls: u64,
    duplicate: Duplicate,
    runs: Vec<Run>,
    chapters: Chapters,
    took: Duration,
}

impl Experiment for Demo {
    const NAME: &'static str = "demo";

    type Results = DemoResults;

    fn run(&self, lab: &Lab<'_>) -> Result<DemoResults> {
        let programs = lab.programs()?;
        let events = lab.folder("events")?;
        let start = clock::now();
        let steps = 1 + scenario::ALL.len() * scenario::MODES.len() + chapters::STEPS;
        let bar = progress::bar(steps as u64, "{pos}/{len} {msg}");
        bar.set_message("the forced duplicate");
        bar.tick();
        let duplicate =
            duplicate::force(&programs, &events, self.seed).context("the forced duplicate")?;
        bar.inc(1);
        let runs = self.scenarios(&programs, &events, &bar)?;
        let chapters = chapters::watch(&programs, &events, self.calls, self.seed, &bar)?;
        bar.finish_and_clear();
        Ok(DemoResults {
            seed: self.seed,
            calls: self.calls,
            duplicate,
            runs,
            chapters,
            took: clock::now().duration_since(start),
        })
    }
}

impl Demo {
    fn scenarios(&self, programs: &Programs, events: &Path, bar: &ProgressBar) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        for scenario in &scenario::ALL {
            for mode in scenario::MODES {
                bar.set_message(format!("{}, {}", scenario.name, mode.name()));
                let run = run::run(programs, events, scenario, mode, self.calls, self.seed);
                runs.push(run.with_context(|| {
                    format!("scenario {:?}, mode {}", scenario.name, mode.name())
                })?);
                bar.inc(1);
            }
        }
        Ok(runs)
    }
}

impl Report for DemoResults {
    /// A naive client breaks no promise, since nothing is promised to it.
    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.duplicate.problem().into_iter().collect();
        for run in self.runs.iter().filter(|run| run.mode == Mode::Session) {
            let name = run.scenario.name;
            if run.verdict != EffectCheck::Exact {
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

    fn text(&self, page: &Path) -> String {
        let duplicate = &self.duplicate;
        let mut text = format!(
            "The forced duplicate: one id sent three times, {} effect(s); the replies:\n",
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
            "seed {}, {:.1} s. Pictures and timelines: {}",
            self.seed,
            self.took.as_secs_f64(),
            page.display()
        ));
        text
    }

    fn json(&self, page: &Path) -> Result<String> {
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
        let json = json!({
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
        });
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(self))
    }
}

impl DemoResults {
    /// Where a naive client was lucky: under these faults it should have counted twice.
    fn surprises(&self) -> Vec<String> {
        let expected = ["lossy replies", "cut connections"];
        let lucky = self
            .runs
            .iter()
            .filter(|run| run.mode == Mode::Naive && expected.contains(&run.scenario.name))
            .filter(|run| run.verdict == EffectCheck::Exact)
            .map(|run| {
                format!(
                    "{}, naively: nothing was counted twice this time",
                    run.scenario.name
                )
            });
        lucky.chain(self.chapters.surprises()).collect()
    }
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    page::html(&page::tests::sample())
}
