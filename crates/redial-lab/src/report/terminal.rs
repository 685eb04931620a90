//! How tables look in a terminal: in 80 columns, with rules above and below, and verdicts in their colours.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle,
};

use super::table::{Tone, tone};

/// How wide a table may be. What does not fit is broken into lines within its cells.
pub(crate) const COLUMNS: u16 = 80;

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_separator(RULE)
    .bottom_border(RULE);

/// An empty table with these columns; a heading may have several lines. Colours are for terminals alone, and
/// not for those whose users ask for none (`NO_COLOR`, <https://no-color.org>).
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(COLUMNS);
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        table.force_no_tty();
    }
    table.set_header(
        headings
            .iter()
            .map(|text| Cell::new(text).add_attribute(Attribute::Bold)),
    );
    let last = headings.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 1 }));
    }
    table
}

/// A table whose columns after the first `words` are numbers; a column called `verdict` is coloured.
pub(crate) fn of<const N: usize>(
    headings: &[impl AsRef<str>; N],
    rows: impl Iterator<Item = [String; N]>,
    words: usize,
) -> Table {
    let headings = headings.each_ref().map(AsRef::as_ref);
    let mut table = table(&headings);
    for row in rows {
        let cells = row.into_iter().zip(headings);
        table.add_row(cells.map(|(text, heading)| match heading {
            "verdict" => verdict(&text),
            _ => Cell::new(text),
        }));
    }
    let numbers = table.column_iter_mut().zip(headings).skip(words);
    for (column, _) in numbers.filter(|(_, heading)| *heading != "verdict") {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A verdict, in its colour.
pub(crate) fn verdict(text: &str) -> Cell {
    let cell = Cell::new(text);
    match tone(text) {
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Open => cell,
    }
}

/// A table of figures, each with what it is.
pub(crate) fn figures<'a>(figures: impl IntoIterator<Item = (&'a str, String)>) -> Table {
    let mut table = table(&["", "found"]);
    for (name, value) in figures {
        table.add_row([name, &value]);
    }
    numbers_from(&mut table, 1);
    table
}

/// Sets the columns from this one on flush right, as numbers are.
pub(crate) fn numbers_from(table: &mut Table, column: usize) {
    for column in table.column_iter_mut().skip(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Breaks a text into lines of 80 columns.
pub(crate) fn wrap(text: &str) -> String {
    wrapped(text, usize::from(COLUMNS))
}

/// Breaks a text into lines of so many columns.
pub(crate) fn wrapped(text: &str, columns: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        let width = line.chars().count() + 1 + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if width <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Fails with the text if a line of it is wider than a terminal.
    pub(crate) fn assert_fits(text: &str) {
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(COLUMNS)), "{widest:?}:\n{text}");
    }

    #[test]
    fn numbers_are_flush_right_and_words_and_verdicts_flush_left() {
        let rows = [["a", "1", "exact"], ["b", "1,000", "2 too many"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let text = of(&["id", "effects", "verdict"], rows.into_iter(), 1).to_string();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines[1], "id  effects  verdict", "{text}");
        assert_eq!(lines[3], "a         1  exact", "{text}");
        assert_eq!(lines[4], "b     1,000  2 too many", "{text}");
    }

    /// Lines that a terminal breaks where it likes.
    #[test]
    fn what_is_too_wide_is_broken_within_its_cells() {
        let cell = |n: usize| "word ".repeat(n);
        let row = [cell(12), cell(9), cell(20)];
        let text = of(&["one", "two", "three"], [row].into_iter(), 1).to_string();
        assert_fits(&text);
        assert_eq!(text.matches("word").count(), 41, "{text}");
        assert_fits(&wrap(&cell(50)));
    }

    /// Escape sequences in a file, and in a terminal whose user wants none.
    #[test]
    fn verdicts_are_coloured_by_their_tone() {
        let row = |verdict: &str| [String::new(), verdict.to_owned()];
        let coloured = |verdict: &str| {
            let mut table = of(&["", "verdict"], [row(verdict)].into_iter(), 1);
            assert!(!table.to_string().contains('\u{1b}'), "no terminal");
            table.enforce_styling().to_string()
        };
        assert!(coloured("exact").contains("\u{1b}[38;5;10mexact"));
        assert!(coloured("2 lost").contains("\u{1b}[38;5;9m2 lost"));
        assert!(!coloured("too few rounds").contains("\u{1b}[38"));
    }
}
