//! `cargo xtask memory`: what the server keeps in memory at full speed, and how fast that is, with
//! plain ids and with sessions.

pub(crate) mod chart;
pub(crate) mod measure;
mod page;

pub(crate) use page::WHY;

use std::{path::Path, time::Duration};

use anyhow::Result;
use serde_json::json;

use self::measure::Curve;
use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{
        flags::{ROUNDS, whole},
        mode::Mode,
        progress,
    },
    report::{
        scale::{median, memory, rate, thousands},
        terminal,
    },
};

/// How often the memory is sampled.
const PAUSE: Duration = Duration::from_millis(50);
/// With sessions the server may have at most this much more memory after the last call than after
/// the first tenth of them...
const GROWTH: f64 = 1.1;
/// ...if that is a million calls at least: a program's first steps always take some.
const JUDGED_FROM: u64 = 10_000_000;

/// How many rounds it takes for the speeds to be compared in per cent.
const COMPARED_FROM: usize = 3;

/// The flags of the memory measurement.
#[derive(clap::Args)]
pub(crate) struct Memory {
    /// How many calls each run makes
    #[arg(long, default_value_t = 10_000_000, value_parser = whole(10_000..=1_000_000_000), allow_negative_numbers = true)]
    calls: u64,
    /// How often each way of naming calls is run, by turns
    #[arg(long, default_value_t = 3, value_parser = whole(ROUNDS), allow_negative_numbers = true)]
    rounds: u64,
}

/// All runs.
pub(crate) struct MemoryResults {
    calls: u64,
    /// Both ways by turns, round by round.
    curves: Vec<Curve>,
}

impl Experiment for Memory {
    const NAME: &'static str = "memory";

    type Results = MemoryResults;

    /// Both ways by turns.
    fn run(&self, lab: &Lab<'_>) -> Result<MemoryResults> {
        let programs = lab.programs()?;
        let bar = progress::bar(self.rounds * 2, "{pos}/{len} runs, {msg}");
        let mut curves = Vec::new();
        for round in 1..=self.rounds {
            for ids in measure::MODES {
                bar.set_message(format!("{}, round {round}", ids.text()));
                bar.tick();
                curves.push(measure::measure(&programs, ids, self.calls, PAUSE)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(MemoryResults {
            calls: self.calls,
            curves,
        })
    }
}

impl MemoryResults {
    /// How many calls are the first tenth.
    fn early(&self) -> u64 {
        self.calls / 10
    }

    fn of(&self, ids: Mode) -> impl Iterator<Item = &Curve> {
        self.curves.iter().filter(move |curve| curve.ids == ids)
    }

    /// Calls per second, in the middle of all rounds.
    fn median_calls_per_s(&self, ids: Mode) -> f64 {
        median(self.of(ids).map(|curve| curve.summary.calls_per_s())).unwrap_or(0.0)
    }

    fn problem(&self) -> Option<String> {
        let growth = self
            .of(Mode::Session)
            .map(|curve| curve.growth(self.early()).1);
        let most = growth.fold(0.0, f64::max);
        (self.calls >= JUDGED_FROM && most >= GROWTH).then(|| {
            format!(
                "with a session the server's memory grew to {most:.2} times what it was after {} \
                 calls; expected less than {GROWTH}",
                thousands(self.early())
            )
        })
    }

    fn headings(&self) -> [String; 6] {
        [
            "ids".to_owned(),
            "round".to_owned(),
            "calls/s".to_owned(),
            format!("after\n{} calls", thousands(self.early())),
            format!("after\n{}", thousands(self.calls)),
            "ratio".to_owned(),
        ]
    }

    fn rows(&self) -> impl Iterator<Item = [String; 6]> {
        self.curves.iter().enumerate().map(|(index, curve)| {
            let (last, ratio) = curve.growth(self.early());
            [
                curve.ids.name().to_owned(),
                (index / 2 + 1).to_string(),
                rate(curve.summary.calls_per_s()),
                memory(curve.rss_kib_after(self.early())),
                memory(last),
                format!("{ratio:.2}"),
            ]
        })
    }

    fn speeds(&self) -> String {
        let [plain, session] = measure::MODES.map(|ids| self.median_calls_per_s(ids));
        let rounds = self.of(Mode::Session).count();
        let compared = match rounds {
            COMPARED_FROM.. => format!("{:+.1} %", (session / plain - 1.0) * 100.0),
            _ => format!(
                "no percentage, since the speed varies from one run to the next: it takes \
                 {COMPARED_FROM} rounds or more"
            ),
        };
        format!(
            "{}: {} with plain ids, {} with a session ({compared}).",
            if rounds == 1 {
                "Calls/s"
            } else {
                "Median calls/s"
            },
            rate(plain),
            rate(session),
        )
    }
}

impl Report for MemoryResults {
    fn text(&self, page: &Path) -> String {
        let table = terminal::of(&self.headings(), self.rows(), 1);
        format!(
            "counter-server {}\n{table}\n{}\nCurves: {}",
            measure::server_flags(self.calls).join(" "),
            self.speeds(),
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Result<String> {
        let runs = self.curves.iter().map(|curve| {
            let (last, ratio) = curve.growth(self.early());
            json!({
                "ids": curve.ids,
                "calls_per_s": curve.summary.calls_per_s(),
                "rss_kib_early": curve.rss_kib_after(self.early()),
                "rss_kib_last": last,
                "ratio": ratio,
                "samples": curve.samples,
            })
        });
        let json = json!({
            "passed": self.problem().is_none(),
            "calls": self.calls,
            "early": self.early(),
            "median_calls_per_s": {
                "plain": self.median_calls_per_s(Mode::Plain),
                "session": self.median_calls_per_s(Mode::Session),
            },
            "server": measure::server_flags(self.calls),
            "page": page,
            "runs": runs.collect::<Vec<_>>(),
        });
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(self))
    }

    fn problems(&self) -> Vec<String> {
        self.problem().into_iter().collect()
    }
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    use crate::{harness::events::Summary, memory::measure::MemorySample};

    let curve = |ids| Curve {
        ids,
        summary: Summary {
            calls: JUDGED_FROM,
            elapsed_s: 43.0,
            ..Summary::default()
        },
        samples: (0..=100)
            .map(|n| MemorySample {
                at_s: n as f64 * 0.43,
                calls: n * JUDGED_FROM / 100,
                rss_kib: match ids {
                    Mode::Plain => 4_000 + (n * 20_000).min(900_000),
                    _ => 4_000 + n % 7 * 90,
                },
            })
            .collect(),
    };
    page::html(&MemoryResults {
        calls: JUDGED_FROM,
        curves: [measure::MODES, measure::MODES]
            .concat()
            .into_iter()
            .map(curve)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{harness::events::Summary, memory::measure::MemorySample};

    /// A session's run that ends with this much memory, after 100 MiB early on.
    fn measured(calls: u64, last_kib: u64) -> MemoryResults {
        let sample = |calls, rss_kib| MemorySample {
            at_s: 0.0,
            calls,
            rss_kib,
        };
        let curve = |ids| Curve {
            ids,
            summary: Summary {
                calls,
                elapsed_s: 2.0,
                ..Summary::default()
            },
            samples: vec![sample(calls / 10, 100 << 10), sample(calls, last_kib)],
        };
        MemoryResults {
            calls,
            curves: measure::MODES.map(curve).into(),
        }
    }

    #[test]
    fn growth_is_judged_with_sessions_and_over_many_calls_only() {
        assert_eq!(measured(JUDGED_FROM, 109 << 10).problem(), None);
        let problem = measured(JUDGED_FROM, 111 << 10).problem().unwrap();
        assert!(problem.contains("1.11 times"), "{problem}");
        assert_eq!(measured(JUDGED_FROM - 1, 200 << 10).problem(), None);
        let mut plain_alone = measured(JUDGED_FROM, 200 << 10);
        plain_alone.curves.truncate(1);
        assert_eq!(plain_alone.problem(), None);
    }

    #[test]
    fn speeds_are_compared_over_three_rounds_and_more() {
        let mut measured = measured(JUDGED_FROM, 100 << 10);
        for rounds in 1..=4 {
            let text = measured.speeds();
            assert_eq!(text.contains("+0.0 %"), rounds >= 3, "{text}");
            assert_eq!(text.contains("no percentage"), rounds < 3, "{text}");
            assert_eq!(text.contains("Median"), rounds > 1, "{text}");
            assert!(text.contains("5,000,000 with plain ids"), "{text}");
            measured
                .curves
                .extend(super::tests::measured(JUDGED_FROM, 1).curves);
        }
    }

    #[test]
    fn the_page_is_whole() {
        let page = page::html(&measured(JUDGED_FROM, 150 << 10));
        for needle in ["5,000,000", "150.0 MiB", "1.50", "<p class=\"problem\">"] {
            assert!(page.contains(needle), "{needle}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }
}
