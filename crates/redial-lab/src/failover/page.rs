//! The page `target/redial/failover.html`: each fail-over, and how the calls ended.

use super::{FailoverResults, HEADINGS, drive};
use crate::{
    crash::chart,
    report::{
        page::{commands, figures, page, picture, problems, section},
        scale::thousands,
        table,
    },
};

/// What the tinted times of the picture are.
const OUTAGE: &str = "no primary that answers";

/// The whole page.
pub(super) fn html(results: &FailoverResults) -> String {
    let draw = |room| chart::draw(results.crash.calls(), &results.crash.outages, room);
    let picture = picture("wide full", &chart::key(OUTAGE), draw);
    let body = [
        header(results),
        section(
            "How the calls ended over time",
            "Above, how many calls ended, and how; below, how long the longest of them took. Tinted \
             are the times without a primary that answers: from the kill to the promotion, and, where \
             the new one waits for a standby of its own, until it has one.",
            &picture,
        ),
        section(
            "How long calls waited",
            "Of each fail-over the calls that were open when the primary was killed, or began before the next \
             one took writes. <em>Commits held</em> are those that waited for the standby at that moment: \
             where it stood still (<em>frozen</em>), no call of them was answered. The next primary \
             <em>waited for</em> a standby of its own, or answered with <em>none</em>.",
            &table::html(&HEADINGS, results.rows(), 3),
        ),
        section(
            "What was counted",
            "By the clients, and in the database.",
            &figures(results.figures()),
        ),
        section(
            "Again",
            &format!(
                "<code>cargo xtask failover --failovers {} --seed {}</code> runs it again.",
                results.failovers.len(),
                results.seed
            ),
            &commands(&results.commands()),
        ),
    ];
    page("Redial: fail-over of the database", &body.concat())
}

fn header(results: &FailoverResults) -> String {
    let problems = problems(&results.problems());
    format!(
        "<header><p class=\"brand\">Redial fail-over</p><h1>{} calls while the database was lost {} times: \
         {} of them doubled, lost or misreported.</h1>{problems}<p>{} servers on one table in PostgreSQL, which \
         is a primary and a synchronous standby. The primary was killed (<code>kill -9</code> of all its \
         processes), the standby promoted, and a new standby made, while {} clients went on calling. In every \
         other round the standby stood still before (<code>SIGSTOP</code>), so that commits waited for it and their \
         calls were not answered: what they came to was found out at the new primary. Afterwards all effects in \
         the database were compared with what each caller heard.</p></header>\n",
        thousands(results.crash.calls().count() as u64),
        results.failovers.len(),
        match results.crash.violations.len() {
            0 => "none".to_owned(),
            n => thousands(n as u64),
        },
        drive::SERVERS,
        results.clients,
    )
}
