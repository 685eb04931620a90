//! `target/redial/restarts.html`: what the restarts did to the calls, to be looked at.

use super::{Seen, chart};
use crate::report::{
    page::{figure, page, section},
    scale::thousands,
    svg::escape,
};

/// The whole page.
pub(super) fn html(seen: &Seen) -> String {
    let picture = figure(
        "wide full",
        "",
        &chart::draw(seen.calls.iter(), &seen.outages),
    );
    let picture = format!("{}{picture}", chart::LEGEND);
    let lead = "Above, how many calls ended, and how; below, how long the longest of them took. A \
        call that meets a kill waits for the next server; what it can't know there, it does not do \
        again.";
    let rows = seen.figures().map(|(name, value)| {
        format!("<tr><th scope=\"row\">{name}</th><td class=\"number\">{value}</td></tr>")
    });
    let table = format!("<table><tbody>{}</tbody></table>", rows.concat());
    let commands = seen.commands().map(|command| escape(&command));
    let again = format!(
        "<details><summary>The command lines</summary><pre>{}</pre></details>",
        commands.join("\n")
    );
    let body = [
        header(seen),
        section("How the calls ended over time", lead, &picture),
        section(
            "What was counted",
            "By the clients and in the ledgers.",
            &table,
        ),
        section(
            "Again",
            "<code>cargo xtask restarts</code> runs it again.",
            &again,
        ),
    ];
    page("Redial: restarts under load", &body.concat())
}

fn header(seen: &Seen) -> String {
    let problems: String = seen
        .problems()
        .iter()
        .map(|problem| format!("<p class=\"problem\">{}</p>", escape(problem)))
        .collect();
    format!(
        "<header><p class=\"brand\">Redial restarts</p><h1>{} calls, and a server that was killed \
         {} times: {} of them doubled, lost or misreported.</h1>{problems}<p>The server keeps its \
         table of calls in memory, so that a kill takes it away in the middle of everything. It \
         also loses replies and duplicates requests. Each life writes every effect to a ledger \
         that survives the kill; each call counts under a key of its own. Afterwards the ledgers \
         of all lives were compared with what each caller was told: <em>ok</em> has one effect, \
         <em>not executed</em> none, <em>unknown</em> one or none, and no call two.</p></header>\n",
        thousands(seen.plan.total()),
        seen.outages.len(),
        match seen.violations.len() {
            0 => "none".to_owned(),
            n => thousands(n as u64),
        }
    )
}
