//! The page's two tables.

use crate::{
    demo::{duplicate::Duplicate, run::Run, table, verdict::EffectCheck},
    harness::{events::Event, mode::Mode},
    report::{page::section, svg::escape},
};

/// Two rows for each scenario: with a session and naively.
pub(super) fn results(runs: &[Run]) -> String {
    let headings = table::HEADINGS
        .iter()
        .enumerate()
        .map(|(column, heading)| format!("<th scope=\"col\"{}>{heading}</th>", class(column)));
    format!(
        "<div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        headings.collect::<String>(),
        runs.iter().map(row).collect::<String>()
    )
}

fn row(run: &Run) -> String {
    let mode = run.mode.name();
    let cells = table::cells(run)
        .into_iter()
        .enumerate()
        .map(|(column, text)| {
            let text = escape(&text);
            match (column, run.mode) {
                (0, Mode::Session) => format!("<th scope=\"rowgroup\" rowspan=\"2\">{text}</th>"),
                (0, _) => String::new(),
                (1, _) => format!("<td><i class=\"key {mode}\"></i>{text}</td>"),
                (table::LAST, _) if run.verdict == EffectCheck::Exact => {
                    format!("<td class=\"exact\">{text}</td>")
                }
                (table::LAST, _) => format!("<td class=\"wrong\">{text}</td>"),
                _ => format!("<td{}>{text}</td>", class(column)),
            }
        });
    format!("<tr class=\"{mode}\">{}</tr>", cells.collect::<String>())
}

/// Words are set flush left, numbers flush right.
fn class(column: usize) -> &'static str {
    match column {
        0..table::WORDS => "",
        table::LAST => " class=\"verdict\"",
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
         <code>{}</code></p><div class=\"scroll\"><table><thead><tr>\
         <th scope=\"col\">sending</th><th scope=\"col\">what it did</th>\
         <th scope=\"col\">the reply, byte for byte</th></tr></thead><tbody>{}</tbody></table></div>\
         <p>The counter afterwards: <strong>{} {count}</strong>.</p>",
        escape(&duplicate.requests[0]),
        rows.collect::<String>(),
        duplicate.effects
    );
    section("The forced duplicate", lead, &contents)
}
