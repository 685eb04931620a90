//! What a command prints on stdout.

use std::{
    borrow::Cow,
    io::{ErrorKind, Write, stdout},
};

use crate::failure::{Exit, Failure};

/// Whether what is printed is still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Reads,
    /// It has seen enough, as `head` has. What prints again and again ends.
    HasGone,
}

/// Prints a text and the end of its line. A reader that has seen enough is no failure.
///
/// # Errors
///
/// That stdout takes nothing: whatever the command did, it did.
pub(crate) fn print(text: &str) -> Result<Reader, Failure> {
    let mut out = stdout().lock();
    let text = text.strip_suffix('\n').unwrap_or(text);
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::HasGone),
        Err(error) => Err(unwritable(error)),
    }
}

/// Stdout takes nothing.
pub(crate) fn unwritable(error: std::io::Error) -> Failure {
    let error = anyhow::Error::new(error).context("cannot write to standard output");
    Failure::new(Exit::Failed, error)
}

/// As [`print`], for people: [`visible`].
///
/// # Errors
///
/// As [`print`].
pub(crate) fn show(text: &str) -> Result<Reader, Failure> {
    print(&visible(text))
}

/// The text of a server as a terminal may show it: what would move its cursor, change its colours or turn
/// its letters around is spelled out, as `\u{1b}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    spelled_out(text, |char| char != '\n' && is_control(char))
}

/// The same in one line.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    spelled_out(text, is_control)
}

/// Controls, and what writes from right to left (UAX #9).
fn is_control(char: char) -> bool {
    char.is_control() || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn spelled_out(text: &str, is_hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_hidden(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown.into()
}

/// Rows under headings, each column as wide as its widest cell; columns named in `right` stand at the
/// right.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.chars().count());
        widths.fold(headings[column].chars().count(), usize::max)
    };
    let widths: Vec<_> = (0..headings.len()).map(widest).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, (cell, &width)) in cells.zip(&widths).enumerate() {
            let cell = if right.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            line += if column == 0 { "" } else { "  " };
            line += &cell;
        }
        line.trim_end().to_owned()
    };
    let first = line(&mut headings.iter().copied());
    let rows = rows
        .iter()
        .map(|row| line(&mut row.iter().map(String::as_str)));
    let lines: Vec<_> = std::iter::once(first).chain(rows).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["inc".to_owned(), "7".to_owned()],
            vec!["é".to_owned(), "100".to_owned()],
        ];
        let text = table(&["name", "n"], &rows, &[1]);
        assert_eq!(text, "name    n\ninc     7\né     100");
    }

    /// Kind: a text from elsewhere that a terminal obeys.
    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        let text = "é\u{1b}[2J\r\n\t\u{9b}1m\u{7f}\u{202e}";
        assert_eq!(
            visible(text),
            "é\\u{1b}[2J\\r\n\\t\\u{9b}1m\\u{7f}\\u{202e}"
        );
        assert!(one_line(text).contains("\\r\\n"));
        assert!(matches!(visible("a\nb"), Cow::Borrowed("a\nb")));
    }
}
