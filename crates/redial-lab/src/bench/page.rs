//! The page `target/redial/bench.html`: bars, goals and all figures.

use super::{
    chart,
    goals::{self, Goal},
    plan::{SHAPES, Shape},
    results::Measurements,
    table::{HEADINGS, LEGEND, row, threads},
};
use crate::report::{
    page::{page, picture, section},
    room::Room,
    scale::PERCENTILES,
    svg::escape,
    table,
};

/// What is compared, and how.
const WHAT: &str = "The bare echo sends the same bytes back without a word of JSON being read: no \
    server of these frames can be faster. The others answer <code>inc</code>: as a query, as a \
    mutation under plain ids or in a session, with one call in twenty sent twice, and with \
    Redial's own client instead of a generator of load that spends next to nothing on a call; some of \
    it over TLS as well. A bar is the median of all rounds, the line in it goes from the least to the \
    most; the figure after it is the share of the echo's speed, taken within each round.";

/// The whole page.
pub(crate) fn html(results: &Measurements, goals: &[Goal], how: &str) -> String {
    let noise = results.noise();
    let noise = noise.map(|noise| format!("<p class=\"problem\">{}</p>", escape(&noise)));
    let verdict = if results.can_be_compared() {
        reached(goals)
    } else {
        "a try, with too few rounds to judge".to_owned()
    };
    let header = format!(
        "<header><p class=\"brand\">Redial bench</p><h1>What a safe call costs, next to a bare \
         echo: {verdict}.</h1>{}<p>{}</p></header>\n",
        noise.unwrap_or_default(),
        escape(how),
    );
    let pictures = |draw: fn(&Measurements, Shape, Room) -> String| {
        let one =
            |shape: Shape| picture("wide", &shape.in_words(), |room| draw(results, shape, room));
        SHAPES.map(one).concat()
    };
    let notes = format!("{LEGEND} {} {PERCENTILES}", threads(results));
    let body = [
        header,
        section("Calls per second", WHAT, &pictures(chart::speeds)),
        section(
            "CPU time per call",
            "Of the server. What it costs, however busy the machine is with other things.",
            &pictures(chart::costs),
        ),
        section("Goals", "Held against the medians.", &goal_table(goals)),
        section("All figures", &escape(&notes), &table(results)),
    ];
    page("Redial: what a safe call costs", &body.concat())
}

/// How many were reached.
pub(super) fn reached(goals: &[Goal]) -> String {
    let reached = goals.iter().filter(|goal| goal.is_reached == Some(true));
    format!("{} of {} goals reached", reached.count(), goals.len())
}

/// A table of them.
pub(super) fn goal_table(goals: &[Goal]) -> String {
    table::html(&goals::HEADINGS, goals.iter().map(Goal::row), 1)
}

fn table(results: &Measurements) -> String {
    table::html(&HEADINGS, results.figures().iter().map(row), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{goals::goals, results::tests::results};

    #[test]
    fn the_page_is_whole() {
        let results = results(&[1e6, 2e6, 1.5e6]);
        let page = html(&results, &goals(&results), "how <it> was done");
        for needle in [
            "how &lt;it&gt;",
            "<p class=\"problem\">",
            "8 x 32",
            "missed",
            "of 15 goals reached",
            "8 connections, 32 calls in flight on each",
            "million calls",
        ] {
            assert!(page.contains(needle), "{needle}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf\""));
    }

    #[test]
    fn the_page_of_a_try_judges_nothing() {
        let results = results(&[1e6]);
        let page = html(&results, &goals(&results), "");
        assert!(page.contains("too few rounds to judge"));
        assert!(!page.contains("goals reached") && !page.contains("missed"));
    }
}
