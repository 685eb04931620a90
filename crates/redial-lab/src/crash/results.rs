//! The results of a run: what its clients wrote down, judged by its ledgers.

use serde_json::{Map, Value, json};

use super::{
    check::{self, History, Violation},
    lives::{Outage, Remains},
};
use crate::{
    harness::events::{Call, Outcome},
    report::scale::{duration, thousands},
};

/// The clients' histories and the servers' outages, judged.
pub(crate) struct CrashResults {
    pub(crate) outages: Vec<Outage>,
    pub(crate) histories: Vec<History>,
    /// How many effects are in all ledgers.
    pub(crate) effects: u64,
    pub(crate) violations: Vec<Violation>,
}

/// How calls ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallCounts {
    pub(crate) calls: u64,
    pub(crate) ok: u64,
    pub(crate) not_executed: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    /// How long the longest of them took.
    pub(crate) longest_us: u64,
}

impl CrashResults {
    /// Compares what the clients wrote down with the effects.
    pub(crate) fn judge(histories: Vec<History>, remains: Remains) -> Self {
        Self {
            outages: remains.outages,
            effects: remains.effects.count(),
            violations: check::violations(&histories, remains.effects),
            histories,
        }
    }

    /// Every call of which a client lived to write down the end.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> + Clone {
        self.histories.iter().flat_map(|history| &history.calls)
    }

    /// How they ended.
    pub(crate) fn counts(&self) -> CallCounts {
        let mut counts = CallCounts::default();
        for call in self.calls() {
            counts.calls += 1;
            counts.longest_us = counts.longest_us.max(call.took_us());
            *match call.outcome {
                Outcome::Ok => &mut counts.ok,
                Outcome::NotExecuted => &mut counts.not_executed,
                Outcome::Failed => &mut counts.failed,
                Outcome::Unknown => &mut counts.unknown,
            } += 1;
        }
        counts
    }

    /// How many calls were sent more than once.
    pub(crate) fn retried(&self) -> u64 {
        self.histories.iter().map(|history| history.retried).sum()
    }

    /// How many calls ended as interrupted: their server was killed in the middle of them, and said so.
    pub(crate) fn interrupted(&self) -> u64 {
        let is_interrupted = |call: &&Call| call.is_interrupted();
        self.calls().filter(is_interrupted).count() as u64
    }

    /// How many calls had more effects than they may have.
    pub(crate) fn doubled(&self) -> u64 {
        let doubled = |violation: &&Violation| matches!(violation, Violation::Doubled(..));
        self.violations.iter().filter(doubled).count() as u64
    }

    /// How many attempts were sent under ids outside a session.
    pub(crate) fn outside(&self) -> u64 {
        self.histories.iter().map(|history| history.outside).sum()
    }

    /// What came of calls whose effects are in a database, for people.
    pub(crate) fn figures(&self) -> Vec<(&'static str, String)> {
        let calls = self.counts();
        let counts = [
            ("calls whose end was recorded", calls.calls),
            ("ok", calls.ok),
            ("not executed", calls.not_executed),
            ("failed", calls.failed),
            ("unknown", calls.unknown),
            ("sent more than once", self.retried()),
            ("effects in the database", self.effects),
        ];
        let mut figures: Vec<_> = counts.map(|(text, count)| (text, thousands(count))).into();
        figures.push(("longest call", duration(calls.longest_us as f64)));
        let violations = self.violations.len() as u64;
        figures.push(("violations", thousands(violations)));
        figures
    }

    /// The same beside `own` members, for programs.
    pub(crate) fn json(&self, own: Value) -> Value {
        let calls = self.counts();
        let json = json!({
            "calls": calls.calls,
            "ok": calls.ok,
            "not_executed": calls.not_executed,
            "failed": calls.failed,
            "unknown": calls.unknown,
            "retried": self.retried(),
            "effects": self.effects,
            "longest_call_us": calls.longest_us,
            "violations": self.violations.len(),
        });
        let members = [own, json].map(|value| match value {
            Value::Object(members) => members,
            _ => Map::new(),
        });
        members.into_iter().flatten().collect()
    }

    /// The violations in words: each of the first few, and how many there are beside them.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> + '_ {
        const SHOWN: usize = 10;
        let first = self.violations.iter().take(SHOWN).map(ToString::to_string);
        let others = self.violations.len().saturating_sub(SHOWN);
        first.chain((others > 0).then(|| format!("and {others} more")))
    }
}

#[cfg(test)]
impl CrashResults {
    /// A made-up minute: 200 calls a second, of which those that meet a kill take long, and some end badly.
    pub(crate) fn sample() -> Self {
        use std::time::Duration;

        use super::check::ClientEnd;

        let kill_us = |kill: u64| 2_000_000 + kill * 3_000_000;
        let call = |number: u64| {
            let start_us = number * 5_000;
            let waits =
                (0..19).find(|kill| (kill_us(*kill)..kill_us(*kill) + 400_000).contains(&start_us));
            let end_us = waits.map_or(start_us + 900 + number % 7 * 300, |kill| {
                kill_us(kill) + 450_000
            });
            let outcome = match (waits, number % 19) {
                (Some(_), 0) => Outcome::Unknown,
                (Some(_), 1) => Outcome::Failed,
                (Some(_), 2) => Outcome::NotExecuted,
                _ => Outcome::Ok,
            };
            Call {
                number,
                outcome,
                start_us,
                end_us,
                value: None,
                error: None,
                attempts: Vec::new(),
            }
        };
        let calls = (0..12_000).map(call).collect();
        let limit = Duration::from_secs(13);
        let outage = |kill| Outage {
            from_us: kill_us(kill),
            to_us: kill_us(kill) + 400_000,
        };
        Self {
            outages: (0..19).map(outage).collect(),
            histories: vec![History::new(
                "c".to_owned(),
                calls,
                ClientEnd::Stopped,
                limit,
            )],
            effects: 11_893,
            violations: Vec::new(),
        }
    }
}
