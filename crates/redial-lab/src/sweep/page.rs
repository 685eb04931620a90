//! The page `target/redial/sweep.html`: the heat maps.

use super::{
    SweepResults,
    grid::{self, Metric},
    heat,
};
use crate::report::{
    page::{page, picture, section},
    scale::thousands,
    svg::escape,
};

/// The whole page.
pub(super) fn html(sweep: &SweepResults) -> String {
    let maps = Metric::ALL.map(|metric| {
        let caption = format!(
            "<h3>{}</h3><p class=\"small\">{}</p>",
            title(metric),
            metric.about()
        );
        picture("map", &caption, |room| {
            heat::draw(metric, &sweep.cells, room)
        })
    });
    let lead = "Each small map is a grid of backoff bases (in milliseconds, left to right) and \
        factors (top to bottom). From map to map the attempt timeout grows to the right, and the \
        jitter changes downwards. Each metric has one colour scale for all its maps; the two \
        latencies share theirs. Percentiles are nearest ranks of the calls that were ok.";
    let maps = format!("<div class=\"maps\">{}</div>", maps.concat());
    let body = format!(
        "{}{}{}",
        header(sweep),
        section(
            "The maps",
            lead,
            &format!("<p>{}</p>{maps}", escape(&grid::conclusion(&sweep.cells)))
        ),
        again(sweep)
    );
    page("Redial: backoff, jitter and timeout under 30 % loss", &body)
}

fn title(metric: Metric) -> &'static str {
    match metric {
        Metric::Success => "Success, in %",
        Metric::P50 => "Median latency, in ms",
        Metric::P99 => "99th percentile of latency, in ms",
        Metric::ExtraLoad => "Extra load, in attempts per call",
    }
}

fn header(sweep: &SweepResults) -> String {
    format!(
        "<header><p class=\"brand\">Redial sweep</p><h1>What a retry policy costs when three \
         requests in ten are lost</h1><p>{} calls in each of {} cells, on real programs over TCP. \
         The server needs 20 ms for a call, so an attempt timeout of 15 ms gives up on every \
         attempt, 40 ms on lost ones alone, and 100 ms waits long before it does. A call has five \
         attempts and 500 ms.</p><p>{}</p></header>\n",
        thousands(sweep.calls),
        sweep.cells.len(),
        escape(grid::WHY_UNLIMITED)
    )
}

fn again(sweep: &SweepResults) -> String {
    let (seed, calls) = (sweep.seed, sweep.calls);
    let lead = format!(
        "<code>cargo xtask sweep --seed {seed} --calls {calls}</code> runs it all again. The seed \
         decides the faults and the jitter; the machine's own timing differs from run to run."
    );
    let commands = format!(
        "<pre>counter-server {}\ncounter-client {}</pre>",
        escape(&grid::server_flags(seed).join(" ")),
        escape(&grid::client_flags(calls, seed).join(" "))
    );
    section("Again", &lead, &commands)
}
