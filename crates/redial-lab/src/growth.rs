//! `cargo xtask growth`: what a table in PostgreSQL takes over ten million calls: its size, dead rows, the
//! write-ahead log and the database's processor time for each call, which have to stay level.

mod drive;
mod page;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{flags::whole, progress},
    report::{
        scale::{memory, rate, thousands},
        terminal,
    },
};

/// The last stages may take at most so many times what the early ones took.
const MOST: f64 = 1.25;
/// Early and last ones, behind the first, in which all of it is made.
const JUDGED: usize = 3;
/// Fewer dead rows than these are level, however many they were before: the vacuum comes when it comes.
const FEW_DEAD: u64 = 50_000;

/// The flags of the experiment.
#[derive(clap::Args)]
pub(crate) struct Growth {
    /// How many stages; the last three are held against the second to the fourth
    #[arg(long, default_value_t = 10, value_parser = whole(1..=1000), allow_negative_numbers = true)]
    stages: u64,
    /// How many calls a stage has
    #[arg(long, default_value_t = 1_000_000, value_parser = whole(1000..=100_000_000), allow_negative_numbers = true)]
    calls: u64,
}

/// What came of it; `None` where there is no PostgreSQL.
pub(crate) struct GrowthOutcome(Option<GrowthResults>);

/// What came of it where there is one.
pub(crate) struct GrowthResults {
    /// How many stages were asked for, and how many calls each was to have.
    asked: (u64, u64),
    stages: Vec<Stage>,
    /// How many calls were made, and how many effects there are.
    counted: (u64, u64),
}

/// The calls of one stage, and what there was at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stage {
    calls: u64,
    seconds: f64,
    /// Of all tables in the schema `redial`, with their indexes.
    size_bytes: u64,
    /// In them, as the database counts them.
    dead_rows: u64,
    /// How many of the changes to rows needed no change to an index (HOT), from 0 to 1.
    in_place: f64,
    /// Of the write-ahead log, in this stage.
    log_bytes: u64,
    /// Of the database's processes, in this stage.
    cpu_s: f64,
    server_rss_kib: u64,
}

impl Stage {
    fn log_per_call(&self) -> f64 {
        self.log_bytes as f64 / self.calls.max(1) as f64
    }

    fn cpu_us_per_call(&self) -> f64 {
        self.cpu_s * 1e6 / self.calls.max(1) as f64
    }
}

impl Experiment for Growth {
    const NAME: &'static str = "growth";
    const RUNS_ALONE: bool = true;

    type Results = GrowthOutcome;

    fn run(&self, lab: &Lab<'_>) -> Result<GrowthOutcome> {
        let programs = lab.programs()?;
        let bar = progress::bar(self.stages, "{pos}/{len} stages");
        let results = drive::drive(&programs, (self.stages, self.calls), &bar)?;
        bar.finish_and_clear();
        Ok(GrowthOutcome(results))
    }
}

impl Report for GrowthOutcome {
    fn text(&self, page: &Path) -> String {
        match &self.0 {
            Some(results) => results.text(page),
            None => "skipped: no PostgreSQL".to_owned(),
        }
    }

    fn json(&self, page: &Path) -> Result<String> {
        match &self.0 {
            Some(results) => Ok(results.json(page)),
            None => Ok(json!({ "skipped": "no PostgreSQL" }).to_string()),
        }
    }

    fn html(&self) -> Option<String> {
        self.0.as_ref().map(page::html)
    }

    fn problems(&self) -> Vec<String> {
        let results = self.0.as_ref();
        results.map_or_else(Vec::new, GrowthResults::problems)
    }
}

/// What the columns are called.
const HEADINGS: [&str; 8] = [
    "calls\nso far",
    "calls/s",
    "table",
    "dead\nrows",
    "changed\nin place",
    "log\nper call",
    "database CPU\nper call",
    "server's\nmemory",
];

impl GrowthResults {
    fn rows(&self) -> impl Iterator<Item = [String; 8]> {
        let mut calls = 0;
        self.stages.iter().map(move |stage| {
            calls += stage.calls;
            [
                thousands(calls),
                rate(stage.calls as f64 / stage.seconds),
                memory(stage.size_bytes / 1024),
                thousands(stage.dead_rows),
                format!("{:.1} %", stage.in_place * 100.0),
                format!("{:.0} B", stage.log_per_call()),
                format!("{:.1} µs", stage.cpu_us_per_call()),
                memory(stage.server_rss_kib),
            ]
        })
    }

    /// How many times what the second to the fourth stage took the last three take, of each figure.
    fn ratios(&self) -> Option<[(&'static str, f64); 4]> {
        let early = self.stages.get(1..=JUDGED)?;
        let last = &self.stages[self.stages.len().checked_sub(JUDGED)?..];
        if self.stages.len() <= 2 * JUDGED {
            return None;
        }
        let mean = |stages: &[Stage], of: fn(&Stage) -> f64| {
            stages.iter().map(of).sum::<f64>() / JUDGED as f64
        };
        let ratio = |of: fn(&Stage) -> f64| mean(last, of) / mean(early, of).max(f64::MIN_POSITIVE);
        let few = FEW_DEAD as f64;
        Some([
            ("the table's size", ratio(|stage| stage.size_bytes as f64)),
            (
                "dead rows",
                mean(last, |stage| stage.dead_rows as f64).max(few)
                    / mean(early, |stage| stage.dead_rows as f64).max(few),
            ),
            ("the log for each call", ratio(Stage::log_per_call)),
            (
                "the database's processor time for each call",
                ratio(Stage::cpu_us_per_call),
            ),
        ])
    }

    fn problems(&self) -> Vec<String> {
        let (made, found) = self.counted;
        let counted = (made != found)
            .then(|| format!("{} calls were made, and there are {} effects", made, found));
        let grown = self.ratios().into_iter().flatten();
        let grown = grown
            .filter(|(_, ratio)| *ratio > MOST)
            .map(|(what, ratio)| {
                format!("{what} grew to {ratio:.2} times what it was; expected at most {MOST}")
            });
        let problems = counted.into_iter().chain(self.merged());
        problems.chain(grown).collect()
    }

    /// Why nothing is judged, where it was to be: a stage that is over before the next look becomes one with that.
    fn merged(&self) -> Option<String> {
        let (asked, calls) = self.asked;
        let is_merged = asked > 2 * JUDGED as u64 && self.ratios().is_none();
        is_merged.then(|| {
            format!(
                "{asked} stages of {} calls passed too quickly to tell more than {} apart, so nothing was judged; \
                 expected more --calls",
                thousands(calls),
                self.stages.len()
            )
        })
    }

    fn judged(&self) -> String {
        let Some(ratios) = self.ratios() else {
            return format!("Not judged: that takes more than {} stages.", 2 * JUDGED);
        };
        let ratios = ratios.map(|(what, ratio)| format!("{what} {ratio:.2}"));
        format!(
            "The last {JUDGED} stages, as multiples of the second to the fourth: {}.",
            ratios.join(", ")
        )
    }

    fn commands(&self) -> [String; 2] {
        let (stages, calls) = self.asked;
        let calls = stages * calls;
        [
            format!(
                "counter-server {}",
                drive::server_flags("postgres://...").join(" ")
            ),
            format!("counter-client {}", drive::client_flags(0, calls).join(" ")),
        ]
    }

    fn text(&self, page: &Path) -> String {
        let table = terminal::of(&HEADINGS, self.rows(), 0);
        format!(
            "{}\n{table}\n{}\nThe same as a page: {}",
            self.commands().join("\n"),
            terminal::wrap(&self.judged()),
            page.display()
        )
    }

    fn json(&self, page: &Path) -> String {
        let ratios = self.ratios().into_iter().flatten();
        let json = json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "stages": self.stages,
            "ratios": ratios.collect::<std::collections::BTreeMap<_, _>>(),
            "calls": self.counted.0,
            "effects": self.counted.1,
            "commands": self.commands(),
            "page": page,
        });
        json.to_string()
    }
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    let stage = Stage {
        calls: 1_000_000,
        seconds: 812.5,
        size_bytes: 2_900_000,
        dead_rows: 12_345,
        in_place: 0.987,
        log_bytes: 480_000_000,
        cpu_s: 55.1,
        server_rss_kib: 11_366,
    };
    page::html(&GrowthResults {
        asked: (10, 1_000_000),
        stages: vec![stage; 10],
        counted: (10_000_000, 10_000_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(last: Stage) -> GrowthResults {
        let level = Stage {
            calls: 1000,
            seconds: 0.5,
            size_bytes: 1 << 20,
            dead_rows: 10,
            in_place: 0.99,
            log_bytes: 400_000,
            cpu_s: 0.1,
            server_rss_kib: 9000,
        };
        let last = Stage {
            calls: 1000,
            seconds: 0.5,
            ..last
        };
        GrowthResults {
            asked: (8, 1000),
            stages: [[level; 4], [last; 4]].concat(),
            counted: (8000, 8000),
        }
    }

    #[test]
    fn what_grows_is_named_and_what_stays_level_is_not() {
        let level = results(Stage::default()).stages[0];
        assert_eq!(results(level).problems(), [""; 0]);
        let swollen = Stage {
            size_bytes: 2 << 20,
            dead_rows: FEW_DEAD,
            ..level
        };
        let problems = results(swollen).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].contains("size grew to 2.00 times"),
            "{problems:?}"
        );
        let slow = Stage {
            cpu_s: 0.2,
            log_bytes: 800_000,
            dead_rows: 9 * FEW_DEAD,
            ..level
        };
        assert_eq!(results(slow).problems().len(), 3);
        let few = GrowthResults {
            asked: (2, 1000),
            stages: vec![level, slow],
            ..results(level)
        };
        assert_eq!(few.problems(), [""; 0]);
        let lost = GrowthResults {
            counted: (8000, 7999),
            ..results(level)
        };
        assert!(lost.problems()[0].contains("7999 effects"));
    }

    /// Kind: a run that judged nothing passes. Instance: stages that are over before they are looked at.
    #[test]
    fn stages_that_became_one_are_no_pass() {
        let level = results(Stage::default()).stages[0];
        let merged = GrowthResults {
            stages: vec![level; 2 * JUDGED],
            ..results(level)
        };
        let problems = merged.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("nothing was judged"), "{problems:?}");
        assert!(
            merged.commands()[1].contains("--calls 2000 "),
            "{:?}",
            merged.commands()
        );
    }

    #[test]
    fn the_page_and_the_table_have_every_stage() {
        let results = results(results(Stage::default()).stages[0]);
        for text in [page::html(&results), results.text(Path::new("x.html"))] {
            for needle in ["8,000", "2,000", "400 B", "100.0 µs", "99.0 %", "1.00"] {
                assert!(text.contains(needle), "{needle}: {text}");
            }
            assert!(!text.contains("NaN"), "{text}");
        }
    }
}
