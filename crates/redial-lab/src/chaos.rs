//! `cargo xtask chaos`: real processes that are killed, behind a proxy that does everything a
//! network might, among peers without manners; and whether each call still took effect once at
//! most and was told the truth.

mod chart;
mod diary;
mod drive;
mod fate;
mod page;
mod plan;
mod post;
mod proxy;
mod rude;
mod saver;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::{
    diary::Deed,
    drive::{Driven, Told},
    plan::Plan,
};
use crate::{
    harness::{
        events::{Call, Outcome},
        flags::whole,
        mode::Mode,
        workspace::Workspace,
    },
    report::{
        self,
        scale::{duration, thousands},
    },
    restarts::{
        check::{self, Violation},
        drive::{Outage, empty_folder},
    },
};

/// What may be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// How long
    #[arg(long, default_value_t = 60, value_parser = whole(1, 86400), allow_negative_numbers = true)]
    seconds: u64,
    /// Decides what the proxy does, whom the kills hit and when, and the server's own faults
    #[arg(long, default_value_t = 1, value_parser = whole(0, u64::MAX), allow_negative_numbers = true)]
    seed: u64,
    /// How many clients there are at any time; half of them are behind the proxy
    #[arg(long, default_value_t = 8, value_parser = whole(2, 64), allow_negative_numbers = true)]
    clients: u64,
    /// How the clients name their calls; anything but a session is there to fail
    #[arg(long, value_enum, default_value_t = Mode::Session)]
    ids: Mode,
    /// Use the programs in this folder instead of building them
    #[arg(long, hide = true, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Everything that was seen.
struct Seen {
    plan: Plan,
    outages: Vec<Outage>,
    lives: Vec<Told>,
    deeds: Vec<(u64, Deed)>,
    resolved: u64,
    effects: u64,
    violations: Vec<Violation>,
}

/// Does it; the exit code says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let _claim = workspace.claim("chaos")?;
    let programs = workspace.programs(args.programs.as_deref(), args.json)?;
    let output = workspace.output()?;
    let folder = empty_folder(output.join("chaos"))?;
    let plan = Plan::new(args.seconds, args.clients as usize, args.seed, args.ids);
    eprintln!("chaos for {} s, seed {}", plan.seconds, plan.seed);
    let bar = ProgressBar::new(plan.seconds).with_style(
        ProgressStyle::with_template("{bar:24} {pos}/{len} s").context("a fixed template")?,
    );
    let driven = drive::drive(&programs, &folder, &plan, &bar)
        .with_context(|| format!("with --seed {}", plan.seed))?;
    bar.finish_and_clear();
    let seen = Seen::new(plan, driven);
    let page = output.join("chaos.html");
    report::page::write(&page, &page::html(&seen))?;
    if args.json {
        println!("{}", seen.json(&page));
    } else {
        println!("\n{}", seen.text(&page));
    }
    let problems = seen.problems();
    Ok(report::terminal::verdict(&problems))
}

impl Seen {
    fn new(plan: Plan, driven: Driven) -> Self {
        let effects = driven.effects.count();
        let histories: Vec<_> = driven.lives.iter().map(Told::history).collect();
        let violations = check::violations_of(&histories, driven.effects);
        Self {
            plan,
            outages: driven.outages,
            lives: driven.lives,
            deeds: driven.deeds,
            resolved: driven.resolved,
            effects,
            violations,
        }
    }

    /// Every call of which a client lived to write down the end.
    fn calls(&self) -> impl Iterator<Item = &Call> + Clone {
        self.lives.iter().flat_map(|life| &life.calls)
    }

    fn ended(&self, outcome: Outcome) -> u64 {
        let ended = self.calls().filter(|call| call.outcome == outcome);
        ended.count() as u64
    }

    fn retried(&self) -> u64 {
        self.lives.iter().map(|life| life.retried).sum()
    }

    fn did(&self, deed: Deed) -> u64 {
        self.deeds.iter().filter(|(_, did)| *did == deed).count() as u64
    }

    fn longest_us(&self) -> u64 {
        let took = |call: &Call| call.end_us.saturating_sub(call.start_us);
        self.calls().map(took).max().unwrap_or(0)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.ended(Outcome::Ok) == 0 {
            problems.push("no call was ok: nothing was tested".to_owned());
        }
        problems.extend(check::summary(&self.violations));
        problems
    }

    /// What was counted: the name in JSON, what it is, and how many.
    fn counts(&self) -> [(&'static str, &'static str, u64); 25] {
        [
            (
                "server_kills",
                "kills of the server",
                self.outages.len() as u64 - self.did(Deed::ServerDrained),
            ),
            (
                "server_drains",
                "drains of the server",
                self.did(Deed::ServerDrained),
            ),
            (
                "client_kills",
                "kills of clients",
                self.did(Deed::ClientKilled),
            ),
            (
                "saver_kills",
                "kills of clients that save their calls",
                self.did(Deed::SaverKilled),
            ),
            (
                "resolved",
                "calls that a later life asked for",
                self.resolved,
            ),
            ("cuts", "connections cut", self.did(Deed::Cut)),
            ("truncated", "frames truncated", self.did(Deed::Truncated)),
            (
                "duplicated",
                "requests doubled on the spot",
                self.did(Deed::Duplicated),
            ),
            (
                "replies_duplicated",
                "replies doubled",
                self.did(Deed::ReplyDuplicated),
            ),
            (
                "copied",
                "requests copied for later",
                self.did(Deed::Copied),
            ),
            ("held_back", "requests held back", self.did(Deed::HeldBack)),
            (
                "let_through",
                "of both, let through later",
                self.did(Deed::LetThrough),
            ),
            ("delayed", "frames delayed", self.did(Deed::Delayed)),
            ("stalls", "directions stalled", self.did(Deed::Stalled)),
            ("floods", "floods of connections", self.did(Deed::Flood)),
            ("half_open", "half-open frames", self.did(Deed::HalfOpen)),
            (
                "not_read",
                "peers that read nothing",
                self.did(Deed::NotRead),
            ),
            (
                "garbage",
                "peers that sent garbage",
                self.did(Deed::Garbage),
            ),
            (
                "calls",
                "calls whose end was told",
                self.calls().count() as u64,
            ),
            ("ok", "ok", self.ended(Outcome::Ok)),
            (
                "not_executed",
                "not executed",
                self.ended(Outcome::NotExecuted),
            ),
            ("failed", "failed", self.ended(Outcome::Failed)),
            ("unknown", "unknown", self.ended(Outcome::Unknown)),
            ("retried", "sent more than once", self.retried()),
            ("effects", "effects in all ledgers", self.effects),
        ]
    }

    /// The same with its units, for people.
    fn figures(&self) -> Vec<(&'static str, String)> {
        let counts = self.counts().map(|(_, name, n)| (name, thousands(n)));
        let mut figures = counts.to_vec();
        figures.push(("longest call", duration(self.longest_us() as f64)));
        figures.push(("violations", thousands(self.violations.len() as u64)));
        figures
    }

    /// The server's, and that of each kind of client.
    fn commands(&self) -> [String; 4] {
        let client = |number| {
            let own = self.plan.own_flags(number);
            format!(
                "counter-client {} {}",
                self.plan.client.join(" "),
                own.join(" ")
            )
        };
        let server = format!("counter-server {}", self.plan.server.join(" "));
        [server, client(0), client(2), client(3)]
    }

    fn text(&self, page: &Path) -> String {
        let mut table = report::terminal::table(&["", "found"]);
        for (name, value) in self.figures() {
            table.add_row([name.to_owned(), value]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        format!(
            "{}\n{table}\n{} s, {} clients at a time, seed {}. A picture: {}",
            self.commands().join("\n"),
            self.plan.seconds,
            self.plan.clients,
            self.plan.seed,
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Value {
        let counts = self
            .counts()
            .map(|(name, _, n)| (name.to_owned(), json!(n)));
        let mut object = json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "seconds": self.plan.seconds,
            "seed": self.plan.seed,
            "clients": self.plan.clients,
            "violations": self.violations.len(),
            "longest_call_us": self.longest_us(),
            "commands": self.commands(),
            "page": page,
        });
        if let Some(members) = object.as_object_mut() {
            members.extend(counts);
        }
        object
    }
}
