//! The page `target/redial/storm.html`: the table, and how each storm went from its first seed.

use super::{
    StormResults, chart,
    record::FLEETS,
    stories::story,
    table::{self, FigureRow, HEADINGS},
};
use crate::{
    experiment::Report,
    report::{
        page::{figure, page, problems, section},
        scale::thousands,
        svg::escape,
        table as html_table,
    },
};

/// The whole page.
pub(super) fn html(results: &StormResults) -> String {
    let rows = results.rows();
    let of = |letter: char| {
        let rows = rows.iter().filter(|row| row.letter() == letter);
        rows.map(FigureRow::cells).collect::<Vec<_>>()
    };
    let storms = results.letters().into_iter().map(|letter| {
        let records: Vec<_> = FLEETS
            .into_iter()
            .filter_map(|fleet| results.of(letter, fleet).next())
            .collect();
        let title = records.first().map_or("", |record| &record.title);
        let rows = html_table::html(&HEADINGS, of(letter).into_iter(), 1);
        let picture = figure("wide", &chart::key(), &chart::draw(&records));
        let heading = format!("{letter}: {title}");
        section(&heading, story(letter), &format!("{rows}{picture}"))
    });
    let body = [header(results)].into_iter().chain(storms);
    let body: String = body.chain([again(results)]).collect();
    page("Redial: storms", &body)
}

fn header(results: &StormResults) -> String {
    let calls: u64 = results
        .records
        .iter()
        .map(|record| record.count.calls)
        .sum();
    let failed = results.problems();
    let headline = match failed.len() {
        0 => {
            "Load beyond what a server can do: what a plain fleet makes of it, and what Redial does"
        }
        _ => "Load beyond what a server can do: not all that is wanted holds",
    };
    format!(
        "<header><p class=\"brand\">Redial storms</p><h1>{headline}</h1>{}<p>{} calls of the real client and the \
         real server, {}, from {} seed{} each. Redial is as it is by \
         default, with room for the connections of all clients, and with how long a caller has a use for its value as \
         the deadline of each call: nothing is tuned to a storm, and the server does not know how much it can do. {}</p></header>\n",
        problems(&failed),
        thousands(calls),
        if results.is_real {
            "each in a process of its own, on loopback"
        } else {
            "in virtual time over a network in memory"
        },
        results.seeds,
        if results.seeds == 1 { "" } else { "s" },
        table::exactness(&results.records),
    )
}

fn again(results: &StormResults) -> String {
    let comes_to = if results.is_real {
        "in real time, where figures vary a little"
    } else {
        "and comes to the same"
    };
    let lead = format!(
        "<code>{}</code> plays all of it again, {comes_to}. Figures go from the least to the most of all \
         seeds; the pictures are those of the first.",
        escape(&results.command)
    );
    section("Again", &lead, "")
}
