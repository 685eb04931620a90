//! The page `target/redial/restarts.html`: what the restarts did to the calls.

use super::RestartsResults;
use crate::{
    crash::{chart, stored::IncKind},
    experiment::Report,
    report::{
        page::{commands, figures, page, picture, problems, section},
        scale::thousands,
    },
};

/// What the tinted times of the picture are.
const OUTAGE: &str = "no server: from a kill to the next start";

/// The whole page.
pub(super) fn html(results: &RestartsResults) -> String {
    let draw = |room| chart::draw(results.crash.calls(), &results.crash.outages, room);
    let picture = picture("wide full", &chart::key(OUTAGE), draw);
    let lead = "Above, how many calls ended, and how; below, how long the longest of them took. A \
        call that meets a kill waits for the next server; unless that knows it from the store, the \
        call is not made again.";
    let body = [
        header(results),
        section("How the calls ended over time", lead, &picture),
        section(
            "What was counted",
            "By the clients, and in what the servers have left behind.",
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
    let (keeps, settled) = match results.plan.store {
        None => (
            "The server keeps its table of calls in memory, so that a kill takes it away in the \
             middle of everything. Each life writes every effect to a ledger that survives the kill.",
            "",
        ),
        Some(IncKind::Transaction) => (
            "The server keeps the record of each call in a store, in one transaction with its \
             effect.",
            " None may end unknown but for want of time.",
        ),
        Some(IncKind::Mutation) => (
            "The server keeps the record of each call in a store, and has its effects outside, in a \
             ledger that survives the kill.",
            " None may end unknown but those that a kill interrupted, and for want of time.",
        ),
        Some(IncKind::Resumable) => (
            "The server keeps the record of each call in a store, and has its effects outside, with \
             a service that honours the call's id.",
            " None may end unknown but for want of time.",
        ),
    };
    let problems = problems(&results.problems());
    format!(
        "<header><p class=\"brand\">Redial restarts</p><h1>{} calls, and a server that was killed \
         {} times: {} of them doubled, lost or misreported.</h1>{problems}<p>{keeps} It \
         also loses replies and duplicates requests; each call counts under a key of its own. \
         Afterwards the effects of all lives were compared with what each caller heard: \
         <em>ok</em> has one effect, <em>not executed</em> none, <em>unknown</em> one or none, and \
         no call two.{settled}</p></header>\n",
        thousands(results.plan.total()),
        results.crash.outages.len(),
        match results.crash.violations.len() {
            0 => "none".to_owned(),
            n => thousands(n as u64),
        }
    )
}
