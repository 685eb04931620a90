//! How tables look in a terminal: rules above and below, none between the rows.

use comfy_table::{Attribute, Cell, CellAlignment, LineStyle, Table, TableStyle};

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_separator(RULE)
    .bottom_border(RULE);

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
