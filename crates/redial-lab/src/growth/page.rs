//! The page `target/redial/growth.html`: what the table took in each stage.

use super::{GrowthResults, HEADINGS};
use crate::report::{
    page::{commands, page, problems, section},
    scale::thousands,
    table,
};

/// The whole page.
pub(super) fn html(results: &GrowthResults) -> String {
    let header = format!(
        "<header><p class=\"brand\">Redial growth</p><h1>{} calls on a table in PostgreSQL.</h1>{}<p>{}</p>\
         </header>\n",
        thousands(results.counted.0),
        problems(&results.problems()),
        results.judged()
    );
    let body = [
        header,
        section(
            "Stage by stage",
            "The record of a call is a row that later calls of its session use again, so the table has as many \
             rows as calls may be open. Each call changes its row twice, where it lies: what it was before is dead, \
             and the page is cleared when it is written next, or by the vacuum.",
            &table::html(&HEADINGS, results.rows(), 0),
        ),
        section(
            "Again",
            &format!(
                "<code>cargo xtask growth --stages {} --calls {}</code> runs it again.",
                results.asked.0, results.asked.1
            ),
            &commands(&results.commands()),
        ),
    ];
    page(
        "Redial: a table in PostgreSQL over many calls",
        &body.concat(),
    )
}
