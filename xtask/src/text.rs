//! Numbers and tables as a terminal shows them, and numbers as flags give them.

use std::{array, iter};

/// A table with rules above and below, and none between the rows.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let all = || iter::once(&headings).chain(rows);
    let widest = |column: usize| all().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = array::from_fn(|column| widest(column).unwrap_or(0));
    let line = |row: &[String; N]| -> String {
        let cells = row.iter().zip(widths);
        cells
            .map(|(text, width)| format!(" {text:<width$} "))
            .collect()
    };
    let rule = "─".repeat(widths.iter().map(|width| width + 2).sum());
    let mut lines: Vec<_> = all().map(line).collect();
    lines.insert(1, rule.clone());
    format!("{rule}\n{}\n{rule}", lines.join("\n"))
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
