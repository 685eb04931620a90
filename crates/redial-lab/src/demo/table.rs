//! The table of results, for the terminal and for the page.

use comfy_table::Table;

use super::{run::Run, verdict};
use crate::{
    harness::mode::Mode,
    report::{
        scale::{between, duration, reached, thousands},
        terminal,
    },
};

/// What the columns are called. The verdict stands beside the scenario: on a phone that is what is seen
/// without scrolling.
pub(crate) const HEADINGS: [&str; 10] = [
    "scenario",
    "mode",
    "verdict",
    "calls",
    "ok",
    "attempts per call",
    "p50",
    "p99",
    "effects expected",
    "effects found",
];

/// The column that holds the verdict.
pub(crate) const VERDICT: usize = 2;

/// The first columns hold words; all others hold numbers and are set flush right.
pub(crate) const WORDS: usize = 3;

/// One run, as text. The percentiles are those of all calls.
pub(crate) fn cells(run: &Run) -> [String; 10] {
    let (summary, sorted) = (&run.summary, run.sorted_us());
    let time =
        |share| reached(&sorted, run.calls.len(), share).map_or_else(|| "-".to_owned(), duration);
    let (least, most) = verdict::expected(summary);
    [
        run.scenario.name.to_owned(),
        run.mode.name().to_owned(),
        run.verdict.text(),
        thousands(summary.calls),
        thousands(summary.ok),
        format!("{:.2}", summary.attempts_per_call()),
        time(0.5),
        time(0.99),
        between(least, most),
        thousands(run.effects),
    ]
}

/// What the columns are called where there is room for 80 letters.
const SHORT_HEADINGS: [&str; 8] = [
    "scenario",
    "verdict",
    "calls",
    "ok",
    "attempts\nper call",
    "p50",
    "p99",
    "effects\nfound",
];

/// The table as it is printed: for each scenario a row with a session, and below it a naive one.
pub(crate) fn terminal(runs: &[Run]) -> Table {
    let rows = runs.iter().map(|run| {
        let [
            scenario,
            mode,
            verdict,
            calls,
            ok,
            attempts,
            p50,
            p99,
            _,
            found,
        ] = cells(run);
        let first = match run.mode {
            Mode::Session => scenario,
            _ => format!("  {mode}"),
        };
        [first, verdict, calls, ok, attempts, p50, p99, found]
    });
    terminal::of(&SHORT_HEADINGS, rows, 1)
}
