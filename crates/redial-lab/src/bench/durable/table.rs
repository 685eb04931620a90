//! The tables for the terminal, of 80 columns at most.

use std::path::Path;

use super::results::{DurableFigures, DurableMeasurements};
use crate::{
    bench::{goals::Goal, stats::Spread, table::goal_table},
    report::{
        scale::{PERCENTILES, rate},
        terminal::{self, wrap},
    },
};

pub(super) const HEADINGS: [&str; 6] = [
    "in flight",
    "calls/s",
    "of SQLite",
    "appended",
    "p50 / p99 ms",
    "CPU us",
];

pub(super) const LEGEND: &str = "Medians of all rounds. In flight: also the size of a batch where there is no server. Of SQLite: \
     calls/s in those of SQLite in process that does the same job; appended: in those of \
     SQLite that finds no duplicate. CPU: of one core per call, of the server, or of the program itself \
     otherwise.";

pub(super) fn row(row: &DurableFigures) -> [String; 6] {
    let short = |ratio: f64| match ratio {
        9.995.. => format!("{ratio:.1}"),
        _ => format!("{ratio:.2}"),
    };
    [
        format!("{} {}", row.cell.batch, row.cell.what.name()),
        rate(row.calls_per_s.median),
        row.of_sqlite
            .map_or_else(String::new, |it| short(it.median)),
        row.of_appended
            .map_or_else(String::new, |it| short(it.median)),
        [row.p50_us, row.p99_us]
            .map(|us| format!("{:.2}", us / 1e3))
            .join(" / "),
        row.server_cpu
            .map_or_else(String::new, |it: Spread| format!("{:.1}", it.median)),
    ]
}

/// Everything.
pub(super) fn text(results: &DurableMeasurements, goals: &[Goal], page: &Path) -> String {
    let figures = terminal::of(&HEADINGS, results.figures().iter().map(row), 1);
    let wanted = goal_table(goals);
    let noise = results.noise().map(|noise| wrap(&noise) + "\n");
    let noise = noise.unwrap_or_default();
    format!(
        "{figures}\n{}\n{noise}\n{wanted}\nBars: {}",
        wrap(&format!("{LEGEND} {PERCENTILES}")),
        page.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::durable::results::{goals, tests::results};

    #[test]
    fn everything_is_shown_in_eighty_columns() {
        let results = results(&[80e3, 70e3, 60e3]);
        let text = text(&results, &goals(&results), Path::new("bench-durable.html"));
        for needle in [
            "SQLite, unique",
            "0.80",
            "0.40",
            "missed",
            "0.80 / 1.50",
            "12.0",
        ] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
        terminal::tests::assert_fits(&text);
    }
}
