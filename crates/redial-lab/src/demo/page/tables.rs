//! The page's two tables.

use crate::{
    demo::{duplicate::Duplicate, run::Run, table},
    harness::{events::Event, mode::Mode},
    report::{
        page::section,
        svg::escape,
        table::{scrolling, verdict},
    },
};

/// Two rows for each scenario: with a session and naively.
pub(super) fn results(runs: &[Run]) -> String {
    let headings = table::HEADINGS
        .iter()
        .enumerate()
        .map(|(column, heading)| format!("<th scope=\"col\"{}>{heading}</th>", class(column)));
    scrolling(&format!(
        "<thead><tr>{}</tr></thead><tbody>{}</tbody>",
        headings.collect::<String>(),
        runs.iter().map(row).collect::<String>()
    ))
}

fn row(run: &Run) -> String {
    let mode = run.mode.name();
    let cells = table::cells(run)
        .into_iter()
        .enumerate()
        .map(|(column, text)| match (column, run.mode) {
            (0, Mode::Session) => {
                format!(
                    "<th scope=\"rowgroup\" rowspan=\"2\">{}</th>",
                    escape(&text)
                )
            }
            (0, _) => String::new(),
            (1, _) => format!("<td>{}{}</td>", run.mode.series().key(), escape(&text)),
            (table::VERDICT, _) => verdict(&text),
            _ => format!("<td{}>{}</td>", class(column), escape(&text)),
        });
    format!("<tr class=\"{mode}\">{}</tr>", cells.collect::<String>())
}

/// Words are set flush left, numbers flush right.
fn class(column: usize) -> &'static str {
    match column {
        table::VERDICT => " class=\"verdict\"",
        0..table::WORDS => "",
        _ => " class=\"number\"",
    }
}

/// The forced duplicate: three sendings, what each did, and what came back.
pub(super) fn forced(duplicate: &Duplicate) -> String {
    let became = |index: usize| match duplicate.verdicts[index] {
        Some(Event::Started) => "started the execution",
        Some(Event::Joined) => "joined the running execution",
        Some(Event::Replayed) => "got the recorded reply",
        _ => "left no trace in the server's log",
    };
    let rows = duplicate.replies.iter().enumerate().map(|(index, reply)| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td><code>{}</code></td></tr>",
            index + 1,
            became(index),
            escape(reply)
        )
    });
    let lead = "One call, written by hand as frames and sent three times on three connections: \
        twice at once, and again after both were answered.";
    let count = if duplicate.effects == 1 {
        "effect"
    } else {
        "effects"
    };
    let contents = format!(
        "<p class=\"small\">The first request; the others add their attempt's number:<br>\
         <code>{}</code></p>{}<p>The counter afterwards: <strong>{} {count}</strong>.</p>",
        escape(&duplicate.requests[0]),
        scrolling(&format!(
            "<thead><tr><th scope=\"col\">sending</th><th scope=\"col\">what it did</th>\
             <th scope=\"col\">the reply, byte for byte</th></tr></thead><tbody>{}</tbody>",
            rows.collect::<String>()
        )),
        duplicate.effects
    );
    section("The forced duplicate", lead, &contents)
}
