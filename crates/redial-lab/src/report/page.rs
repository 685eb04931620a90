//! The frame around a report: one self-contained file, no script, nothing from elsewhere.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{room::Room, svg::escape, table};

/// What these pages have in common with that of `redial load`.
const BASE: &str = include_str!("../../../redial-cli/src/load/base.css");

/// A page with this title and these contents.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{BASE}{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n\
         </html>\n",
        escape(title),
        include_str!("style.css")
    )
}

/// A section with a heading and a text about what it shows. `lead` is HTML.
pub(crate) fn section(heading: &str, lead: &str, contents: &str) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n<p>{lead}</p>\n{contents}\n</section>\n",
        escape(heading)
    )
}

/// A picture with its caption. Both are HTML.
pub(crate) fn figure(class: &str, caption: &str, picture: &str) -> String {
    let caption = match caption {
        "" => String::new(),
        caption => format!("<figcaption>{caption}</figcaption>"),
    };
    format!("<figure class=\"{class}\">{caption}{picture}</figure>\n")
}

/// A picture that is drawn for a desk and for a phone, with its caption, which is HTML.
pub(crate) fn picture(class: &str, caption: &str, draw: impl Fn(Room) -> String) -> String {
    let both = format!(
        "<div class=\"on-desk\">{}</div><div class=\"on-phone\">{}</div>",
        draw(Room::Wide),
        draw(Room::Narrow)
    );
    figure(class, caption, &both)
}

/// Broken promises, for the top of the page.
pub(crate) fn problems(problems: &[String]) -> String {
    let paragraph = |problem: &String| format!("<p class=\"problem\">{}</p>", escape(problem));
    problems.iter().map(paragraph).collect()
}

/// A table of figures, each with what it is.
pub(crate) fn figures<'a>(figures: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let row = |(name, value)| {
        format!("<tr><th scope=\"row\">{name}</th><td class=\"number\">{value}</td></tr>")
    };
    let rows: String = figures.into_iter().map(row).collect();
    table::scrolling(&format!("<tbody>{rows}</tbody>"))
}

/// Command lines, folded away.
pub(crate) fn commands(commands: &[String]) -> String {
    format!(
        "<details><summary>The command lines</summary><pre>{}</pre></details>",
        escape(&commands.join("\n"))
    )
}

/// Writes the page in one step: a browser never loads half of it.
pub(crate) fn write(file: &Path, page: &str) -> Result<()> {
    let draft = file.with_extension("html.new");
    fs::write(&draft, page)
        .and_then(|()| fs::rename(&draft, file))
        .with_context(|| format!("can't write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_nothing_of_the_network() {
        let page = page("A & B", &figure("wide", "caption", "<svg></svg>"));
        assert!(page.contains("<title>A &amp; B</title>"));
        for needle in [
            "http:", "https:", "src=", "@import", "url(", "<script", "<link",
        ] {
            assert!(!page.contains(needle), "{needle}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }
}
