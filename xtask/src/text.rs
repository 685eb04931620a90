//! Numbers and tables as a terminal shows them, and numbers as flags give them.

use comfy_table::{Attribute, Cell, LineStyle, Table, TableStyle};

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_separator(RULE)
    .bottom_border(RULE);

/// An empty table with these columns.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    let bold = |text| Cell::new(text).add_attribute(Attribute::Bold);
    table
        .load_style(STYLE)
        .set_header(headings.iter().map(bold));
    table
}

/// A number with a comma before each three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// A parser of whole numbers from `least` to `most`, whose error names both.
pub(crate) fn whole(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("expected a whole number from {least} to {most}"))
    }
}
