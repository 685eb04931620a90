//! What a session adds, beside what happens without one: late retries, restarts, several servers, hedging, and
//! memory.

pub(crate) mod hedging;
pub(crate) mod late;
pub(crate) mod restart;
pub(crate) mod servers;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use self::{hedging::Hedged, late::Late, restart::Restarted, servers::Served};
use crate::{
    harness::{mode::Mode, programs::Programs},
    memory::measure::{self, Curve},
    report::{
        scale::{memory, rate, thousands},
        terminal::{of as table, wrap},
    },
};

/// How many steps the chapters are on a progress bar.
pub(crate) const STEPS: usize =
    1 + restart::WAYS.len() + servers::IDS.len() + hedging::POLICIES.len() + 2;

/// A run of these has this many times the calls of a scenario's, and at least so many.
const RESTART_CALLS: (u64, u64) = (20, 1200);
const HEDGED_CALLS: (u64, u64) = (10, 500);
const MEMORY_CALLS: (u64, u64) = (3000, 100_000);
/// How often the memory is looked at.
const PAUSE: Duration = Duration::from_millis(25);

/// All of them.
pub(crate) struct Chapters {
    pub(crate) late: Late,
    pub(crate) restarted: Vec<Restarted>,
    /// Empty where there is no PostgreSQL.
    pub(crate) served: Vec<Served>,
    pub(crate) hedged: Vec<Hedged>,
    /// Empty where the system does not report how much memory a process has.
    pub(crate) memory: Vec<Curve>,
}

/// Runs them; the bar shows which.
pub(crate) fn watch(
    programs: &Programs,
    folder: &Path,
    calls: u64,
    seed: u64,
    bar: &ProgressBar,
) -> Result<Chapters> {
    let times = |(times, least): (u64, u64)| (calls * times).max(least);
    bar.set_message("late retries");
    let late = late::watch(programs).context("the late retries")?;
    bar.inc(1);
    let mut restarted = Vec::new();
    for way in &restart::WAYS {
        bar.set_message(format!("restarts, {}", way.name));
        let run = restart::watch(programs, folder, way, times(RESTART_CALLS), seed);
        restarted.push(run.with_context(|| format!("restarts, {}", way.name))?);
        bar.inc(1);
    }
    let served = servers::watch(programs, folder, seed, bar)?;
    let mut hedged = Vec::new();
    for policy in &hedging::POLICIES {
        bar.set_message(format!("slow replies, {}", policy.name));
        let run = hedging::watch(programs, folder, policy, times(HEDGED_CALLS), seed);
        hedged.push(run.with_context(|| format!("slow replies, {}", policy.name))?);
        bar.inc(1);
    }
    Ok(Chapters {
        late,
        restarted,
        served,
        hedged,
        memory: watch_memory(programs, times(MEMORY_CALLS), bar)?,
    })
}

fn watch_memory(programs: &Programs, calls: u64, bar: &ProgressBar) -> Result<Vec<Curve>> {
    let mut memory = Vec::new();
    for ids in measure::MODES {
        bar.set_message(format!("memory, {}", ids.text()));
        if measure::is_possible() {
            let curve = measure::measure(programs, ids, calls, PAUSE);
            memory.push(curve.with_context(|| format!("memory, {}", ids.text()))?);
        }
        bar.inc(1);
    }
    Ok(memory)
}

impl Chapters {
    /// Which promises were broken.
    pub(crate) fn problems(&self) -> Vec<String> {
        let restarted = self.restarted.iter().filter_map(Restarted::problem);
        let hedged = self.hedged.iter().filter_map(Hedged::problem);
        let late = self.late.problems().into_iter();
        let served = self.served.iter().filter_map(Served::problem);
        late.chain(restarted).chain(served).chain(hedged).collect()
    }

    /// Where it went better without a session than it had to.
    pub(crate) fn surprises(&self) -> Vec<String> {
        let late = self.late.surprise();
        let lucky = |run: &&Restarted| run.way.ids != Mode::Session && run.doubled == 0;
        let restarted = self.restarted.iter().filter(lucky);
        let restarted = restarted
            .map(|run| format!("restarts, {}: nothing was doubled this time", run.way.name));
        let served = self.served.iter();
        let served = served.filter(|run| run.ids != Mode::Session && run.doubled == 0);
        let served = served.map(|run| {
            let ids = run.ids.text();
            format!("servers that share a table, {ids}: nothing was doubled this time")
        });
        late.into_iter().chain(restarted).chain(served).collect()
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "\nThe same request again, after {} ms:\n{}\n",
            late::AWAY.as_millis(),
            table(&late::HEADINGS, self.late.rows(), 4)
        );
        text.push_str(&format!(
            "\nA server that is killed (-9) and started again {} times under load:\n{}\n",
            restart::KILLS,
            table(
                &restart::HEADINGS,
                self.restarted.iter().map(Restarted::row),
                1
            )
        ));
        let served = if self.served.is_empty() {
            wrap(servers::SKIPPED)
        } else {
            table(&servers::HEADINGS, self.served.iter().map(Served::row), 1).to_string()
        };
        text.push_str(
            "\nThree servers on one table in PostgreSQL, of which one is killed (-9) every\nsecond under load:\n",
        );
        text.push_str(&format!("{served}\n"));
        text.push_str(&format!(
            "\nReplies with a heavy tail ({}), and a\nsecond request for those that take long:\n{}\n",
            hedging::TAIL,
            table(&hedging::HEADINGS, self.hedged.iter().map(Hedged::row), 1)
        ));
        if !self.memory.is_empty() {
            let rows = self.memory.iter().map(memory_row);
            text.push_str(&format!(
                "\nThe server's memory at full speed through one client:\n{}\n",
                table(&MEMORY_HEADINGS, rows, 1)
            ));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "late": self.late.json(),
            "restarts": self.restarted.iter().map(Restarted::json).collect::<Vec<_>>(),
            "servers": self.served.iter().map(Served::json).collect::<Vec<_>>(),
            "hedging": self.hedged.iter().map(Hedged::json).collect::<Vec<_>>(),
            "memory": self.memory.iter().map(memory_json).collect::<Vec<_>>(),
        })
    }
}

/// What the columns about memory are called.
pub(crate) const MEMORY_HEADINGS: [&str; 6] = [
    "ids",
    "calls",
    "calls/s",
    "at first",
    "after a tenth",
    "at last",
];

/// A run at full speed, as text.
pub(crate) fn memory_row(curve: &Curve) -> [String; 6] {
    let calls = curve.summary.calls;
    [
        curve.ids.text().to_owned(),
        thousands(calls),
        rate(curve.summary.calls_per_s()),
        memory(curve.rss_kib_after(0)),
        memory(curve.rss_kib_after(calls / 10)),
        memory(curve.growth(0).0),
    ]
}

fn memory_json(curve: &Curve) -> Value {
    json!({
        "ids": curve.ids,
        "calls": curve.summary.calls,
        "calls_per_s": curve.summary.calls_per_s(),
        "samples": curve.samples,
    })
}
