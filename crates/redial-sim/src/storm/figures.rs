//! What a storm is judged by: figures, and what is wanted of them.

use std::{ops::Range, time::Duration};

use serde::Serialize;

use super::{
    ground::Ground,
    recorder::{CallRecord, Cohort},
};

/// As many calls in parts of those that begin have to end well for full goodput.
const FULL: f64 = 0.95;

/// How long the windows are in which that is looked at: long enough for chance to even out.
const WINDOW: Duration = Duration::from_secs(3);

/// How long the beginning of a window is, in which half as many have to end well: what is caught up on later would
/// hide that nothing did at first.
const BEGINNING: Duration = Duration::from_millis(300);

/// One figure, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// `None` for what never came.
    pub value: Option<f64>,
    /// What is wanted of it, if anything is.
    pub wanted: Option<Bound>,
    /// Whether that is so.
    pub holds: bool,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// A part of 1, shown in per cent.
    Share,
    /// So many times something else.
    Times,
    /// So many.
    Count,
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// This, or less.
    AtMost(f64),
    /// This, or more.
    AtLeast(f64),
}

impl Figure {
    /// A figure of which this is wanted.
    pub(crate) fn wanted(
        name: &'static str,
        unit: Unit,
        value: Option<f64>,
        wanted: Bound,
    ) -> Self {
        Self {
            name,
            unit,
            value,
            wanted: Some(wanted),
            holds: value.is_some_and(|value| wanted.holds(value)),
        }
    }

    /// A figure that is only told.
    pub(crate) fn told(name: &'static str, unit: Unit, value: Option<f64>) -> Self {
        Self {
            name,
            unit,
            value,
            wanted: None,
            holds: true,
        }
    }
}

impl Bound {
    /// Whether a value is within it.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// The calls of a storm, as figures ask for them.
pub(crate) struct CallRecords(Vec<CallRecord>);

impl CallRecords {
    /// All that have ended, in the order in which they began.
    pub(crate) fn of(ground: &Ground) -> Self {
        let mut calls = ground.recorder.calls().clone();
        calls.sort_by_key(|call| call.begun);
        Self(calls)
    }

    /// Those of the watched that began within this time.
    pub(crate) fn begun(&self, within: &Range<Duration>) -> impl Iterator<Item = &CallRecord> {
        let watched = self.0.iter().filter(|call| call.cohort == Cohort::Watched);
        watched.filter(|call| within.contains(&call.begun))
    }

    /// What share of the watched calls ended well that began within this time.
    pub(crate) fn good(&self, within: &Range<Duration>) -> Option<f64> {
        share(self.begun(within), |call| call.is_good)
    }

    /// How many calls of all ended well in a second of this time.
    pub(crate) fn goodput(&self, within: &Range<Duration>) -> f64 {
        let calls = self.0.iter();
        let good = calls.filter(|call| call.is_good && within.contains(&call.ended));
        good.count() as f64 / (within.end - within.start).as_secs_f64()
    }

    /// So slow were the calls, of those that gave a value, that began within this time.
    pub(crate) fn slowest(&self, within: &Range<Duration>, part: f64) -> Option<Duration> {
        let ok = self.begun(within).filter(|call| call.is_good);
        let mut took: Vec<_> = ok.map(|call| call.ended - call.begun).collect();
        took.sort_unstable();
        percentile(&took, part)
    }

    /// So slow were the attempts that gave the value of a call, of those that ended within this time.
    pub(crate) fn slowest_admitted(&self, within: &Range<Duration>, part: f64) -> Option<Duration> {
        let ok = self.0.iter().filter(|call| call.is_good);
        let ok = ok.filter(|call| within.contains(&call.ended));
        let mut took: Vec<_> = ok.map(|call| call.last_attempt).collect();
        took.sort_unstable();
        percentile(&took, part)
    }

    /// How many attempts there were beyond the first, for each call that began within this time.
    pub(crate) fn retries(&self, within: &Range<Duration>) -> Option<f64> {
        let calls: Vec<_> = self.begun(within).collect();
        let retries: usize = calls.iter().map(|call| call.retries.len()).sum();
        (!calls.is_empty()).then(|| retries as f64 / calls.len() as f64)
    }

    /// How long after a moment calls end well as fast as they begin, or as the server can, so many a second; and
    /// do so until `end`.
    pub(crate) fn back_after(&self, moment: Duration, end: Duration, capacity: f64) -> Option<f64> {
        let mut windows = Vec::new();
        let mut from = moment;
        while from + WINDOW <= end {
            let window = from..from + WINDOW;
            let begun = self.begun(&window).count() as f64 / WINDOW.as_secs_f64();
            let full = begun.min(capacity);
            let beginning = from..from + BEGINNING;
            let is_full =
                self.goodput(&window) >= FULL * full && self.goodput(&beginning) >= full / 2.0;
            windows.push((from, is_full));
            from += WINDOW / 30;
        }
        let down = windows.iter().rposition(|(_, is_full)| !is_full);
        let back = down.map_or(0, |down| down + 1);
        windows
            .get(back)
            .map(|(from, _)| (*from - moment).as_secs_f64())
    }
}

/// What share of these is so.
pub(crate) fn share<'a>(
    calls: impl Iterator<Item = &'a CallRecord>,
    is_so: impl Fn(&CallRecord) -> bool,
) -> Option<f64> {
    let (mut all, mut so) = (0_u64, 0_u64);
    for call in calls {
        all += 1;
        so += u64::from(is_so(call));
    }
    (all > 0).then(|| so as f64 / all as f64)
}

/// The smallest value that at least this part of the sorted values do not exceed.
pub(crate) fn percentile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let rank = (part * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

pub(crate) fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() * 1e3)
}

/// How many times `than` is.
pub(crate) fn times(time: Option<Duration>, than: Option<Duration>) -> Option<f64> {
    Some(time?.as_secs_f64() / than?.as_secs_f64().max(1e-6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    fn calls(ok: impl Fn(f64) -> bool) -> CallRecords {
        let call = |n: u32| {
            let begun = f64::from(n) * 0.01;
            CallRecord {
                call: n,
                cohort: Cohort::Watched,
                begun: secs(begun),
                ended: secs(begun + 0.1),
                is_good: ok(begun),
                last_attempt: secs(0.1),
                retries: Vec::new(),
            }
        };
        CallRecords((0..3000).map(call).collect())
    }

    /// A server that is up in between counted as up for good.
    #[test]
    fn a_server_is_back_from_the_last_time_that_it_was_down() {
        let back = |ok: fn(f64) -> bool| calls(ok).back_after(secs(10.0), secs(28.0), 1e9);
        assert_eq!(back(|_| true), Some(0.0));
        let two = back(|at| at > 12.0).expect("it is back");
        assert!((1.7..2.1).contains(&two), "{two}");
        let six = back(|at| !(15.0..16.0).contains(&at)).expect("it is back");
        assert!((5.7..6.1).contains(&six), "{six}");
        assert_eq!(back(|at| at < 27.0), None);
    }

    /// Kind of fault: a number that is too good. Instance: what is caught up on hides that nothing ended at first.
    #[test]
    fn what_is_caught_up_on_later_hides_no_outage() {
        let mut held = calls(|_| true);
        for call in &mut held.0 {
            // What began in half a second ends late, together with what comes then.
            if (10.0..10.5).contains(&call.begun.as_secs_f64()) {
                call.ended += secs(1.0);
            }
        }
        let back = held.back_after(secs(10.0), secs(28.0), 1e9);
        let back = back.expect("it is back");
        assert!((0.3..0.6).contains(&back), "{back}");
    }

    #[test]
    fn percentiles_are_values_that_were_there() {
        let values: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 0.99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&values[..1], 0.5), Some(values[0]));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn what_never_came_does_not_hold() {
        let wanted = Bound::AtMost(2.0);
        assert!(!Figure::wanted("x", Unit::Seconds, None, wanted).holds);
        assert!(Figure::wanted("x", Unit::Seconds, Some(2.0), wanted).holds);
        assert!(!Figure::wanted("x", Unit::Share, Some(0.9), Bound::AtLeast(0.95)).holds);
    }
}
