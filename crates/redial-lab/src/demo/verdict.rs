//! The verdict: are there as many effects as the callers expect?

use serde::Serialize;

use crate::{harness::events::Summary, report::scale::thousands};

/// How the effects of a run compare with what its callers heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "by")]
pub(crate) enum EffectCheck {
    /// Every call that was ok has its effect, and each other effect is that of an unknown call.
    Exact,
    /// So many effects are there beyond those of calls that were ok or unknown.
    TooMany(u64),
    /// So many calls were ok and have no effect.
    Lost(u64),
}

/// How many effects the callers may find, by what they heard: every call that was ok counts once, and
/// each whose outcome is unknown counts or doesn't.
pub(crate) fn expected(summary: &Summary) -> (u64, u64) {
    (summary.ok, summary.ok + summary.unknown)
}

impl EffectCheck {
    /// Judges the effects that were found.
    pub(crate) fn of(summary: &Summary, effects: u64) -> Self {
        let (least, most) = expected(summary);
        if effects > most {
            Self::TooMany(effects - most)
        } else if effects < least {
            Self::Lost(least - effects)
        } else {
            Self::Exact
        }
    }

    /// In words.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::TooMany(n) => format!("{} too many", thousands(n)),
            Self::Lost(n) => format!("{} lost", thousands(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ok: u64, unknown: u64, effects: u64) -> EffectCheck {
        let summary = Summary {
            ok,
            unknown,
            ..Summary::default()
        };
        EffectCheck::of(&summary, effects)
    }

    #[test]
    fn an_unknown_call_may_count_or_not_and_all_others_must_agree() {
        assert_eq!(judged(300, 0, 300), EffectCheck::Exact);
        assert_eq!(judged(297, 3, 297), EffectCheck::Exact);
        assert_eq!(judged(297, 3, 300), EffectCheck::Exact);
        assert_eq!(judged(297, 3, 301), EffectCheck::TooMany(1));
        assert_eq!(judged(297, 3, 296), EffectCheck::Lost(1));
        assert_eq!(judged(0, 0, 0), EffectCheck::Exact);
    }

    #[test]
    fn a_call_that_was_refused_may_not_count() {
        let summary = Summary {
            ok: 9,
            not_executed: 1,
            ..Summary::default()
        };
        assert_eq!(EffectCheck::of(&summary, 10), EffectCheck::TooMany(1));
        assert_eq!(EffectCheck::of(&summary, 10).text(), "1 too many");
    }
}
