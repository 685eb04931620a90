//! The table: a line for each figure, with its spread over the seeds.

use comfy_table::Table;
use serde_json::{Value, json};

use super::record::{Fleet, StormFigure, StormRecord, Unit, Wanted};
use crate::report::{scale::thousands, terminal};

/// Its headings.
pub(super) const HEADINGS: [&str; 5] = ["storm", "verdict", "naive", "redial", "wanted"];

/// One line.
pub(super) struct FigureRow {
    letter: char,
    name: String,
    unit: Unit,
    naive: SeedSpread,
    redial: SeedSpread,
    wanted: Option<Wanted>,
    holds: bool,
}

/// A figure over all seeds, from the least to the most; what never came is the most.
#[derive(Clone, Debug, Default, PartialEq)]
struct SeedSpread(Vec<Option<f64>>);

/// The lines of one storm.
pub(super) fn rows(
    letter: char,
    naive: &[&StormRecord],
    redial: &[&StormRecord],
) -> Vec<FigureRow> {
    let shape = redial.first().or_else(|| naive.first());
    let figures = shape.map_or(&[][..], |record| &record.figures);
    let row = |figure: &StormFigure| {
        let of = |records: &[&StormRecord]| SeedSpread::of(records, &figure.name);
        let judged = redial.iter().flat_map(|record| &record.figures);
        FigureRow {
            letter,
            name: figure.name.clone(),
            unit: figure.unit,
            naive: of(naive),
            redial: of(redial),
            wanted: figure.wanted,
            holds: judged
                .filter(|judged| judged.name == figure.name)
                .all(|judged| judged.holds),
        }
    };
    figures.iter().map(row).collect()
}

/// All lines, for a terminal of 80 columns.
pub(super) fn terminal(rows: &[FigureRow]) -> Table {
    terminal::of(&HEADINGS, rows.iter().map(FigureRow::cells), HEADINGS.len())
}

/// What the oracle says, in a sentence.
pub(super) fn exactness(records: &[StormRecord]) -> String {
    let repeated = |fleet| {
        let records = records.iter().filter(|record| record.fleet == fleet);
        records.map(|record| record.count.repeated).sum::<u64>()
    };
    format!(
        "Executed more than once: {} calls of the naive fleet, {} of Redial's.",
        thousands(repeated(Fleet::Naive)),
        thousands(repeated(Fleet::Redial))
    )
}

impl FigureRow {
    pub(super) fn letter(&self) -> char {
        self.letter
    }

    pub(super) fn cells(&self) -> [String; 5] {
        let unit = self.unit;
        let wanted = self.wanted.map(|bound| unit.bound(bound));
        let verdict = match (self.wanted, self.holds) {
            (None, _) => "",
            (_, true) => "holds",
            (_, false) => "fails",
        };
        [
            format!("{} {}", self.letter, self.name),
            verdict.to_owned(),
            self.naive.text(unit),
            self.redial.text(unit),
            wanted.unwrap_or_default(),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let bounds =
            |spread: &SeedSpread| json!({ "least": spread.least(), "most": spread.most() });
        json!({
            "scenario": self.letter.to_string(),
            "figure": self.name,
            "unit": self.unit,
            "naive": bounds(&self.naive),
            "redial": bounds(&self.redial),
            "wanted": self.wanted,
            "holds": self.wanted.map(|_| self.holds),
        })
    }
}

impl SeedSpread {
    fn of(records: &[&StormRecord], name: &str) -> Self {
        let figures = records.iter().flat_map(|record| &record.figures);
        let values = figures.filter(|figure| figure.name == name);
        let mut values: Vec<_> = values.map(|figure| figure.value).collect();
        values.sort_by(|one, other| {
            let of = |value: &Option<f64>| value.unwrap_or(f64::INFINITY);
            of(one).total_cmp(&of(other))
        });
        Self(values)
    }

    fn least(&self) -> Option<f64> {
        self.0.first().copied().flatten()
    }

    fn most(&self) -> Option<f64> {
        self.0.last().copied().flatten()
    }

    fn text(&self, unit: Unit) -> String {
        let (Some(least), Some(most)) = (self.0.first(), self.0.last()) else {
            return String::new();
        };
        let (from, until) = (unit.value(*least), unit.value(*most));
        match (least, most) {
            _ if from == until => until,
            (Some(least), Some(_)) => format!("{}–{until}", unit.digits(*least)),
            _ => format!("{from}–never"),
        }
    }
}
