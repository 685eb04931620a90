//! The results of a run: what its clients wrote down, judged by its ledgers.

use super::{
    check::{self, History, Violation},
    lives::{Outage, Remains},
};
use crate::harness::events::{Call, Outcome};

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

    /// The violations in words: each of the first few, and how many there are beside them.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> + '_ {
        const SHOWN: usize = 10;
        let first = self.violations.iter().take(SHOWN).map(ToString::to_string);
        let others = self.violations.len().saturating_sub(SHOWN);
        first.chain((others > 0).then(|| format!("and {others} more")))
    }
}
