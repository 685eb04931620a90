//! A server that is killed and started again in the middle of a run, a few times.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    crash::{check::Violation, stored::IncKind},
    harness::{mode::Mode, programs::Programs},
    report::scale::{between, thousands},
    restarts::{
        drive,
        plan::{LOSSES, Load, RestartPlan, STORED},
    },
};

/// How the calls of a run are named, and where its server keeps them.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) ids: Mode,
    /// What `inc` is in the server's store; without one, the calls are kept in its memory.
    store: Option<IncKind>,
}

/// All four ways: what it takes two of them to be wrong is one restart, and one has nothing to leave open.
pub(crate) static WAYS: [Way; 4] = [
    Way {
        name: "session, store",
        ids: Mode::Session,
        store: Some(IncKind::Transaction),
    },
    Way {
        name: "session, memory",
        ids: Mode::Session,
        store: None,
    },
    Way {
        name: "plain ids",
        ids: Mode::Plain,
        store: None,
    },
    Way {
        name: "naively",
        ids: Mode::Naive,
        store: None,
    },
];
/// How often the server is killed in each run.
pub(crate) const KILLS: usize = 4;
const CLIENTS: u64 = 2;

/// What the columns are called.
pub(crate) const HEADINGS: [&str; 7] = [
    "ids, table",
    "doubled",
    "unknown",
    "calls",
    "ok",
    "effects due",
    "effects",
];

/// The results of one run.
pub(crate) struct Restarted {
    pub(crate) way: &'static Way,
    pub(crate) calls: u64,
    pub(crate) kills: usize,
    pub(crate) ok: u64,
    pub(crate) unknown: u64,
    pub(crate) effects: u64,
    /// How many calls took effect more than once.
    pub(crate) doubled: u64,
    violations: Vec<Violation>,
}

/// Runs it. The clients' files, and the ledgers or the store, are left in `folder`.
pub(crate) fn watch(
    programs: &Programs,
    folder: &Path,
    way: &'static Way,
    calls: u64,
    seed: u64,
) -> Result<Restarted> {
    let load = Load {
        calls,
        clients: CLIENTS,
        kills: KILLS,
        seed,
    };
    let (name, trouble) = match way.store {
        Some(_) => ("restart-store".to_owned(), STORED),
        None => (format!("restart-{}", way.ids.name()), LOSSES),
    };
    let folder = &empty(&folder.join(&name))?;
    let plan = RestartPlan {
        store: way.store,
        ..RestartPlan::new(&name, way.ids, trouble, load)
    };
    let crash = drive::drive(programs, folder, &plan, &ProgressBar::hidden())?.crash;
    let counts = crash.counts();
    Ok(Restarted {
        way,
        calls: plan.total(),
        kills: crash.outages.len(),
        ok: counts.ok,
        unknown: counts.unknown,
        effects: crash.effects,
        doubled: crash.doubled(),
        violations: crash.violations,
    })
}

/// An empty folder: a store goes on where the last one on its file has ended.
fn empty(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("can't empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(folder.to_owned())
}

impl Restarted {
    /// Which promise was broken, if any.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.kills < KILLS {
            return Some(format!(
                "restarts, {}: the load ended after {} of {KILLS} kills, so the others tested nothing",
                self.way.name, self.kills
            ));
        }
        let first = self.violations.first()?;
        (self.way.ids == Mode::Session).then(|| {
            format!(
                "restarts, {}: {} violations, the first: {first}",
                self.way.name,
                self.violations.len()
            )
        })
    }

    pub(crate) fn row(&self) -> [String; 7] {
        [
            self.way.name.to_owned(),
            thousands(self.doubled),
            thousands(self.unknown),
            thousands(self.calls),
            thousands(self.ok),
            between(self.ok, self.ok + self.unknown),
            thousands(self.effects),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "ids": self.way.ids,
            "store": self.way.store,
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
    use crate::report::terminal;

    pub(crate) fn restarted(way: &'static Way, doubled: u64) -> Restarted {
        let violation = |n: u64| Violation::Doubled(format!("k-{n}"), vec![1, 2]);
        Restarted {
            way,
            calls: 1000,
            kills: KILLS,
            ok: 990,
            unknown: 10,
            effects: 995 + doubled,
            doubled,
            violations: (0..doubled).map(violation).collect(),
        }
    }

    #[test]
    fn a_doubled_call_is_a_problem_with_a_session_only() {
        let [_, session, plain, naive] = &WAYS;
        assert_eq!(restarted(session, 0).problem(), None);
        assert_eq!(restarted(plain, 5).problem(), None);
        let problem = restarted(session, 2).problem().unwrap();
        assert!(problem.contains("2 violations") && problem.contains("k-0: 2 effects"));
        let few = Restarted {
            kills: 1,
            ..restarted(naive, 0)
        };
        assert!(few.problem().unwrap().contains("1 of 4 kills"));
        assert_eq!(restarted(naive, 7).row()[5], "990 to 1,000");
    }

    #[test]
    fn the_table_fits_into_a_terminal() {
        let rows = WAYS.iter().map(|way| restarted(way, 12_345));
        let rows: Vec<_> = rows
            .map(|run| Restarted {
                calls: 6000,
                ok: 5872,
                unknown: 128,
                ..run
            })
            .collect();
        let text = terminal::of(&HEADINGS, rows.iter().map(Restarted::row), 1).to_string();
        terminal::tests::assert_fits(&text);
        assert_eq!(
            text.lines().count(),
            4 + WAYS.len(),
            "no cell is broken: {text}"
        );
    }
}
