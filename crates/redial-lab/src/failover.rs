//! `cargo xtask failover`: the machine of the database is lost under load, again and again, and its
//! synchronous standby goes on; whether each call still took effect once, and how long calls waited.

mod drive;
mod page;
mod waits;

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use self::waits::{Failover, Waited};
use crate::{
    crash::results::CrashResults,
    experiment::{Experiment, Lab, Report},
    harness::{
        flags::{SEEDS, whole},
        progress,
    },
    report::{
        scale::{duration, thousands},
        terminal,
    },
};

/// The flags of the fail-overs.
#[derive(clap::Args)]
pub(crate) struct FailoverFlags {
    /// How often the primary is lost and its standby promoted
    #[arg(long, default_value_t = 20, value_parser = whole(1..=1000), allow_negative_numbers = true)]
    failovers: u64,
    /// How many clients call meanwhile, four calls at once each
    #[arg(long, default_value_t = 8, value_parser = whole(1..=64), allow_negative_numbers = true)]
    clients: u64,
    /// Decides when the primary is lost, and the servers' own faults
    #[arg(long, default_value_t = 1, value_parser = whole(SEEDS), allow_negative_numbers = true)]
    seed: u64,
    /// What a commit waits for; without the standby the experiment is expected to fail
    #[arg(long, value_enum, default_value_t = Commits::Synchronous)]
    commits: Commits,
}

/// What a commit of the database's waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Commits {
    /// Until the standby has it on its disk (synchronous_commit=on, synchronous_standby_names)
    Synchronous,
    /// For the primary's own disk alone: what the standby does not have yet is lost with it
    Asynchronous,
}

/// What came of it; `None` where there is no PostgreSQL.
pub(crate) struct FailoverOutcome(Option<Box<FailoverResults>>);

/// What came of it where there is one.
pub(crate) struct FailoverResults {
    clients: u64,
    seed: u64,
    commits: Commits,
    /// In their order, each with how long calls waited for it.
    failovers: Vec<(Failover, Waited)>,
    crash: CrashResults,
}

impl Experiment for FailoverFlags {
    const NAME: &'static str = "failover";
    const RUNS_ALONE: bool = true;

    type Results = FailoverOutcome;

    fn run(&self, lab: &Lab<'_>) -> Result<FailoverOutcome> {
        let programs = lab.programs()?;
        let folder = lab.empty_folder(Self::NAME)?;
        eprintln!("{} fail-overs, seed {}", self.failovers, self.seed);
        let bar = progress::bar(self.failovers, "{pos}/{len} fail-overs");
        let results = drive::drive(&programs, &folder, self, &bar)
            .with_context(|| format!("with --seed {}", self.seed))?;
        bar.finish_and_clear();
        Ok(FailoverOutcome(results.map(Box::new)))
    }
}

impl Report for FailoverOutcome {
    fn text(&self, page: &Path) -> String {
        match &self.0 {
            Some(results) => results.text(page),
            None => "skipped: no PostgreSQL".to_owned(),
        }
    }

    fn json(&self, page: &Path) -> Result<String> {
        match &self.0 {
            Some(results) => results.json(page),
            None => Ok(json!({ "skipped": "no PostgreSQL" }).to_string()),
        }
    }

    fn html(&self) -> Option<String> {
        self.0.as_ref().map(|results| page::html(results))
    }

    fn problems(&self) -> Vec<String> {
        let results = self.0.as_ref();
        results.map_or_else(Vec::new, |results| results.problems())
    }
}

/// What the columns are called.
const HEADINGS: [&str; 9] = [
    "",
    "standby\nbefore",
    "standby\nafter",
    "commits\nheld",
    "promoted",
    "first\nanswer",
    "calls\nwaited",
    "half of\nthem",
    "longest",
];

impl FailoverResults {
    fn rows(&self) -> impl Iterator<Item = [String; 9]> {
        let rows = self.failovers.iter().enumerate();
        rows.map(|(index, (failover, waited))| {
            let time =
                |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| duration(us as f64));
            [
                (index + 1).to_string(),
                failover.before().to_owned(),
                failover.after().to_owned(),
                thousands(failover.held),
                time(Some(failover.promoted_us - failover.killed_us)),
                time(waited.first_us),
                thousands(waited.calls),
                time(waited.median_us),
                time(waited.longest_us),
            ]
        })
    }

    fn figures(&self) -> Vec<(&'static str, String)> {
        let mut figures = vec![("fail-overs", thousands(self.failovers.len() as u64))];
        figures.extend(self.crash.figures());
        figures
    }

    fn commands(&self) -> [String; 2] {
        let url = "postgres://postgres@A,B/postgres?target_session_attrs=read-write";
        let server = drive::server_flags(url).join(" ");
        [
            format!("counter-server {server}"),
            format!("counter-client {}", drive::client_flags(2, self.seed)),
        ]
    }

    fn text(&self, page: &Path) -> String {
        let table = terminal::of(&HEADINGS, self.rows(), 3);
        format!(
            "{}\n{table}\n{}\n{} servers, {} clients, seed {}. A picture: {}",
            self.commands().join("\n"),
            terminal::figures(self.figures()),
            drive::SERVERS,
            self.clients,
            self.seed,
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Result<String> {
        let failovers = self.failovers.iter().map(|(failover, waited)| {
            let mut json = serde_json::to_value(failover)?;
            json["waited"] = serde_json::to_value(waited)?;
            Ok(json)
        });
        let json = self.crash.json(json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "seed": self.seed,
            "clients": self.clients,
            "commits": self.commits,
            "failovers": failovers.collect::<Result<Vec<Value>>>()?,
            "commands": self.commands(),
            "page": page,
        }));
        Ok(json.to_string())
    }

    fn problems(&self) -> Vec<String> {
        let idle = self
            .failovers
            .iter()
            .filter(|(_, waited)| waited.calls == 0);
        let idle = match idle.count() {
            0 => None,
            idle => Some(format!(
                "{idle} fail-overs had no call to lose, so they tested nothing"
            )),
        };
        let frozen = || {
            self.failovers
                .iter()
                .filter(|(failover, _)| failover.is_standby_frozen)
        };
        let held = frozen().map(|(failover, _)| failover.held).sum::<u64>();
        let is_synchronous = self.commits == Commits::Synchronous;
        let hasty = (is_synchronous && held == 0 && frozen().count() > 0)
            .then(|| "no commit waited for a standby that stood still".to_owned());
        let empty = (self.crash.counts().ok == 0).then(|| "no call was ok".to_owned());
        let own = [idle, hasty, empty].into_iter().flatten();
        own.chain(self.crash.problems()).collect()
    }
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    let crash = CrashResults::sample();
    let failovers = crash.outages.iter().zip(0..).map(|(outage, n)| {
        let failover = Failover {
            is_standby_frozen: n % 2 == 0,
            is_alone: n % 3 == 0,
            held: n * 7,
            killed_us: outage.from_us,
            promoted_us: outage.to_us,
            standby_us: outage.to_us + 100_000,
        };
        (failover, failover.waited(crash.calls()))
    });
    let results = FailoverResults {
        clients: 8,
        seed: 1,
        commits: Commits::Synchronous,
        failovers: failovers.collect(),
        crash,
    };
    page::html(&results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crash::{
            check::{ClientEnd, History},
            effects::Effects,
            lives::Remains,
        },
        harness::events::{Call, Outcome as Ended},
    };

    fn results(held: u64) -> FailoverResults {
        let failover = Failover {
            is_standby_frozen: true,
            is_alone: false,
            held,
            killed_us: 1_000_000,
            promoted_us: 1_400_000,
            standby_us: 2_000_000,
        };
        let call = Call {
            number: 0,
            outcome: Ended::Ok,
            start_us: 900_000,
            end_us: 2_100_000,
            value: Some(1),
            error: None,
            attempts: Vec::new(),
        };
        let waited = failover.waited([&call].into_iter());
        let limit = std::time::Duration::from_secs(9);
        let history = History::new("c".to_owned(), vec![call], ClientEnd::Stopped, limit);
        let remains = Remains {
            effects: Effects::default(),
            outages: vec![failover.outage()],
        };
        FailoverResults {
            clients: 1,
            seed: 1,
            commits: Commits::Synchronous,
            failovers: vec![(failover, waited)],
            crash: CrashResults::judge(vec![history], remains),
        }
    }

    #[test]
    fn a_call_that_was_answered_and_is_lost_is_a_problem_and_so_is_a_commit_that_did_not_wait() {
        let problems = results(3).problems();
        assert_eq!(problems, ["c-0: ok, and no effect"]);
        let problems = results(0).problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn the_page_and_the_table_say_how_long_calls_waited() {
        let results = results(3);
        for text in [page::html(&results), results.text(Path::new("x.html"))] {
            for needle in ["400 ms", "1.1 s", "1.2 s"] {
                assert!(text.contains(needle), "{needle}: {text}");
            }
            assert!(!text.contains("NaN"), "{text}");
        }
        let table = terminal::of(&HEADINGS, results.rows(), 3).to_string();
        terminal::tests::assert_fits(&table);
        assert_eq!(table.lines().count(), 6, "no cell is broken: {table}");
        let json = results.json(Path::new("x.html")).unwrap();
        assert!(json.contains("\"longest_us\":1200000"), "{json}");
    }
}
