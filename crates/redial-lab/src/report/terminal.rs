//! How tables look in a terminal: rules above and below, none between the rows. And how a command
//! ends that checks something.

use std::{fmt::Display, process::ExitCode};

use comfy_table::{Attribute, Cell, LineStyle, Table, TableStyle};

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_separator(RULE)
    .bottom_border(RULE);

/// Says what is wrong; the exit code says whether anything is.
pub(crate) fn verdict(problems: &[impl Display]) -> ExitCode {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    match problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// An empty table with these columns.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(
        headings
            .iter()
            .map(|text| Cell::new(text).add_attribute(Attribute::Bold)),
    );
    table
}
