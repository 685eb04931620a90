//! What a command prints on stdout.

use std::io::{ErrorKind, Write, stdout};

use anyhow::Context;

use crate::failure::{Exit, Failure};

/// Prints a text and the end of its line. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
///
/// That stdout takes nothing: whatever the command did, it did.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    let text = text.strip_suffix('\n').unwrap_or(text);
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let written = Err::<(), _>(error).context("cannot write to standard output");
            written.map_err(|error| Failure::new(Exit::Failed, error))
        }
        _ => Ok(()),
    }
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
}
