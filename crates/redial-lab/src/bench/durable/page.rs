//! The page `target/redial/bench-durable.html`: bars, goals and all figures.

use super::{
    BATCHES, DurableSubject,
    results::{DurableFigures, DurableMeasurements},
    table::{HEADINGS, LEGEND, row},
};
use crate::{
    bench::{
        goals::Goal,
        page::{goal_table, reached},
    },
    report::{
        page::{figure, page, section},
        scale::{Scale, rate},
        svg::{Anchor, Svg, escape},
        table,
    },
};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 8.0;
const STEP: f64 = 30.0;
const BAR: f64 = 18.0;

const WHAT: &str = "Each call adds to a counter and is recorded, and its reply leaves when both are \
    durable. SQLite in process is the limit: the same SQL in batches of that size, without a server, and a record that \
    is found again by its unique id; next to it the same where rows are only appended, so that no duplicate is \
    found. The bare log makes no more than the record durable. A bar is the median of all rounds, the line in it goes from the least to \
    the most; the figure after it is the share of SQLite's speed, taken within each round.";

/// The whole page.
pub(super) fn html(results: &DurableMeasurements, goals: &[Goal], how: &str) -> String {
    let noise = results.noise();
    let noise = noise.map(|noise| format!("<p class=\"problem\">{}</p>", escape(&noise)));
    let header = format!(
        "<header><p class=\"brand\">Redial bench</p><h1>What a durable call costs, next to SQLite in \
         process: {}.</h1>{}<p>{}</p></header>\n",
        reached(goals),
        noise.unwrap_or_default(),
        escape(how),
    );
    let figures = results.figures();
    let picture = |batch| {
        let caption = format!("{batch} in flight");
        figure("wide", &caption, &bars(&figures, batch))
    };
    let rows = figures.iter().map(row);
    let body = [
        header,
        section("Calls per second", WHAT, &BATCHES.map(picture).concat()),
        section("Goals", "Held against the medians.", &goal_table(goals)),
        section(
            "All figures",
            &escape(LEGEND),
            &table::html(&HEADINGS, rows, 1),
        ),
    ];
    page("Redial: what a durable call costs", &body.concat())
}

fn bars(figures: &[DurableFigures], batch: usize) -> String {
    let rows: Vec<_> = figures.iter().filter(|it| it.cell.batch == batch).collect();
    let label = |row: &DurableFigures| {
        let speed = rate(row.calls_per_s.median);
        let share = row
            .of_sqlite
            .filter(|_| row.cell.what != DurableSubject::Sqlite);
        share.map_or(speed.clone(), |it| format!("{speed} · {:.2}", it.median))
    };
    let described = rows
        .iter()
        .map(|row| format!("{}: {}", row.cell.what.name(), label(row)));
    let described: Vec<_> = described.collect();
    let size = (WIDTH, TOP * 2.0 + STEP * rows.len() as f64);
    let title = format!("Durable calls per second, {batch} in flight");
    let mut svg = Svg::new(
        &format!("durable-{batch}"),
        size,
        &title,
        &described.join("; "),
    );
    let most = rows.iter().map(|row| row.calls_per_s.most);
    let x = Scale::linear((0.0, most.fold(f64::MIN_POSITIVE, f64::max)), (LEFT, RIGHT));
    for (index, row) in rows.iter().enumerate() {
        let middle = TOP + STEP * (index as f64 + 0.5);
        let (name, label) = (row.cell.what.name(), label(row));
        svg.text("label", (LEFT - 10.0, middle + 4.0), Anchor::End, name);
        let length = x.at(row.calls_per_s.median) - LEFT;
        let tip = format!("{name}: {label}");
        let at = (LEFT, middle - BAR / 2.0);
        svg.rect(class(row.cell.what), at, (length, BAR), &tip);
        let ends = [row.calls_per_s.least, row.calls_per_s.most].map(|value| x.at(value));
        svg.line("sent", (ends[0], middle), (ends[1], middle));
        let at = (ends[1].max(LEFT + length) + 8.0, middle + 4.0);
        svg.text("tick halo", at, Anchor::Start, &label);
    }
    svg.line("base", (LEFT, TOP), (LEFT, size.1 - TOP));
    svg.finish()
}

fn class(what: DurableSubject) -> &'static str {
    match what {
        DurableSubject::Log | DurableSubject::Redis => "soft-bar",
        DurableSubject::Sqlite | DurableSubject::Appended => "heat",
        DurableSubject::Session => "session",
        DurableSubject::Plain => "plain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::durable::results::{goals, tests::results};

    #[test]
    fn the_page_is_whole() {
        let results = results(&[80e3, 70e3, 60e3]);
        let page = html(&results, &goals(&results), "how <it> was done");
        for needle in ["how &lt;it&gt;", "256 in flight", "goals reached", "missed"] {
            assert!(page.contains(needle), "{needle}");
        }
        assert_eq!(page.matches("<rect").count(), 4 * 5);
        assert!(!page.contains("NaN") && !page.contains("inf\""));
    }
}
