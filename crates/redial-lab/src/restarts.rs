//! `cargo xtask restarts`: a server that is killed and started again in the middle of the load,
//! and whether each call still took effect once at most and was told the truth.

pub(crate) mod chart;
pub(crate) mod check;
mod crowd;
pub(crate) mod drive;
mod page;
pub(crate) mod plan;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::{
    check::Violation,
    drive::{Driven, Outage},
    plan::Plan,
};
use crate::{
    harness::{
        clock,
        events::{Call, Outcome},
        flags::whole,
        mode::Mode,
        workspace::Workspace,
    },
    report::{
        self,
        scale::{duration, thousands},
    },
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
    /// Calls of all clients together
    #[arg(long, default_value_t = 100_000, value_parser = whole(100, 10_000_000), allow_negative_numbers = true)]
    calls: u64,
    /// How many clients make them
    #[arg(long, default_value_t = 8, value_parser = whole(1, 64), allow_negative_numbers = true)]
    clients: u64,
    /// How often the server is killed and started again
    #[arg(long, default_value_t = 20, value_parser = whole(1, 200), allow_negative_numbers = true)]
    restarts: u64,
    /// How the clients name their calls; anything but a session is there to fail
    #[arg(long, value_enum, default_value_t = Mode::Session)]
    ids: Mode,
    /// Let the server refuse some of the calls as well, for want of room
    #[arg(long)]
    refusals: bool,
    /// Use the programs in this folder instead of building them
    #[arg(long, hide = true, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Everything that was seen.
struct Seen {
    plan: Plan,
    outages: Vec<Outage>,
    calls: Vec<Call>,
    effects: u64,
    violations: Vec<Violation>,
    took: Duration,
}

/// Kills and restarts; the exit code says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let _claim = workspace.claim("restarts")?;
    let programs = workspace.programs(args.programs.as_deref(), args.json)?;
    let output = workspace.output()?;
    let folder = drive::empty_folder(output.join("restarts"))?;
    let plan = args.plan();
    let start = clock::now();
    let bar = ProgressBar::new(plan.total()).with_style(
        ProgressStyle::with_template("{bar:24} {human_pos}/{human_len} calls")
            .context("a fixed template")?,
    );
    let driven = drive::drive(&programs, &folder, &plan, &bar)?;
    bar.finish_and_clear();
    let seen = Seen::new(plan, driven, clock::now().duration_since(start));
    let page = output.join("restarts.html");
    report::page::write(&page, &page::html(&seen))?;
    if args.json {
        println!("{}", seen.json(&page));
    } else {
        println!("\n{}", seen.text(&page));
    }
    let problems = seen.problems();
    Ok(report::terminal::verdict(&problems))
}

impl Args {
    fn plan(&self) -> Plan {
        let load = (self.calls, self.clients);
        let kills = self.restarts as usize;
        let trouble = match self.refusals {
            true => plan::REFUSALS,
            false => plan::LOSSES,
        };
        let name = "restarts".to_owned();
        Plan::new(name, self.ids, trouble, load, kills, self.seed)
    }
}

impl Seen {
    fn new(plan: Plan, driven: Driven, took: Duration) -> Self {
        let effects = driven.effects.count();
        let violations =
            check::violations(&driven.calls, plan.calls, plan.call_limit, driven.effects);
        Self {
            plan,
            outages: driven.outages,
            calls: driven.calls.into_iter().flatten().collect(),
            effects,
            violations,
            took,
        }
    }

    fn ended(&self, outcome: Outcome) -> u64 {
        let ended = self.calls.iter().filter(|call| call.outcome == outcome);
        ended.count() as u64
    }

    fn longest_us(&self) -> u64 {
        let took = |call: &Call| call.end_us.saturating_sub(call.start_us);
        self.calls.iter().map(took).max().unwrap_or(0)
    }

    /// How many calls had to be sent more than once.
    fn retried(&self) -> u64 {
        let retried = self.calls.iter().filter(|call| call.attempts.len() > 1);
        retried.count() as u64
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.outages.len() < self.plan.kills {
            problems.push(format!(
                "the load was over after {} of {} kills",
                self.outages.len(),
                self.plan.kills
            ));
        }
        problems.extend(check::summary(&self.violations));
        problems
    }

    /// What was counted, with what it is.
    fn figures(&self) -> [(&'static str, String); 10] {
        let number = |n: u64| thousands(n);
        [
            ("kills and restarts", number(self.outages.len() as u64)),
            ("calls", number(self.plan.total())),
            ("ok", number(self.ended(Outcome::Ok))),
            ("not executed", number(self.ended(Outcome::NotExecuted))),
            ("failed", number(self.ended(Outcome::Failed))),
            ("unknown", number(self.ended(Outcome::Unknown))),
            ("sent more than once", number(self.retried())),
            ("effects, all lives together", number(self.effects)),
            ("longest call", duration(self.longest_us() as f64)),
            ("violations", number(self.violations.len() as u64)),
        ]
    }

    fn commands(&self) -> [String; 2] {
        [
            format!("counter-server {}", self.plan.server.join(" ")),
            format!("counter-client {}", self.plan.client.join(" ")),
        ]
    }

    fn text(&self, page: &Path) -> String {
        let mut table = report::terminal::table(&["", "found"]);
        for (name, value) in self.figures() {
            table.add_row([name.to_owned(), value]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        let [server, client] = self.commands();
        format!(
            "{server}\n{} x {client}\n{table}\n{:.1} s. A picture: {}",
            self.plan.clients,
            self.took.as_secs_f64(),
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Value {
        json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "calls": self.plan.total(),
            "clients": self.plan.clients,
            "kills": self.outages.len(),
            "ok": self.ended(Outcome::Ok),
            "not_executed": self.ended(Outcome::NotExecuted),
            "failed": self.ended(Outcome::Failed),
            "unknown": self.ended(Outcome::Unknown),
            "retried": self.retried(),
            "effects": self.effects,
            "violations": self.violations.len(),
            "longest_call_us": self.longest_us(),
            "elapsed_s": self.took.as_secs_f64(),
            "outages": self.outages,
            "commands": self.commands(),
            "page": page,
        })
    }
}
