//! Replies of which some are very late, and a second request on another connection for those.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    demo::verdict::EffectCheck,
    harness::{
        command_line::{words, words_and},
        events::{self, Summary},
        programs::Programs,
        wire,
    },
    report::{
        scale::{duration, reached, thousands},
        series::Series,
    },
};

/// The counter of these calls.
const KEY: &str = "hedged";
/// How long a client may take.
const CLIENT: Duration = Duration::from_secs(60);
/// The delays of the replies, in words: a hundredth of 1 ms to the power of 1.2 and so on.
pub(crate) const TAIL: &str = "half under 1.8 ms, a hundredth over 46 ms";
const SERVER: &str = "--reply-delay-pareto 1:1.2";
const CLIENTS: &str = "--concurrency 8 --connections 2 --attempt-timeout-ms 1000 --max-attempts 10";

/// What the columns are called.
pub(crate) const HEADINGS: [&str; 9] = [
    "second\nrequest",
    "verdict",
    "calls",
    "ok",
    "extra\nattempts",
    "p50",
    "p99",
    "p99.9",
    "effects\nfound",
];

/// When a call is sent a second time.
#[derive(Debug)]
pub(crate) struct HedgePolicy {
    pub(crate) name: &'static str,
    /// What is drawn of it.
    pub(crate) series: Series,
    flags: &'static str,
}

/// Never, and once it has taken longer than most.
pub(crate) const POLICIES: [HedgePolicy; 2] = [
    HedgePolicy {
        name: "none",
        series: Series::Unhedged,
        flags: "",
    },
    HedgePolicy {
        name: "after the p95",
        series: Series::Hedged,
        flags: "--hedge p95",
    },
];

/// The results of one policy.
pub(crate) struct Hedged {
    pub(crate) policy: &'static HedgePolicy,
    pub(crate) summary: Summary,
    /// How long the calls took that were ok, in microseconds, sorted.
    pub(crate) sorted_us: Vec<f64>,
    pub(crate) effects: u64,
}

/// Runs it. The client's file is left in `folder`.
pub(crate) fn watch(
    programs: &Programs,
    folder: &Path,
    policy: &'static HedgePolicy,
    calls: u64,
    seed: u64,
) -> Result<Hedged> {
    let server = programs.server(&words(&format!("{SERVER} --seed {seed}")))?;
    let file = folder.join(format!("hedged-{}.jsonl", policy.series.class()));
    let flags = words_and(
        &format!("{CLIENTS} {} --key {KEY} --json", policy.flags),
        [
            ("--calls", calls.to_string()),
            ("--connect", server.address.to_string()),
            ("--events", file.display().to_string()),
        ],
    );
    let summary = programs.client(&flags, CLIENT)?;
    ensure!(summary.calls == calls, "{} of {calls} calls", summary.calls);
    let value = wire::settled_value(server.address, KEY, Duration::from_millis(100))?;
    // A server that is asked to stop first sends its slowest reply, which no client waits for.
    server.kill()?;
    Ok(Hedged {
        policy,
        summary,
        sorted_us: events::sorted_us(&events::read(&file)?),
        effects: u64::try_from(value).with_context(|| format!("a counter below zero: {value}"))?,
    })
}

impl Hedged {
    fn verdict(&self) -> EffectCheck {
        EffectCheck::of(&self.summary, self.effects)
    }

    pub(crate) fn problem(&self) -> Option<String> {
        let (name, verdict) = (self.policy.name, self.verdict());
        (verdict != EffectCheck::Exact)
            .then(|| format!("slow replies, second request {name}: {}", verdict.text()))
    }

    /// Attempts beyond the first of each call, per call.
    fn extra(&self) -> f64 {
        self.summary.attempts_per_call() - 1.0
    }

    /// Within how long this share of all calls was ok.
    pub(crate) fn percentile(&self, share: f64) -> String {
        let calls = self.summary.calls as usize;
        reached(&self.sorted_us, calls, share).map_or_else(|| "-".to_owned(), duration)
    }

    pub(crate) fn row(&self) -> [String; 9] {
        let summary = &self.summary;
        [
            self.policy.name.to_owned(),
            self.verdict().text(),
            thousands(summary.calls),
            thousands(summary.ok),
            format!("{:.1} %", self.extra() * 100.0),
            self.percentile(0.5),
            self.percentile(0.99),
            self.percentile(0.999),
            thousands(self.effects),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "second_request": self.policy.name,
            "client": self.summary,
            "extra_attempts": self.extra(),
            "effects_found": self.effects,
            "judged": self.verdict(),
            "server": SERVER,
            "flags": format!("{CLIENTS} {}", self.policy.flags),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn hedged(policy: &'static HedgePolicy, effects: u64) -> Hedged {
        Hedged {
            policy,
            summary: Summary {
                calls: 4,
                ok: 4,
                attempts_total: 5,
                ..Summary::default()
            },
            sorted_us: vec![1000.0, 1100.0, 2000.0, 90_000.0],
            effects,
        }
    }

    #[test]
    fn an_effect_too_many_is_a_problem() {
        assert_eq!(hedged(&POLICIES[1], 4).problem(), None);
        let problem = hedged(&POLICIES[1], 5).problem().unwrap();
        assert!(problem.contains("after the p95: 1 too many"), "{problem}");
        assert_eq!(hedged(&POLICIES[1], 4).row()[4], "25.0 %");
    }
}
