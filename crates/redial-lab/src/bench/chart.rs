//! Bars: how much of the bare echo's speed is left, and what a call costs.

use super::{
    plan::Shape,
    results::{Figures, Measurements},
    stats::Spread,
};
use crate::report::{
    scale::{Scale, rate},
    svg::{Anchor, Svg},
};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 8.0;
const STEP: f64 = 30.0;
const BAR: f64 = 18.0;

/// One bar.
struct Bar<'a> {
    row: &'a Figures,
    value: Spread,
    label: String,
}

/// Calls per second in one shape.
pub(crate) fn speeds(results: &Measurements, shape: Shape) -> String {
    let figures = results.figures();
    let rows = figures.iter().filter(|row| row.cell.shape == shape);
    let bars = rows.map(|row| Bar {
        row,
        value: row.calls_per_s,
        label: match row.of_echo {
            Some(ratio) => format!("{} · {:.2}", rate(row.calls_per_s.median), ratio.median),
            None => rate(row.calls_per_s.median),
        },
    });
    let title = format!("Calls per second, {}", shape.name());
    draw("speed", shape, &title, &bars.collect::<Vec<_>>())
}

/// The server's CPU per call in one shape.
pub(crate) fn costs(results: &Measurements, shape: Shape) -> String {
    let figures = results.figures();
    let rows = figures.iter().filter(|row| row.cell.shape == shape);
    let bars = rows.filter_map(|row| {
        let value = row.server_cpu?;
        let label = format!("{:.3} µs", value.median);
        Some(Bar { row, value, label })
    });
    let title = format!("CPU time of the server per call, {}", shape.name());
    draw("cost", shape, &title, &bars.collect::<Vec<_>>())
}

fn draw(kind: &str, shape: Shape, title: &str, bars: &[Bar<'_>]) -> String {
    let slug = format!("{kind}-{}", shape.name().replace([' ', ','], ""));
    let size = (WIDTH, TOP * 2.0 + STEP * bars.len() as f64);
    let one = |bar: &Bar<'_>| format!("{}: {}", bar.row.cell.what.name(), bar.label);
    let described: Vec<_> = bars.iter().map(one).collect();
    let mut svg = Svg::new(&slug, size, title, &described.join("; "));
    let most = bars.iter().map(|bar| bar.value.most);
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    let x = Scale::linear((0.0, most), (LEFT, RIGHT));
    for (index, bar) in bars.iter().enumerate() {
        let top = TOP + STEP * index as f64;
        let middle = top + STEP / 2.0;
        let name = bar.row.cell.what.name();
        svg.text("label", (LEFT - 10.0, middle + 4.0), Anchor::End, name);
        let at = (LEFT, middle - BAR / 2.0);
        let length = x.at(bar.value.median) - LEFT;
        let tip = format!("{name}: {}", bar.label);
        svg.rect(bar.row.cell.what.class(), at, (length, BAR), &tip);
        // From the least to the most of all rounds.
        let ends = [bar.value.least, bar.value.most].map(|value| x.at(value));
        svg.line("sent", (ends[0], middle), (ends[1], middle));
        let at = (ends[1].max(LEFT + length) + 8.0, middle + 4.0);
        svg.text("tick halo", at, Anchor::Start, &bar.label);
    }
    svg.line("base", (LEFT, TOP), (LEFT, size.1 - TOP));
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{plan::BUSY, results::tests::results};

    #[test]
    fn every_cell_of_a_shape_has_its_bar() {
        let results = results(&[1e6, 2e6]);
        for picture in [speeds(&results, BUSY), costs(&results, BUSY)] {
            assert_eq!(picture.matches("<rect").count(), 11, "{picture}");
            assert!(!picture.contains("NaN"), "{picture}");
        }
    }
}
