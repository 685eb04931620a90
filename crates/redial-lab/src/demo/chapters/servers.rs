//! Three servers on one table in PostgreSQL, of which one is killed every second.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    chaos::shared::{self, SharedPlan},
    crash::{check::Violation, database::rows},
    harness::{mode::Mode, programs::Programs},
    report::scale::{between, thousands},
};

/// How the calls are named.
pub(crate) const IDS: [Mode; 2] = [Mode::Session, Mode::Naive];
/// How long each way goes on.
const SECONDS: u64 = 5;
const CLIENTS: usize = 4;

/// What is said where it can't be shown.
pub(crate) const SKIPPED: &str = "skipped: no PostgreSQL (with `apt-get install postgresql`, or with `initdb` and \
    `postgres` in PATH, it is shown)";

/// What the columns are called.
pub(crate) const HEADINGS: [&str; 8] = [
    "ids",
    "doubled",
    "unknown",
    "kills",
    "calls",
    "ok",
    "effects due",
    "effects",
];

/// The results of one way.
pub(crate) struct Served {
    pub(crate) ids: Mode,
    pub(crate) kills: u64,
    pub(crate) calls: u64,
    pub(crate) ok: u64,
    pub(crate) unknown: u64,
    pub(crate) effects: u64,
    /// How many calls took effect more than once.
    pub(crate) doubled: u64,
    violations: Vec<Violation>,
}

/// Runs both; neither where there is no PostgreSQL. The clients' files are left in `folder`.
pub(crate) fn watch(
    programs: &Programs,
    folder: &Path,
    seed: u64,
    bar: &ProgressBar,
) -> Result<Vec<Served>> {
    bar.set_message("servers that share a table");
    let Some(database) = shared::database()? else {
        bar.inc(IDS.len() as u64);
        return Ok(Vec::new());
    };
    let mut served = Vec::new();
    for ids in IDS {
        bar.set_message(format!("servers that share a table, {}", ids.name()));
        let name = format!("demo_{}", ids.name());
        drop(rows(
            &database.url("postgres"),
            &format!("CREATE DATABASE {name}"),
        )?);
        let folder = folder.join(format!("servers-{}", ids.name()));
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        let plan = SharedPlan {
            seconds: SECONDS,
            clients: CLIENTS,
            seed,
            ids,
            is_calm: true,
        };
        let url = database.url(&name);
        let run = shared::drive(programs, &folder, url, plan, &ProgressBar::hidden());
        let run = run.with_context(|| format!("servers that share a table, {}", ids.text()))?;
        let counts = run.crash.counts();
        served.push(Served {
            ids,
            kills: run.kills,
            calls: counts.calls,
            ok: counts.ok,
            unknown: counts.unknown,
            effects: run.crash.effects,
            doubled: run.crash.doubled(),
            violations: run.crash.violations,
        });
        bar.inc(1);
    }
    Ok(served)
}

impl Served {
    /// Which promise was broken, if any.
    pub(crate) fn problem(&self) -> Option<String> {
        let broken = match (self.kills, self.unknown, self.violations.first()) {
            (0, ..) => "no server was killed, so nothing was tested".to_owned(),
            _ if self.ids != Mode::Session => return None,
            (_, _, Some(first)) => {
                format!("{} violations, the first: {first}", self.violations.len())
            }
            (_, 0, None) => return None,
            (_, unknown, None) => format!("{unknown} calls ended as unknown"),
        };
        Some(format!(
            "servers that share a table, {}: {broken}",
            self.ids.text()
        ))
    }

    pub(crate) fn row(&self) -> [String; 8] {
        [
            self.ids.text().to_owned(),
            thousands(self.doubled),
            thousands(self.unknown),
            thousands(self.kills),
            thousands(self.calls),
            thousands(self.ok),
            between(self.ok, self.ok + self.unknown),
            thousands(self.effects),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "ids": self.ids,
            "kills": self.kills,
            "calls": self.calls,
            "ok": self.ok,
            "unknown": self.unknown,
            "effects_expected": {"least": self.ok, "most": self.ok + self.unknown},
            "effects_found": self.effects,
            "doubled": self.doubled,
            "violations": self.violations.len(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn served(ids: Mode, doubled: u64) -> Served {
        let violation = |n: u64| Violation::Doubled(format!("k-{n}"), vec![1, 1]);
        Served {
            ids,
            kills: 4,
            calls: 3000,
            ok: 3000,
            unknown: 0,
            effects: 3000 + doubled,
            doubled,
            violations: (0..doubled).map(violation).collect(),
        }
    }

    #[test]
    fn what_is_doubled_or_unknown_is_a_problem_with_a_session_only() {
        assert_eq!(served(Mode::Session, 0).problem(), None);
        assert_eq!(served(Mode::Naive, 7).problem(), None);
        let problem = served(Mode::Session, 7).problem().unwrap();
        assert!(problem.contains("7 violations"), "{problem}");
        let unknown = Served {
            unknown: 1,
            ..served(Mode::Session, 0)
        };
        assert!(
            unknown
                .problem()
                .unwrap()
                .contains("1 calls ended as unknown")
        );
        let idle = Served {
            kills: 0,
            ..served(Mode::Naive, 0)
        };
        assert!(idle.problem().unwrap().contains("no server was killed"));
    }
}
