//! The tables for the terminal.

use std::path::Path;

use comfy_table::Table;

use super::{
    goals::{self, Goal},
    plan::{BUSY, BenchSubject},
    results::{Figures, Measurements},
    stats::Spread,
};
use crate::report::{
    scale::{PERCENTILES, memory, rate},
    terminal::{self, wrap},
};

/// The columns of the figures.
pub(crate) const HEADINGS: [&str; 8] = [
    "connections x calls",
    "calls/s (all rounds)",
    "undisturbed",
    "of the echo",
    "p50 / p99 / p99.9 us",
    "server CPU",
    "client CPU",
    "peak memory",
];

/// What they mean.
pub(crate) const LEGEND: &str = "Medians of all rounds. Undisturbed: calls/s in the best tenth of all slices of 10 ms. CPU: \
    seconds of one core per million calls. Client CPU: of what makes the calls, which is Redial's client in the rows \
    of that name and a generator of load in all others.";

/// What the columns are called in a terminal, where there is no room for all.
const SHORT_HEADINGS: [&str; 7] = [
    "connections x calls",
    "calls/s",
    "of the\necho",
    "p50 / p99\nus",
    "server\nCPU",
    "client\nCPU",
    "peak\nmemory",
];

/// The figures in a terminal, shape by shape.
fn figures(results: &Measurements) -> Table {
    let mut rows = Vec::new();
    let mut shape = None;
    for figures in results.figures() {
        if shape.replace(figures.cell.shape) != Some(figures.cell.shape) {
            let mut heading = [const { String::new() }; 7];
            heading[0] = figures.cell.shape.name();
            rows.push(heading);
        }
        let [_, _, _, of_echo, latencies, server, client, peak] = row(&figures);
        let latencies = latencies
            .rsplit_once(" / ")
            .map_or("", |(two, _)| two)
            .to_owned();
        rows.push([
            format!("  {}", figures.cell.what.name()),
            rate(figures.calls_per_s.median),
            of_echo,
            latencies,
            server,
            client,
            peak,
        ]);
    }
    terminal::of(&SHORT_HEADINGS, rows.into_iter(), 1)
}

/// The goals in a terminal.
pub(crate) fn goal_table(goals: &[Goal]) -> Table {
    let rows = goals.iter().map(|goal| {
        let [text, verdict, wanted, found] = goal.row();
        let wanted = wanted.replace("at least", "≥").replace("at most", "≤");
        [text, verdict, wanted, found]
    });
    terminal::of(&goals::HEADINGS, rows, 1)
}

/// One row of them.
pub(crate) fn row(row: &Figures) -> [String; 8] {
    let text = |it: Option<Spread>| it.map_or_else(String::new, |it| digits(it.median));
    let speed = row.calls_per_s;
    let latencies = [row.p50_us, row.p99_us, row.p999_us].map(digits);
    let peak = row.peak_kib.map(|kib| memory(kib as u64));
    [
        format!("{}  {}", row.cell.shape.name(), row.cell.what.name()),
        speed.text(rate, short),
        short(row.undisturbed_per_s),
        text(row.of_echo),
        latencies.join(" / "),
        text(row.server_cpu),
        text(row.client_cpu),
        peak.unwrap_or_default(),
    ]
}

/// A rate in three digits.
fn short(per_s: f64) -> String {
    match per_s {
        1e6.. => format!("{} M", digits(per_s / 1e6)),
        _ => format!("{} k", digits(per_s / 1e3)),
    }
}

/// Three digits of a number, or all before the point.
fn digits(number: f64) -> String {
    match number.abs() {
        99.95.. => format!("{number:.0}"),
        9.995.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Everything.
pub(crate) fn text(results: &Measurements, goals: &[Goal], page: &Path) -> String {
    let noise = results.noise().map(|noise| wrap(&noise) + "\n");
    let notes = format!("{LEGEND} {} {PERCENTILES}", threads(results));
    format!(
        "{}\n{}\n{}\n{}\nBars: {}",
        figures(results),
        wrap(&notes),
        noise.unwrap_or_default(),
        goal_table(goals),
        page.display()
    )
}

/// What a second thread brings, and how far to trust that.
pub(crate) fn threads(results: &Measurements) -> String {
    let ratio = results.speed_ratio(BenchSubject::TwoThreads, BenchSubject::OneThread, BUSY);
    let ratio = ratio.map_or(0.0, |it| it.median);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let warning = match cores {
        4.. => "",
        _ => " (which says little where the load takes one of them: it takes 3 cores and more)",
    };
    format!(
        "2 server threads against 1, nothing pinned, on {cores} cores: {ratio:.2} times the \
         calls/s{warning}."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{goals::goals, results::tests::results};

    #[test]
    fn everything_is_shown() {
        let results = results(&[1e6, 2e6, 1.5e6]);
        let text = text(&results, &goals(&results), Path::new("bench.html"));
        assert_eq!([0.123, 12.34, 123.4].map(digits), ["0.12", "12.3", "123"]);
        for needle in [
            "8 x 32, awake",
            "  session, 5 % twice",
            "750,000",
            "too noisy",
            "missed",
        ] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
        assert!(!text.contains("NaN"), "{text}");
        terminal::tests::assert_fits(&text);
    }
}
