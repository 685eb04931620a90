//! The page `target/redial/restarts.html`: what the restarts did to the calls.

use super::RestartsResults;
use crate::{
    crash::chart,
    experiment::Report,
    report::{
        page::{commands, figure, figures, page, problems, section},
        scale::thousands,
    },
};

/// The whole page.
pub(super) fn html(results: &RestartsResults) -> String {
    let picture = figure(
        "wide full",
        "",
        &chart::draw(results.crash.calls(), &results.crash.outages),
    );
    let picture = format!("{}{picture}", chart::LEGEND);
    let lead = "Above, how many calls ended, and how; below, how long the longest of them took. A \
        call that meets a kill waits for the next server; what it can't know there, it does not do \
        again.";
    let body = [
        header(results),
        section("How the calls ended over time", lead, &picture),
        section(
            "What was counted",
            "By the clients and in the ledgers.",
            &figures(results.figures()),
        ),
        section(
            "Again",
            "<code>cargo xtask restarts</code> runs it again.",
            &commands(&results.commands()),
        ),
    ];
    page("Redial: restarts under load", &body.concat())
}

fn header(results: &RestartsResults) -> String {
    let problems = problems(&results.problems());
    format!(
        "<header><p class=\"brand\">Redial restarts</p><h1>{} calls, and a server that was killed \
         {} times: {} of them doubled, lost or misreported.</h1>{problems}<p>The server keeps its \
         table of calls in memory, so that a kill takes it away in the middle of everything. It \
         also loses replies and duplicates requests. Each life writes every effect to a ledger \
         that survives the kill; each call counts under a key of its own. Afterwards the ledgers \
         of all lives were compared with what each caller heard: <em>ok</em> has one effect, \
         <em>not executed</em> none, <em>unknown</em> one or none, and no call two.</p></header>\n",
        thousands(results.plan.total()),
        results.crash.outages.len(),
        match results.crash.violations.len() {
            0 => "none".to_owned(),
            n => thousands(n as u64),
        }
    )
}
