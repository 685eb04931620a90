//! The page `target/redial/chaos.html`: what was done, and how the calls ended.

use super::{ChaosResults, chart};
use crate::{
    crash::chart::{Time, draw, key},
    experiment::Report,
    report::{
        page::{commands, figures, page, picture, problems, section},
        scale::thousands,
    },
};

/// The whole page.
pub(super) fn html(results: &ChaosResults) -> String {
    let key = key("no server: from a kill to the next start");
    let calls = picture("wide full", &key, |room| {
        draw(results.crash.calls(), &results.crash.outages, room)
    });
    let events = picture("wide full", "", |room| {
        chart::draw(&Time::of(results.crash.calls(), room), &results.events)
    });
    let body = [
        header(results),
        section(
            "How the calls ended over time",
            "Above, how many calls ended, and how; in the middle, how long the longest of them \
             took; below, what was done meanwhile, the darker, the more.",
            &format!("{calls}{events}"),
        ),
        section(
            "What was counted",
            "By the clients, in the ledgers, and by what caused the trouble.",
            &figures(results.figures()),
        ),
        section(
            "Again",
            &format!(
                "<code>cargo xtask chaos --seconds {} --seed {}</code> draws the same faults \
                 again; what they hit depends on the scheduler of the machine.",
                results.plan.seconds, results.plan.seed
            ),
            &commands(&results.commands()),
        ),
    ];
    page("Redial: chaos", &body.concat())
}

fn header(results: &ChaosResults) -> String {
    let problems = problems(&results.problems());
    format!(
        "<header><p class=\"brand\">Redial chaos</p><h1>{} calls in {} s of chaos: {} of them \
         doubled, lost or misreported.</h1>{problems}<p>A real server and real clients, all of them killed \
         (<code>kill -9</code>) again and again. Half of the clients are behind a proxy that cuts \
         connections at any byte, truncates frames, doubles requests and replies, stalls a \
         direction, and holds requests back to let them through seconds later on another \
         connection, perhaps to the next server. Others are behind a balancer, which accepts although \
         its backend is late or down. All are stopped in the middle of whatever they do, for \
         milliseconds or for longer than the server keeps what it knows (<code>SIGSTOP</code>). The server itself loses requests and replies. \
         Hostile peers flood it with connections, half-open frames and garbage, or ask for \
         megabytes and read nothing. Some clients save each call before they send it, and ask in their next \
         life what happened to it. Afterwards the ledgers of all servers were compared with \
         what each caller heard.</p></header>\n",
        thousands(results.crash.calls().count() as u64),
        results.plan.seconds,
        match results.crash.violations.len() {
            0 => "none".to_owned(),
            n => thousands(n as u64),
        },
    )
}
