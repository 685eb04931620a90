//! What a run shows while it goes on: on stderr, and only where that is a terminal.

use std::{fmt::Write as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    collect::Collected,
    drive::{Length, Moment},
    schedule::Schedule,
    tally::{Counts, Tally},
};
use crate::numbers::{fit, latency, rate, thousands};

/// How wide a line may be.
const COLUMNS: usize = 79;

/// Over how much time the current rate and percentiles are taken.
const RECENT: Duration = Duration::from_secs(1);

/// How many kinds of errors are shown.
const ERRORS: usize = 3;

/// What the run is meant to come to.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) length: Length,
    /// The rates of an open loop.
    pub(crate) schedule: Option<Schedule>,
}

/// The view. Its percentiles are those of the last full second, and of the whole run.
pub(crate) struct View {
    goal: Goal,
    bar: ProgressBar,
    /// The second that goes on, and since when.
    current: Tally,
    since: Duration,
    /// The second before it, and how long that was.
    recent: Tally,
    took: Duration,
}

impl View {
    pub(crate) fn new(goal: Goal) -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{msg}").expect("the template is right");
        Self {
            goal,
            bar: bar.with_style(style),
            current: Tally::default(),
            since: Duration::ZERO,
            recent: Tally::default(),
            took: Duration::ZERO,
        }
    }

    /// Takes a slice, and shows it.
    pub(crate) fn show(&mut self, collected: &Collected, slice: &Tally, moment: Moment) {
        if self.bar.is_hidden() {
            return;
        }
        self.take(slice, moment.at);
        self.bar.set_message(self.text(&collected.total, moment));
    }

    /// By which the terminal is given back in the end.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    fn take(&mut self, slice: &Tally, at: Duration) {
        self.current.add(slice);
        let took = at.saturating_sub(self.since);
        if took >= RECENT || self.took.is_zero() {
            (self.since, self.took) = (at, took);
            std::mem::swap(&mut self.current, &mut self.recent);
            self.current.clear();
        }
    }

    fn text(&self, total: &Tally, moment: Moment) -> String {
        let mut text = self.progress(&total.counts, moment);
        text += "\n\n               p50      p90      p99    p99.9      max\n";
        let _ = writeln!(text, "{}", percentiles("last second", &self.recent));
        let _ = writeln!(text, "{}", percentiles("all", total));
        let counts = &total.counts;
        let per_call = counts.attempts as f64 / counts.ended().max(1) as f64;
        let _ = write!(
            text,
            "\nok {}   not executed {}   failed {}   unknown {}   attempts {per_call:.3}",
            thousands(counts.ok),
            thousands(counts.not_executed),
            thousands(counts.failed),
            thousands(counts.unknown)
        );
        let mut errors: Vec<_> = total.errors.iter().collect();
        errors.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.count));
        for ((outcome, kind), seen) in errors.into_iter().take(ERRORS) {
            let line = format!("{} x {}, {kind}", thousands(seen.count), outcome.name());
            let _ = write!(text, "\n{}", fit(&line, COLUMNS));
        }
        text
    }

    /// How far it is, how fast it goes, and how fast it should.
    fn progress(&self, counts: &Counts, moment: Moment) -> String {
        let mut text = format!("{:.1} s", moment.at.as_secs_f64());
        if let Some(time) = self.goal.length.time {
            let _ = write!(text, " of {} s", time.as_secs_f64());
        }
        if let Some(calls) = self.goal.length.calls {
            let _ = write!(
                text,
                ", {} of {} calls",
                thousands(counts.started),
                thousands(calls)
            );
        }
        let recent = self.recent.counts.ended() as f64 / self.took.as_secs_f64().max(1e-9);
        let _ = write!(text, "   {} calls/s", rate(recent));
        if let Some(schedule) = &self.goal.schedule {
            let _ = write!(text, " of {}", rate(schedule.rate_at(moment.at)));
        }
        let _ = write!(text, "   {} in flight", thousands(moment.in_flight as u64));
        fit(&text, COLUMNS)
    }
}

fn percentiles(name: &str, tally: &Tally) -> String {
    let mut line = format!("{name:<11}");
    for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
        let cell = if tally.latency.is_empty() {
            "-".to_owned()
        } else {
            latency(tally.latency.value_at_quantile(quantile) as f64 / 1e3)
        };
        let _ = write!(line, " {cell:>8}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{
        summary::tests::collected,
        tally::tests::{MS, ok},
    };

    fn view(schedule: Option<Schedule>) -> View {
        let length = Length {
            calls: None,
            time: Some(Duration::from_secs(86_400)),
        };
        View::new(Goal { length, schedule })
    }

    #[test]
    fn a_stall_shows_in_the_last_second_and_then_only_in_all() {
        let (mut view, mut total) = (view(Some(Schedule::constant(50_000.0))), Tally::default());
        for second in 1..=3u32 {
            let mut slice = Tally::default();
            for _ in 0..1000 {
                slice.start(MS);
                slice.end(if second == 1 { MS * 80 } else { MS }, MS, ok());
            }
            total.add(&slice);
            view.take(&slice, MS * 1000 * second);
            let moment = Moment {
                at: MS * 1000 * second,
                in_flight: 12,
            };
            let text = view.text(&total, moment);
            let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
            let expected = if second == 1 { "80.0 ms" } else { "1.00 ms" };
            assert!(line("last second").ends_with(expected), "{text}");
            assert!(line("all").ends_with("80.0 ms"), "{text}");
            assert!(
                text.contains("1,000 calls/s of 50,000   12 in flight"),
                "{text}"
            );
        }
    }

    #[test]
    fn it_fits_80_columns_and_names_errors() {
        let (collected, _) = collected();
        let moment = Moment {
            at: MS * 86_000_000,
            in_flight: 1_000_000,
        };
        let text = view(None).text(&collected.total, moment);
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        assert!(
            text.contains("1 x unknown, no reply\n1 x not executed, -32001"),
            "{text}"
        );
    }
}
