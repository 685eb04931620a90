//! `cargo xtask restarts`: a server that is killed and started again in the middle of the load,
//! and whether each call still took effect at most once and its caller heard the truth.

mod clients;
pub(crate) mod drive;
mod page;
pub(crate) mod plan;

use std::{path::Path, time::Duration};

use anyhow::Result;
use serde_json::json;

use self::plan::{Load, RestartPlan};
use crate::{
    crash::{results::CrashResults, stored::IncKind},
    experiment::{Experiment, Lab, Report},
    harness::{
        balancer::Trick,
        clock,
        flags::{SEEDS, whole},
        mode::Mode,
        progress,
    },
    report::{
        scale::{duration, thousands},
        terminal,
    },
};

/// The flags of the restarts.
#[derive(clap::Args)]
pub(crate) struct Restarts {
    /// Decides the faults and the jitter
    #[arg(long, default_value_t = 1, value_parser = whole(SEEDS), allow_negative_numbers = true)]
    seed: u64,
    /// How many calls all clients make together
    #[arg(long, default_value_t = 100_000, value_parser = whole(100..=10_000_000), allow_negative_numbers = true)]
    calls: u64,
    /// How many clients there are
    #[arg(long, default_value_t = 8, value_parser = whole(1..=64), allow_negative_numbers = true)]
    clients: u64,
    /// How often the server is killed and started again
    #[arg(long, default_value_t = 20, value_parser = whole(1..=10_000), allow_negative_numbers = true)]
    restarts: u64,
    /// Have the server keep its calls in a store, so that no call ends as unknown but for want of time
    #[arg(long, conflicts_with_all = ["balancer", "refusals"])]
    store: bool,
    /// What kind of method `inc` is, with --store
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value = "transaction",
        requires = "store"
    )]
    inc_as: IncKind,
    /// How the clients name their calls; naive ids are expected to fail, and plain ones without a store
    #[arg(long, value_enum, default_value_t = Mode::Session)]
    ids: Mode,
    /// Let the server refuse some calls as well, as it does without room for them
    #[arg(long, conflicts_with = "balancer")]
    refusals: bool,
    /// Put a TCP balancer before the server, which accepts although its backend is late or down, and
    /// start both programs with all their defaults
    #[arg(long)]
    balancer: bool,
}

/// What the kills did to the calls.
pub(crate) struct RestartsResults {
    plan: RestartPlan,
    crash: CrashResults,
    tricks: Vec<Trick>,
    /// How many successors were killed before they listened, or just after.
    young: usize,
    took: Duration,
}

impl Experiment for Restarts {
    const NAME: &'static str = "restarts";
    const RUNS_ALONE: bool = true;

    type Results = RestartsResults;

    fn run(&self, lab: &Lab<'_>) -> Result<RestartsResults> {
        let programs = lab.programs()?;
        let folder = lab.empty_folder(Self::NAME)?;
        let plan = self.plan();
        let start = clock::now();
        let bar = progress::bar(plan.total(), "{human_pos}/{human_len} calls");
        let driven = drive::drive(&programs, &folder, &plan, &bar)?;
        bar.finish_and_clear();
        Ok(RestartsResults {
            plan,
            crash: driven.crash,
            tricks: driven.tricks,
            young: driven.young,
            took: clock::now().duration_since(start),
        })
    }
}

impl Restarts {
    fn plan(&self) -> RestartPlan {
        let trouble = match (self.balancer, self.refusals, self.store) {
            (true, ..) => plan::DEFAULTS,
            (_, true, _) => plan::REFUSALS,
            (.., true) => plan::STORED,
            _ => plan::LOSSES,
        };
        let load = Load {
            calls: self.calls,
            clients: self.clients,
            kills: self.restarts as usize,
            seed: self.seed,
        };
        RestartPlan {
            is_balanced: self.balancer,
            store: self.store.then_some(self.inc_as),
            ..RestartPlan::new(Self::NAME, self.ids, trouble, load)
        }
    }
}

impl RestartsResults {
    fn count(&self, trick: Trick) -> u64 {
        self.tricks.iter().filter(|done| **done == trick).count() as u64
    }

    /// What was counted, with what it is.
    fn figures(&self) -> Vec<(&'static str, String)> {
        let counts = self.crash.counts();
        let tricks = Trick::ALL.map(|trick| (trick.text(), self.count(trick)));
        let tricks = tricks.iter().filter(|_| self.plan.is_balanced);
        let numbers = [
            ("kills and restarts", self.crash.outages.len() as u64),
            ("calls", self.plan.total()),
            ("ok", counts.ok),
            ("not executed", counts.not_executed),
            ("failed", counts.failed),
            ("unknown", counts.unknown),
            ("sent more than once", self.crash.retried()),
            ("attempts outside a session", self.crash.outside()),
            ("effects, all lives together", self.crash.effects),
            ("calls doubled", self.crash.doubled()),
        ];
        let stored = [
            ("killed while they started", self.young as u64),
            (
                "interrupted (-32008), of the unknown",
                self.crash.interrupted(),
            ),
        ];
        let stored = stored.iter().filter(|_| self.plan.store.is_some());
        let numbers = tricks.chain(&numbers).chain(stored);
        let mut figures: Vec<_> = numbers.map(|(name, n)| (*name, thousands(*n))).collect();
        figures.push(("longest call", duration(counts.longest_us as f64)));
        let violations = self.crash.violations.len() as u64;
        figures.push(("violations", thousands(violations)));
        figures
    }

    /// The command lines of the server and of each client.
    fn commands(&self) -> [String; 2] {
        let store = |kind: IncKind| format!(" --store FILE --inc-as {}", kind.name());
        let store = self.plan.store.map(store).unwrap_or_default();
        [
            format!("counter-server {}{store}", self.plan.server.join(" ")),
            format!("counter-client {}", self.plan.client.join(" ")),
        ]
    }
}

impl Report for RestartsResults {
    fn text(&self, page: &Path) -> String {
        let [server, client] = self.commands();
        format!(
            "{server}\n{} x {client}\n{}\n{:.1} s. A picture: {}",
            self.plan.clients,
            terminal::figures(self.figures()),
            self.took.as_secs_f64(),
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Result<String> {
        let counts = self.crash.counts();
        let mut json = json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "calls": self.plan.total(),
            "clients": self.plan.clients,
            "kills": self.crash.outages.len(),
            "killed_young": self.young,
            "store": self.plan.store,
            "ok": counts.ok,
            "not_executed": counts.not_executed,
            "failed": counts.failed,
            "unknown": counts.unknown,
            "interrupted": self.crash.interrupted(),
            "retried": self.crash.retried(),
            "effects": self.crash.effects,
            "doubled": self.crash.doubled(),
            "outside_session": self.crash.outside(),
            "violations": self.crash.violations.len(),
            "longest_call_us": counts.longest_us,
            "elapsed_s": self.took.as_secs_f64(),
            "outages": self.crash.outages,
            "commands": self.commands(),
            "page": page,
        });
        for trick in Trick::ALL.into_iter().filter(|_| self.plan.is_balanced) {
            json[trick.name()] = self.count(trick).into();
        }
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(self))
    }

    fn problems(&self) -> Vec<String> {
        let (kills, planned) = (self.crash.outages.len(), self.plan.kills);
        let is_short = kills < planned;
        let short = is_short.then(|| {
            format!("the load ended after {kills} of {planned} kills, so the others tested nothing")
        });
        short.into_iter().chain(self.crash.problems()).collect()
    }
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    let load = Load {
        calls: 12_000,
        clients: 8,
        kills: 19,
        seed: 1,
    };
    let results = RestartsResults {
        plan: RestartPlan::new("restarts", Mode::Session, plan::LOSSES, load),
        crash: CrashResults::sample(),
        tricks: Vec::new(),
        young: 0,
        took: Duration::from_secs(60),
    };
    page::html(&results)
}
