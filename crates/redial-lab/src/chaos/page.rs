//! `target/redial/chaos.html`: what was done, and what the calls came to, to be looked at.

use super::{Seen, chart};
use crate::{
    report::{
        page::{figure, page, section},
        scale::thousands,
        svg::escape,
    },
    restarts::chart::{LEGEND, Time, draw},
};

/// The whole page.
pub(super) fn html(seen: &Seen) -> String {
    let calls = figure("wide full", "", &draw(seen.calls(), &seen.outages));
    let time = Time::of(seen.calls());
    let deeds = figure("wide full", "", &chart::draw(&time, &seen.deeds));
    let rows = seen.figures().into_iter().map(|(name, value)| {
        format!("<tr><th scope=\"row\">{name}</th><td class=\"number\">{value}</td></tr>")
    });
    let rows: String = rows.collect();
    let commands = seen.commands().map(|command| escape(&command));
    let body = [
        header(seen),
        section(
            "How the calls ended over time",
            "Above, how many calls ended, and how; in the middle, how long the longest of them \
             took; below, what was done meanwhile, the darker, the more.",
            &format!("{LEGEND}{calls}{deeds}"),
        ),
        section(
            "What was counted",
            "By the clients, in the ledgers, and by those who did it.",
            &format!("<table><tbody>{rows}</tbody></table>"),
        ),
        section(
            "Again",
            &format!(
                "<code>cargo xtask chaos --seconds {} --seed {}</code> draws the same faults \
                 again; what they hit is for the scheduler of the machine to say.",
                seen.plan.seconds, seen.plan.seed
            ),
            &format!(
                "<details><summary>The command lines</summary><pre>{}</pre></details>",
                commands.join("\n")
            ),
        ),
    ];
    page("Redial: chaos", &body.concat())
}

fn header(seen: &Seen) -> String {
    let problems = seen.problems();
    let problems = problems
        .iter()
        .map(|problem| format!("<p class=\"problem\">{}</p>", escape(problem)));
    format!(
        "<header><p class=\"brand\">Redial chaos</p><h1>{} calls in {} s of chaos: {} of them \
         doubled, lost or misreported.</h1>{}<p>A real server and real clients, all of them killed \
         (<code>kill -9</code>) again and again. Half of the clients are behind a proxy that cuts \
         connections at any byte, truncates frames, doubles requests and replies, stalls a \
         direction, and holds requests back to let them through seconds later on another \
         connection, perhaps to the next server. The server itself loses requests and replies. \
         Others flood it with connections, half-open frames and garbage, or ask for megabytes and \
         read nothing. Some clients save each call before they send it, and ask in their next \
         life what became of it. Afterwards the ledgers of all servers were compared with what \
         each caller was told.</p></header>\n",
        thousands(seen.calls().count() as u64),
        seen.plan.seconds,
        match seen.violations.len() {
            0 => "none".to_owned(),
            n => thousands(n as u64),
        },
        problems.collect::<String>(),
    )
}
