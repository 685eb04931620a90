//! The table of results, for the terminal and for the page.

use comfy_table::{Cell, CellAlignment, Color, Table};

use super::{
    run::Run,
    verdict::{self, EffectCheck},
};
use crate::{
    harness::mode::Mode,
    report::{
        self,
        scale::{between, duration, thousands},
    },
};

/// What the columns are called.
pub(crate) const HEADINGS: [&str; 10] = [
    "scenario",
    "mode",
    "calls",
    "ok",
    "attempts/call",
    "p50",
    "p99",
    "effects expected",
    "effects found",
    "verdict",
];

/// The last column, which holds the verdict.
pub(crate) const LAST: usize = HEADINGS.len() - 1;

/// The first columns hold words; all others hold numbers and are set flush right.
pub(crate) const WORDS: usize = 2;

/// One run, as text.
pub(crate) fn cells(run: &Run) -> [String; 10] {
    let time = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), duration);
    let summary = &run.summary;
    let (least, most) = verdict::expected(summary);
    [
        run.scenario.name.to_owned(),
        run.mode.name().to_owned(),
        thousands(summary.calls),
        thousands(summary.ok),
        format!("{:.2}", summary.attempts_per_call()),
        time(summary.latency_us.p50),
        time(summary.latency_us.p99),
        between(least, most),
        thousands(run.effects),
        run.verdict.text(),
    ]
}

/// The table as it is printed; colours only where the terminal has them.
pub(crate) fn terminal(runs: &[Run]) -> Table {
    let mut table = report::terminal::table(&HEADINGS);
    for run in runs {
        let row = cells(run).into_iter().enumerate().map(|(column, text)| {
            // A scenario is named once, on the first of its two rows.
            let text = if column == 0 && run.mode == Mode::Naive {
                String::new()
            } else {
                text
            };
            let cell = Cell::new(text);
            if column == LAST {
                cell.fg(colour(run.verdict))
            } else {
                cell
            }
        });
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(WORDS).take(LAST - WORDS) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn colour(verdict: EffectCheck) -> Color {
    match verdict {
        EffectCheck::Exact => Color::Green,
        EffectCheck::TooMany(_) | EffectCheck::Lost(_) => Color::Red,
    }
}
