//! Bars: how much of the bare echo's speed is left, and what a call costs.

use super::{
    plan::Shape,
    results::{Figures, Measurements},
    stats::Spread,
};
use crate::report::{
    bars::{self, Bar},
    room::Room,
    scale::rate,
};

/// Calls per second in one shape.
pub(crate) fn speeds(results: &Measurements, shape: Shape, room: Room) -> String {
    let figures = results.figures();
    let rows = figures.iter().filter(|row| row.cell.shape == shape);
    let bars = rows.map(|row| {
        let speed = rate(row.calls_per_s.median);
        let label = match row.of_echo {
            Some(ratio) => format!("{speed} · {:.2}", ratio.median),
            None => speed,
        };
        bar(row, row.calls_per_s, label)
    });
    let title = format!("Calls per second, {}", shape.name());
    bars::draw(
        room,
        &slug("speed", shape),
        &title,
        &bars.collect::<Vec<_>>(),
    )
}

/// The server's CPU per call in one shape.
pub(crate) fn costs(results: &Measurements, shape: Shape, room: Room) -> String {
    let figures = results.figures();
    let rows = figures.iter().filter(|row| row.cell.shape == shape);
    let bars = rows.filter_map(|row| {
        let value = row.server_cpu?;
        Some(bar(row, value, format!("{:.3} µs", value.median)))
    });
    let title = format!("CPU time of the server per call, {}", shape.name());
    bars::draw(
        room,
        &slug("cost", shape),
        &title,
        &bars.collect::<Vec<_>>(),
    )
}

fn bar(row: &Figures, value: Spread, label: String) -> Bar {
    Bar {
        name: row.cell.what.name(),
        class: row.cell.what.class(),
        value: value.median,
        ends: [value.least, value.most],
        label,
    }
}

fn slug(kind: &str, shape: Shape) -> String {
    format!("{kind}-{}", shape.name().replace([' ', ','], ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{plan::BUSY, results::tests::results};

    #[test]
    fn every_cell_of_a_shape_has_its_bar() {
        let results = results(&[1e6, 2e6]);
        for room in [Room::Wide, Room::Narrow] {
            for picture in [speeds(&results, BUSY, room), costs(&results, BUSY, room)] {
                assert_eq!(picture.matches("<rect").count(), 11, "{picture}");
                assert!(!picture.contains("NaN"), "{picture}");
            }
        }
    }
}
