//! The page `target/redial/memory.html`: both curves.

use super::{MemoryResults, chart, measure};
use crate::{
    experiment::Report,
    harness::mode::Mode,
    report::{
        page::{page, picture, problems, section},
        scale::thousands,
        svg::escape,
        table,
    },
};

/// Why the curves look as they do.
pub(crate) const WHY: &str = "With plain ids a server can't know when a caller has its reply, so \
    it keeps each reply for a time (10 s): memory grows as rate times time, until as much \
    expires as arrives. With a session the client acknowledges the replies that have arrived, and \
    the server forgets those at once: it keeps only what is in flight. For the plain ids the table's limit \
    was raised to as many records as there are calls; with its default of a million the server \
    would take on 100,000 calls a second and refuse the rest.";

/// The whole page.
pub(super) fn html(measured: &MemoryResults) -> String {
    let problems = problems(&measured.problems());
    let growth = |ids| {
        let early = measured.early();
        let last = measured.of(ids).map(|curve| curve.growth(early).1);
        last.fold(0.0, f64::max)
    };
    let header = format!(
        "<header><p class=\"brand\">Redial memory</p><h1>{} calls at full speed: with a session \
         the server ends with {:.2} times the memory it had after a tenth of them, with plain ids \
         with {:.2} times.</h1>{problems}<p>{}</p></header>\n",
        thousands(measured.calls),
        growth(Mode::Session),
        growth(Mode::Plain),
        measured.speeds()
    );
    let first: Vec<_> = measured.curves.iter().take(measure::MODES.len()).collect();
    let curves = picture("wide", &chart::key(&first), |room| {
        chart::draw(&first, room)
    });
    let flags = measure::server_flags(measured.calls).join(" ");
    let again = format!(
        "<code>cargo xtask memory --calls {}</code> runs it again. The server was started with \
         <code>{}</code>.",
        measured.calls,
        escape(&flags)
    );
    let body = [
        header,
        section("The first round", WHY, &curves),
        section(
            "All rounds",
            "Both ways by turns.",
            &table::html(&measured.headings(), measured.rows(), 1),
        ),
        section("Again", &again, ""),
    ];
    page("Redial: memory at full speed", &body.concat())
}
