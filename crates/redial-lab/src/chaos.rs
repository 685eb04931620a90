//! `cargo xtask chaos`: real processes that are killed, behind a proxy that does everything a
//! network might, among hostile peers; and whether each call still took effect at most once and its
//! caller heard the truth.

mod chart;
mod delay_queue;
mod doors;
mod drive;
mod event_log;
mod frame_fault;
mod freeze;
mod hostile_peers;
mod page;
mod plan;
mod proxy;
pub(crate) mod shared;
mod token_client;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::{
    doors::Transport,
    event_log::{ChaosEvent, TimedEvent},
    plan::ChaosPlan,
    shared::{SharedPlan, SharedResults},
};
use crate::{
    crash::results::CrashResults,
    experiment::{Experiment, Lab, Report},
    harness::{
        flags::{SEEDS, whole},
        mode::Mode,
        progress,
    },
    report::{
        scale::{duration, thousands},
        terminal,
    },
};

/// The flags of the chaos.
#[derive(clap::Args)]
pub(crate) struct Chaos {
    /// How many seconds it goes on
    #[arg(long, default_value_t = 60, value_parser = whole(1..=86_400), allow_negative_numbers = true)]
    seconds: u64,
    /// Decides what the proxy does, which clients are killed and when, and the server's own faults; with
    /// `--store` calls share transactions if it is odd
    #[arg(long, default_value_t = 1, value_parser = whole(SEEDS), allow_negative_numbers = true)]
    seed: u64,
    /// How many clients there are at any time; of eight, three are behind the proxy, three behind the
    /// balancer, and two have plain ids
    #[arg(long, default_value_t = 8, value_parser = whole(2..=64), allow_negative_numbers = true)]
    clients: u64,
    /// How the clients name their calls; plain and naive ids are expected to fail
    #[arg(long, value_enum, default_value_t = Mode::Session)]
    ids: Mode,
    /// What the connections go over; with TLS the certificates are replaced every second
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    transport: Transport,
    /// Where the calls are kept: then three servers share it, of which one is killed every second, and another
    /// stands still for longer than its lease
    #[arg(long, value_enum, conflicts_with_all = ["ids", "transport"])]
    store: Option<ChaosStore>,
}

/// A store that several servers share.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ChaosStore {
    /// A PostgreSQL of its own, from the installed binaries; without those nothing is tried, which is an error if
    /// REDIAL_REQUIRE_SERVICES is set
    Postgres,
}

/// What came of a chaos.
pub(crate) enum ChaosOutcome {
    /// Around one server.
    Single(Box<ChaosResults>),
    /// Around several on one store; `None` if that is not to be had here.
    Shared(Option<Box<SharedResults>>),
}

/// What the chaos did to the programs, and to their calls.
pub(crate) struct ChaosResults {
    plan: ChaosPlan,
    crash: CrashResults,
    events: Vec<TimedEvent>,
    /// How many calls sent in one life of a token client were resolved in a later one.
    resolved: u64,
}

impl Experiment for Chaos {
    const NAME: &'static str = "chaos";
    const RUNS_ALONE: bool = true;

    type Results = ChaosOutcome;

    fn run(&self, lab: &Lab<'_>) -> Result<ChaosOutcome> {
        let programs = lab.programs()?;
        let folder = lab.empty_folder(Self::NAME)?;
        if self.store.is_some() {
            eprintln!(
                "chaos among servers for {} s, seed {}",
                self.seconds, self.seed
            );
            let bar = progress::bar(self.seconds, "{pos}/{len} s");
            let Some(database) = shared::database()? else {
                return Ok(ChaosOutcome::Shared(None));
            };
            let plan = SharedPlan {
                seconds: self.seconds,
                clients: self.clients as usize,
                seed: self.seed,
                ids: Mode::Session,
                is_calm: false,
            };
            let url = database.url("postgres");
            let results = shared::drive(&programs, &folder, url, plan, &bar)
                .with_context(|| format!("with --seed {}", self.seed))?;
            bar.finish_and_clear();
            return Ok(ChaosOutcome::Shared(Some(Box::new(results))));
        }
        let mut plan = ChaosPlan::new(self.seconds, self.clients as usize, self.seed, self.ids);
        plan.transport = self.transport;
        eprintln!("chaos for {} s, seed {}", plan.seconds, plan.seed);
        let bar = progress::bar(plan.seconds, "{pos}/{len} s");
        let results = drive::drive(&programs, &folder, plan, &bar)
            .with_context(|| format!("with --seed {}", self.seed))?;
        bar.finish_and_clear();
        Ok(ChaosOutcome::Single(Box::new(results)))
    }
}

impl Report for ChaosOutcome {
    fn text(&self, page: &Path) -> String {
        match self {
            Self::Single(results) => results.text(page),
            Self::Shared(Some(results)) => results.text(page),
            Self::Shared(None) => "skipped: no PostgreSQL".to_owned(),
        }
    }

    fn json(&self, page: &Path) -> Result<String> {
        match self {
            Self::Single(results) => results.json(page),
            Self::Shared(Some(results)) => results.json(page),
            Self::Shared(None) => Ok(json!({ "skipped": "no PostgreSQL" }).to_string()),
        }
    }

    fn html(&self) -> Option<String> {
        match self {
            Self::Single(results) => results.html(),
            Self::Shared(_) => None,
        }
    }

    fn problems(&self) -> Vec<String> {
        match self {
            Self::Single(results) => results.problems(),
            Self::Shared(results) => results
                .as_ref()
                .map_or_else(Vec::new, |results| results.problems()),
        }
    }
}

/// Something that was counted.
struct Count {
    /// Its name in JSON.
    name: &'static str,
    /// What it is.
    text: &'static str,
    count: u64,
}

impl ChaosResults {
    fn count(&self, event: ChaosEvent) -> u64 {
        let events = self.events.iter();
        events.filter(|timed| timed.event == event).count() as u64
    }

    /// Everything that was counted, in the order in which it is shown.
    fn counts(&self) -> Vec<Count> {
        let drains = self.count(ChaosEvent::ServerDrained);
        let kills = self.crash.outages.len() as u64 - drains;
        let calls = self.crash.counts();
        let count = |name, text, count| Count { name, text, count };
        let of = |event: ChaosEvent| count(event.name(), event.text(), self.count(event));
        let mut counts = vec![
            count("server_kills", "kills of the server", kills),
            of(ChaosEvent::ServerDrained),
            of(ChaosEvent::ServerFrozen),
            of(ChaosEvent::ClientFrozen),
            of(ChaosEvent::ClientKilled),
            of(ChaosEvent::TokenClientKilled),
            of(ChaosEvent::CertificatesReplaced),
            count("resolved", "calls resolved in a later life", self.resolved),
        ];
        counts.extend(ChaosEvent::ON_THE_WIRE.map(of));
        counts.extend([
            count("calls", "calls whose end was recorded", calls.calls),
            count("ok", "ok", calls.ok),
            count("not_executed", "not executed", calls.not_executed),
            count("failed", "failed", calls.failed),
            count("unknown", "unknown", calls.unknown),
            count("retried", "sent more than once", self.crash.retried()),
            count("effects", "effects in all ledgers", self.crash.effects),
        ]);
        counts
    }

    /// The same with its units, for people.
    fn figures(&self) -> Vec<(&'static str, String)> {
        let counts = self.counts().into_iter();
        let mut figures: Vec<_> = counts.map(|it| (it.text, thousands(it.count))).collect();
        let longest = self.crash.counts().longest_us;
        figures.push(("longest call", duration(longest as f64)));
        let violations = self.crash.violations.len() as u64;
        figures.push(("violations", thousands(violations)));
        figures
    }

    /// The server's, and that of each kind of client.
    fn commands(&self) -> [String; 5] {
        let client = |number| {
            let own = self.plan.own_flags(number);
            format!(
                "counter-client {} {}",
                self.plan.client.join(" "),
                own.join(" ")
            )
        };
        let server = format!("counter-server {}", self.plan.server.join(" "));
        [server, client(0), client(2), client(3), client(7)]
    }
}

impl Report for ChaosResults {
    fn text(&self, page: &Path) -> String {
        format!(
            "{}\n{}\n{} s, {} clients at a time, seed {}. A picture: {}",
            self.commands().join("\n"),
            terminal::figures(self.figures()),
            self.plan.seconds,
            self.plan.clients,
            self.plan.seed,
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Result<String> {
        let mut json = json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "seconds": self.plan.seconds,
            "seed": self.plan.seed,
            "clients": self.plan.clients,
            "violations": self.crash.violations.len(),
            "longest_call_us": self.crash.counts().longest_us,
            "commands": self.commands(),
            "page": page,
        });
        for count in self.counts() {
            json[count.name] = Value::from(count.count);
        }
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(self))
    }

    fn problems(&self) -> Vec<String> {
        let outages = self.crash.outages.len() as u64;
        let untested = [
            (self.crash.counts().ok, "no call was ok"),
            (outages, "the server was never killed"),
        ];
        let problems = untested.iter().filter_map(untested_problem);
        problems.chain(self.crash.problems()).collect()
    }
}

/// A problem if something never happened without which a run tests nothing.
fn untested_problem((count, what): &(u64, &str)) -> Option<String> {
    (*count == 0)
        .then(|| format!("{what}, so that was not tested; expected a longer run (--seconds)"))
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    let kinds = ChaosEvent::ON_THE_WIRE.into_iter().cycle();
    let events = kinds.zip(0..3000).map(|(event, n)| TimedEvent {
        t_us: n * 20_000,
        event,
    });
    let results = ChaosResults {
        plan: ChaosPlan::new(60, 8, 1, Mode::Session),
        crash: CrashResults::sample(),
        events: events.collect(),
        resolved: 17,
    };
    page::html(&results)
}
