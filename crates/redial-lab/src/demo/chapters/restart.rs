//! A server that is killed and started again in the middle of a run, a few times.

use std::path::Path;

use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    crash::check::Violation,
    harness::{mode::Mode, programs::Programs},
    report::scale::{between, thousands},
    restarts::{
        drive,
        plan::{LOSSES, Load, RestartPlan},
    },
};

/// All three ways: what it takes two of them to be wrong is one restart.
pub(crate) const MODES: [Mode; 3] = [Mode::Session, Mode::Plain, Mode::Naive];
/// How often the server is killed in each run.
pub(crate) const KILLS: usize = 4;
const CLIENTS: u64 = 2;

/// What the columns are called.
pub(crate) const HEADINGS: [&str; 7] = [
    "ids",
    "calls",
    "ok",
    "unknown",
    "effects expected",
    "effects found",
    "calls doubled",
];

/// The results of one run.
pub(crate) struct Restarted {
    pub(crate) mode: Mode,
    pub(crate) calls: u64,
    pub(crate) kills: usize,
    pub(crate) ok: u64,
    pub(crate) unknown: u64,
    pub(crate) effects: u64,
    /// How many calls took effect more than once.
    pub(crate) doubled: u64,
    violations: Vec<Violation>,
}

/// Runs it. The clients' files and the ledgers are left in `folder`.
pub(crate) fn watch(
    programs: &Programs,
    folder: &Path,
    mode: Mode,
    calls: u64,
    seed: u64,
) -> Result<Restarted> {
    let load = Load {
        calls,
        clients: CLIENTS,
        kills: KILLS,
        seed,
    };
    let name = format!("restart-{}", mode.name());
    let plan = RestartPlan::new(&name, mode, LOSSES, load);
    let crash = drive::drive(programs, folder, &plan, &ProgressBar::hidden())?.crash;
    let counts = crash.counts();
    Ok(Restarted {
        mode,
        calls: plan.total(),
        kills: crash.outages.len(),
        ok: counts.ok,
        unknown: counts.unknown,
        effects: crash.effects,
        doubled: crash.doubled(),
        violations: crash.violations,
    })
}

impl Restarted {
    /// Which promise was broken, if any.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.kills < KILLS {
            return Some(format!(
                "restarts, {}: the load ended after {} of {KILLS} kills, so the others tested nothing",
                self.mode.text(),
                self.kills
            ));
        }
        let first = self.violations.first()?;
        (self.mode == Mode::Session).then(|| {
            format!(
                "restarts, with a session: {} violations, the first: {first}",
                self.violations.len()
            )
        })
    }

    pub(crate) fn row(&self) -> [String; 7] {
        [
            self.mode.text().to_owned(),
            thousands(self.calls),
            thousands(self.ok),
            thousands(self.unknown),
            between(self.ok, self.ok + self.unknown),
            thousands(self.effects),
            thousands(self.doubled),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "ids": self.mode,
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

    pub(crate) fn restarted(mode: Mode, doubled: u64) -> Restarted {
        let violation = |n: u64| Violation::Doubled(format!("k-{n}"), vec![1, 2]);
        Restarted {
            mode,
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
        assert_eq!(restarted(Mode::Session, 0).problem(), None);
        assert_eq!(restarted(Mode::Plain, 5).problem(), None);
        let problem = restarted(Mode::Session, 2).problem().unwrap();
        assert!(problem.contains("2 violations") && problem.contains("k-0: 2 effects"));
        let few = Restarted {
            kills: 1,
            ..restarted(Mode::Naive, 0)
        };
        assert!(few.problem().unwrap().contains("1 of 4 kills"));
        assert_eq!(restarted(Mode::Naive, 7).row()[4], "990 to 1,000");
    }
}
