//! Heat maps: one metric, a small map of base and factor for each jitter and attempt timeout.

use super::grid::{BASES_MS, FACTORS, GridCell, JITTERS, Metric, TIMEOUTS_MS};
use crate::report::{
    room::Room,
    scale::Scale,
    svg::{Anchor, Svg},
};

const HEIGHT: f64 = 24.0;
const TOP: f64 = 66.0;
/// How high a small map is, and how far below it the next one begins.
const MAP: f64 = HEIGHT * FACTORS.len() as f64;
const BELOW: f64 = 46.0;

/// The widths of a picture's parts.
struct HeatLayout {
    cell: f64,
    left: f64,
    gap: f64,
    /// Whether there is room to say what is a base, and what a factor.
    is_named: bool,
}

impl HeatLayout {
    fn of(room: Room) -> Self {
        match room {
            Room::Wide => Self {
                cell: 50.0,
                left: 66.0,
                gap: 18.0,
                is_named: true,
            },
            Room::Narrow => Self {
                cell: 34.0,
                left: 20.0,
                gap: 4.0,
                is_named: false,
            },
        }
    }

    /// How wide a small map is.
    fn map(&self) -> f64 {
        self.cell * BASES_MS.len() as f64
    }
}

/// All small maps of one metric, on one colour scale.
pub(super) fn draw(metric: Metric, cells: &[GridCell], room: Room) -> String {
    let layout = HeatLayout::of(room);
    let (low, high) = range(metric, cells);
    let columns = TIMEOUTS_MS.len() as f64;
    let width = layout.left + (layout.map() + layout.gap) * columns - layout.gap + 3.0;
    let height = TOP + (MAP + BELOW) * JITTERS.len() as f64 + 6.0;
    let title = format!(
        "{} by jitter, attempt timeout, backoff base and factor",
        metric.name()
    );
    let text = |value| metric.text(Some(value));
    let description = format!("from {} to {}", text(low), text(high));
    let slug = format!("heat-{}", metric.name().replace(' ', "-"));
    let mut svg = Svg::new(&room.slug(&slug), (width, height), &title, &description);
    legend(&mut svg, metric, (low, high), width);
    // A floor under the colour, so that the palest cell is still visible.
    let shade = Scale::linear((low, high), (0.04, 0.96));
    for (column, timeout_ms) in TIMEOUTS_MS.into_iter().enumerate() {
        let x = layout.left + (layout.map() + layout.gap) * column as f64;
        let text = format!("timeout {timeout_ms} ms");
        svg.text(
            "label",
            (x + layout.map() / 2.0, TOP - 14.0),
            Anchor::Middle,
            &text,
        );
        for (row, jitter) in JITTERS.into_iter().enumerate() {
            let y = TOP + (MAP + BELOW) * row as f64;
            if column == 0 {
                let text = format!("jitter {jitter}");
                svg.text("label", (0.0, y + 4.0), Anchor::Start, &text);
            }
            axes(&mut svg, &layout, (x, y + 14.0), column == 0);
            let here = |cell: &&GridCell| {
                cell.setting.jitter == jitter && cell.setting.timeout_ms == timeout_ms
            };
            for cell in cells.iter().filter(here) {
                draw_cell(&mut svg, &layout, metric, cell, (x, y + 14.0), shade);
            }
        }
    }
    svg.finish()
}

fn draw_cell(
    svg: &mut Svg,
    layout: &HeatLayout,
    metric: Metric,
    cell: &GridCell,
    map: (f64, f64),
    shade: Scale,
) {
    let setting = cell.setting;
    let index = |all: &[u64], one| all.iter().position(|value| *value == one).unwrap_or(0) as f64;
    let x = map.0 + layout.cell * index(&BASES_MS, setting.base_ms);
    let y = map.1 + HEIGHT * index(&FACTORS, setting.factor);
    let value = metric.of(&cell.summary);
    let share = value.map_or(0.0, |value| shade.at(value));
    let text = metric.text(value);
    let tip = format!(
        "{}: {text}; jitter {}, timeout {} ms, base {} ms, factor {}",
        metric.name(),
        setting.jitter,
        setting.timeout_ms,
        setting.base_ms,
        setting.factor
    );
    svg.heat((x, y), (layout.cell, HEIGHT), share, &tip);
    let class = if share > 0.5 { "cell on-heat" } else { "cell" };
    let text = text
        .replace(" %", "")
        .replace(" ms", "")
        .replace("100.0", "100");
    svg.text(
        class,
        (x + layout.cell / 2.0, y + HEIGHT / 2.0 + 4.0),
        Anchor::Middle,
        &text,
    );
}

/// Bases below each map, factors beside those of the first column.
fn axes(svg: &mut Svg, layout: &HeatLayout, map: (f64, f64), first: bool) {
    for (index, base) in BASES_MS.into_iter().enumerate() {
        let x = map.0 + layout.cell * (index as f64 + 0.5);
        let text = match index {
            0 if layout.is_named => format!("base {base}"),
            _ => base.to_string(),
        };
        svg.text("tick", (x, map.1 + MAP + 13.0), Anchor::Middle, &text);
    }
    if !first {
        return;
    }
    for (index, factor) in FACTORS.into_iter().enumerate() {
        let y = map.1 + HEIGHT * (index as f64 + 0.5) + 4.0;
        let text = match index {
            0 if layout.is_named => format!("factor {factor}"),
            _ => factor.to_string(),
        };
        svg.text("tick", (map.0 - 8.0, y), Anchor::End, &text);
    }
}

/// The colour scale in ten steps, with its two ends in numbers.
fn legend(svg: &mut Svg, metric: Metric, (low, high): (f64, f64), width: f64) {
    let (step, steps) = (14.0, 10);
    let left = width - 4.0 - step * f64::from(steps) - 60.0;
    svg.text(
        "tick",
        (left - 6.0, 19.0),
        Anchor::End,
        &metric.text(Some(low)),
    );
    for index in 0..steps {
        let share = 0.04 + 0.92 * (f64::from(index) / f64::from(steps - 1));
        svg.heat(
            (left + step * f64::from(index), 8.0),
            (step, 14.0),
            share,
            "",
        );
    }
    let right = left + step * f64::from(steps) + 6.0;
    svg.text(
        "tick",
        (right, 19.0),
        Anchor::Start,
        &metric.text(Some(high)),
    );
}

/// The smallest and the largest value there is. Both latencies share one scale: on a scale of its
/// own the median's noise, a millisecond, would look like a finding.
fn range(metric: Metric, cells: &[GridCell]) -> (f64, f64) {
    let metrics: &[_] = match metric {
        Metric::P50 | Metric::P99 => &[Metric::P50, Metric::P99],
        Metric::Success => &[Metric::Success],
        Metric::ExtraLoad => &[Metric::ExtraLoad],
    };
    let of = |cell: &GridCell| {
        metrics
            .iter()
            .filter_map(|metric| metric.of(&cell.summary))
            .collect()
    };
    let values = cells.iter().flat_map(|cell| -> Vec<f64> { of(cell) });
    let ends = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if ends.0 > ends.1 { (0.0, 1.0) } else { ends }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{harness::events::Summary, sweep::grid};

    fn cells() -> Vec<GridCell> {
        let cell = |(index, setting)| {
            let summary = Summary {
                calls: 1000,
                ok: index as u64,
                ..Summary::default()
            };
            GridCell { setting, summary }
        };
        grid::settings().into_iter().enumerate().map(cell).collect()
    }

    #[test]
    fn every_cell_is_drawn_with_its_number_on_one_scale() {
        let mut cells = cells();
        assert_eq!(range(Metric::Success, &cells), (0.0, 0.134));
        assert_eq!(range(Metric::P50, &cells), (0.0, 1.0), "no call was ok");
        cells[3].summary.latency_us.p50 = Some(7.0);
        cells[9].summary.latency_us.p99 = Some(9.0);
        assert_eq!(range(Metric::P50, &cells), (7.0, 9.0));
        assert_eq!(range(Metric::P99, &cells), (7.0, 9.0));
        let [text, narrow] =
            [Room::Wide, Room::Narrow].map(|room| draw(Metric::Success, &cells, room));
        assert_eq!(narrow.matches("class=\"heat\"").count(), 135 + 10);
        assert_eq!(text.matches("class=\"heat\"").count(), 135 + 10);
        assert!(text.contains(">13.4</text>"), "the last cell's number");
        assert!(
            text.contains("fill-opacity=\"0.960\"><title>success: 13.4 %"),
            "the darkest"
        );
    }
}
