//! Tables on a page, and which of their words are good news.

use super::svg::escape;

/// So many letters are not broken.
const LONG: usize = 20;

/// What a verdict says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    /// It was not judged.
    Open,
}

/// The tone of a verdict, by its word.
pub(crate) fn tone(verdict: &str) -> Tone {
    match verdict {
        "exact" | "ok" | "holds" => Tone::Good,
        "" | "-" | "too few rounds" | "too noisy" | "not known here" => Tone::Open,
        _ => Tone::Bad,
    }
}

/// A table whose columns after the first `words` are numbers; a column called `verdict` is
/// coloured.
pub(crate) fn html<const N: usize>(
    headings: &[impl AsRef<str>; N],
    rows: impl Iterator<Item = [String; N]>,
    words: usize,
) -> String {
    let is_verdict = |column: usize| headings[column].as_ref() == "verdict";
    let class = |column: usize| match column {
        _ if is_verdict(column) => " class=\"verdict\"",
        0 => "",
        _ if column < words => "",
        _ => " class=\"number\"",
    };
    let head = headings.iter().enumerate();
    let head = head.map(|(n, text)| {
        let text = escape(text.as_ref());
        format!("<th scope=\"col\"{}>{text}</th>", class(n))
    });
    let cell = |(column, text): (usize, String)| match column {
        0 => name(&text),
        _ if is_verdict(column) => verdict(&text),
        _ => format!("<td{}>{}</td>", class(column), escape(&text)),
    };
    let row = |row: [String; N]| {
        let cells = row.into_iter().enumerate().map(cell);
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    scrolling(&format!(
        "<thead><tr>{}</tr></thead><tbody>{}</tbody>",
        head.collect::<String>(),
        rows.map(row).collect::<String>()
    ))
}

/// What a row is about. A long name may be broken on a phone, but not into single words.
fn name(text: &str) -> String {
    let class = match text.chars().count() {
        0..=LONG => "",
        _ => " class=\"long\"",
    };
    format!("<th scope=\"row\"{class}>{}</th>", escape(text))
}

/// A verdict's cell, in its colour.
pub(crate) fn verdict(text: &str) -> String {
    let class = match tone(text) {
        Tone::Good => "exact",
        Tone::Bad => "wrong",
        Tone::Open => "open",
    };
    format!("<td class=\"{class}\">{}</td>", escape(text))
}

/// A table that can be scrolled sideways where there is no room for it, by keys, too; shadows at its ends show
/// that there is more.
pub(crate) fn scrolling(rows: &str) -> String {
    format!("<div class=\"scroll\" tabindex=\"0\"><table>{rows}</table></div>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_has_its_colour_wherever_it_stands() {
        let rows = [
            ["a", "exact", "1"],
            ["b", "2 too many", "1,000"],
            ["c", "too few rounds", ""],
        ];
        let rows = rows.map(|row| row.map(str::to_owned));
        let table = html(&["id", "verdict", "effects"], rows.into_iter(), 1);
        for needle in [
            "<th scope=\"row\">a</th><td class=\"exact\">exact</td><td class=\"number\">1</td>",
            "<td class=\"wrong\">2 too many</td>",
            "<td class=\"open\">too few rounds</td>",
        ] {
            assert!(table.contains(needle), "{needle}: {table}");
        }
    }
}
