//! Tables on a page.

use super::svg::escape;

/// A table whose columns after the first `words` are numbers; a column called `verdict` is
/// coloured.
pub(crate) fn html<const N: usize>(
    headings: &[impl AsRef<str>; N],
    rows: impl Iterator<Item = [String; N]>,
    words: usize,
) -> String {
    let class = |column: usize| match (headings[column].as_ref(), column < words) {
        ("verdict", _) => " class=\"verdict\"",
        (_, true) => "",
        _ => " class=\"number\"",
    };
    let head = headings.iter().enumerate();
    let head = head.map(|(n, text)| {
        let text = escape(text.as_ref());
        format!("<th scope=\"col\"{}>{text}</th>", class(n))
    });
    let cell = |(column, text): (usize, String)| {
        let text = escape(&text);
        match (headings[column].as_ref(), text.as_str()) {
            ("verdict", "exact" | "holds") => format!("<td class=\"exact\">{text}</td>"),
            ("verdict", "") => "<td></td>".to_owned(),
            ("verdict", _) => format!("<td class=\"wrong\">{text}</td>"),
            _ if column == 0 => format!("<th scope=\"row\">{text}</th>"),
            _ => format!("<td{}>{text}</td>", class(column)),
        }
    };
    let row = |row: [String; N]| {
        let cells = row.into_iter().enumerate().map(cell);
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    format!(
        "<div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        head.collect::<String>(),
        rows.map(row).collect::<String>()
    )
}
