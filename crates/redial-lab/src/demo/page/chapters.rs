//! The page's sections about what a session adds.

use crate::{
    demo::{
        chapters::{
            self, Chapters, hedging, hedging::Hedged, late, restart, restart::Restarted, servers,
            servers::Served,
        },
        chart::{outcomes, tail},
    },
    memory::chart,
    report::{
        page::{picture, section},
        series::{legend, swatch},
        svg::escape,
        table::html as table,
    },
};

/// All of them, in the order in which they were run.
pub(super) fn html(chapters: &Chapters) -> String {
    let parts = [
        restarts(&chapters.restarted),
        servers_of_one_table(&chapters.served),
        late_retries(&chapters.late),
        slow_replies(&chapters.hedged),
        memory(chapters),
    ];
    parts.concat()
}

fn restarts(runs: &[Restarted]) -> String {
    let lead = format!(
        "The server is killed (<code>kill -9</code>) and \
         started again {} times in the middle of the calls; it loses some replies as well. With \
         its table of calls in memory, a retry that reaches the next life is \
         a new call to it, if ids are all it has. A call of a session is not: the next life does \
         not know the session, so it does nothing, and the caller hears that the outcome is \
         unknown. With a store, the next life knows the session and what each of its calls has \
         come to, since effect and record were one transaction: it replays the reply, or executes \
         the call for the first time. Nothing is left unknown. The effects were counted in a ledger \
         that outlives the server, or in the store.",
        restart::KILLS
    );
    let key = legend([
        (swatch("doubled"), "calls that took effect twice".to_owned()),
        (
            swatch("unknown"),
            "calls whose outcome is unknown to their callers".to_owned(),
        ),
    ]);
    let picture = picture("wide", &key, |room| outcomes::draw(runs, room));
    let table = table(&restart::HEADINGS, runs.iter().map(Restarted::row), 1);
    section(
        "A server that is killed",
        &lead,
        &format!("{picture}{table}"),
    )
}

fn servers_of_one_table(runs: &[Served]) -> String {
    let lead = "Three servers keep their records in one database, with the counters. Every second one of them is \
        killed (<code>kill -9</code>) and started again, while clients call through a balancer, and some replies are lost. \
        With a session a call whose server is gone goes on at another one, which knows from the database \
        whether it has run. A hand-made retry loop makes it again.";
    let contents = if runs.is_empty() {
        format!("<p>{}</p>", escape(servers::SKIPPED))
    } else {
        table(&servers::HEADINGS, runs.iter().map(Served::row), 1)
    };
    section("Servers that share a table", lead, &contents)
}

fn late_retries(late: &late::Late) -> String {
    let lead = format!(
        "Each request was written by hand as a frame and sent again, unchanged, {} ms later, on \
         another connection. By then the table has forgotten a plain id. A session has no such \
         window: what its client has not acknowledged is on record, what it has acknowledged is \
         refused for ever, and so is everything of a session that is gone.",
        late::AWAY.as_millis()
    );
    section(
        "A request that comes late",
        &lead,
        &table(&late::HEADINGS, late.rows(), 4),
    )
}

fn slow_replies(runs: &[Hedged]) -> String {
    let lead = format!(
        "The replies take their time: {}. A client may send the same call once more, on another \
         connection, when it has taken longer than most: whichever reply comes first counts, and \
         the call still takes effect once, since both requests have one id.",
        hedging::TAIL
    );
    let picture = picture("wide", &tail::key(runs), |room| tail::draw(runs, room));
    let table = table(&hedging::HEADINGS, runs.iter().map(Hedged::row), 1);
    section(
        "Slow replies, and a second request",
        &lead,
        &format!("{picture}{table}"),
    )
}

fn memory(chapters: &Chapters) -> String {
    if chapters.memory.is_empty() {
        return String::new();
    }
    let curves: Vec<_> = chapters.memory.iter().collect();
    let picture = picture("wide", &chart::key(&curves), |room| {
        chart::draw(&curves, room)
    });
    let rows = chapters.memory.iter().map(chapters::memory_row);
    let table = table(&chapters::MEMORY_HEADINGS, rows, 1);
    let lead = crate::memory::WHY;
    section("Memory at full speed", lead, &format!("{picture}{table}"))
}
