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
        bars::{self, Bar},
        page::{page, picture, section},
        room::Room,
        scale::{PERCENTILES, rate},
        svg::escape,
        table,
    },
};

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
        picture("wide", &caption, |room| draw(&figures, batch, room))
    };
    let rows = figures.iter().map(row);
    let body = [
        header,
        section("Calls per second", WHAT, &BATCHES.map(picture).concat()),
        section("Goals", "Held against the medians.", &goal_table(goals)),
        section(
            "All figures",
            &format!("{} {PERCENTILES}", escape(LEGEND)),
            &table::html(&HEADINGS, rows, 1),
        ),
    ];
    page("Redial: what a durable call costs", &body.concat())
}

fn draw(figures: &[DurableFigures], batch: usize, room: Room) -> String {
    let rows = figures.iter().filter(|it| it.cell.batch == batch);
    let bars = rows.map(|row| {
        let (what, speed) = (row.cell.what, rate(row.calls_per_s.median));
        let share = row.of_sqlite.filter(|_| what != DurableSubject::Sqlite);
        Bar {
            name: what.name(),
            class: class(what),
            value: row.calls_per_s.median,
            ends: [row.calls_per_s.least, row.calls_per_s.most],
            label: share.map_or(speed.clone(), |it| format!("{speed} · {:.2}", it.median)),
        }
    });
    let title = format!("Durable calls per second, {batch} in flight");
    let slug = format!("durable-{batch}");
    bars::draw(room, &slug, &title, &bars.collect::<Vec<_>>())
}

fn class(what: DurableSubject) -> &'static str {
    match what {
        DurableSubject::Log | DurableSubject::Redis => "soft-bar",
        DurableSubject::Sqlite => "sqlite",
        DurableSubject::Appended => "sqlite pale",
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
        assert_eq!(page.matches("<rect").count(), 2 * 4 * 5);
        assert!(!page.contains("NaN") && !page.contains("inf\""));
    }
}
