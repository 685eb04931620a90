//! How a storm went: four panels over one axis of time.

use super::record::{Fleet, StormMark, StormRecord, StormSeries};
use crate::report::{
    scale::{Scale, duration, thousands},
    series::{Series, legend},
    svg::{Anchor, Svg},
};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 884.0;
/// Of one panel, with its heading and the space below.
const PANEL: f64 = 150.0;
const HEADING: f64 = 26.0;
const PLOT: f64 = 108.0;
const TOP: f64 = 18.0;
/// Steps over which rates are averaged.
const SMOOTH: usize = 5;
/// The least and the most of what is shown of times, in milliseconds.
const TIMES: (f64, f64) = (1.0, 60_000.0);

/// What a panel shows.
struct StormPanel {
    heading: &'static str,
    is_time: bool,
    curves: Vec<StormCurve>,
}

/// A curve: its class, and a value for each step.
struct StormCurve(String, Vec<Option<f64>>);

/// What the curves are.
pub(super) fn key() -> String {
    let offered = "<svg class=\"icon long\" viewBox=\"0 0 32 16\" aria-hidden=\"true\"><path class=\"curve offered\" \
                   d=\"M0 8H32\"/></svg>";
    legend(
        [
            (Series::Session.curve_key(), "Redial, as it is by default"),
            (
                Series::Naive.curve_key(),
                "naive: a fixed timeout, retries as new calls, first come, first served",
            ),
            (offered.to_owned(), "calls that were begun"),
        ]
        .map(|(key, text)| (key, text.to_owned())),
    )
}

/// The picture of a storm of both fleets, or of the one that there is.
pub(super) fn draw(records: &[&StormRecord]) -> String {
    let Some(shape) = records.last() else {
        return String::new();
    };
    let panels = panels(records);
    let until = shape.lasted_s.max(1.0);
    let height = TOP + PANEL * panels.len() as f64 + 24.0;
    let title = format!("Storm {}: {}", shape.letter, shape.title);
    let slug = format!("storm-{}", shape.letter);
    let mut svg = Svg::new(&slug, (WIDTH, height), &title, &describe(records));
    let x = Scale::linear((0.0, until), (LEFT, RIGHT));
    for (number, panel) in panels.iter().enumerate() {
        let top = TOP + PANEL * number as f64 + HEADING;
        marks(&mut svg, &shape.marks, x, top, number == 0);
        draw_panel(&mut svg, panel, x, top, step_s(&shape.series));
    }
    let bottom = TOP + PANEL * panels.len() as f64;
    for tick in x.ticks(10.0) {
        let text = format!("{} s", (tick * 1000.0).round() / 1000.0);
        svg.text("tick", (x.at(tick), bottom + 6.0), Anchor::Middle, &text);
    }
    svg.finish()
}

fn panels(records: &[&StormRecord]) -> Vec<StormPanel> {
    let of = |class: &str, what: fn(&StormSeries) -> &Vec<u32>| {
        curves(records, class, |series| rates(what(series), series))
    };
    let times = |class: &str, what: fn(&StormSeries) -> &Vec<Option<f64>>| {
        curves(records, class, |series| what(series).clone())
    };
    let offered = records.last().map(|record| {
        let values = rates(&record.series.offered, &record.series);
        StormCurve("curve offered".to_owned(), values)
    });
    let mut goodput: Vec<_> = offered.into_iter().collect();
    goodput.extend(of("", |series| &series.goodput));
    let mut latency = times("thin", |series| &series.p50_ms);
    latency.extend(times("", |series| &series.p99_ms));
    let mut extra = of("thin", |series| &series.sheds);
    extra.extend(of("", |series| &series.retries));
    vec![
        StormPanel {
            heading: "goodput, in calls a second",
            is_time: false,
            curves: goodput,
        },
        StormPanel {
            heading: "how long calls took: the slowest of a hundred, and the median (thin)",
            is_time: true,
            curves: latency,
        },
        StormPanel {
            heading: "how long calls were queued that began to run, on average",
            is_time: true,
            curves: times("", |series| &series.queue_ms),
        },
        StormPanel {
            heading: "retries, and refusals (thin), in attempts a second",
            is_time: false,
            curves: extra,
        },
    ]
}

/// A curve of each fleet.
fn curves(
    records: &[&StormRecord],
    class: &str,
    values: impl Fn(&StormSeries) -> Vec<Option<f64>>,
) -> Vec<StormCurve> {
    let curve = |record: &&StormRecord| {
        let class = format!("curve {} {class}", record.fleet.class());
        StormCurve(class.trim_end().to_owned(), values(&record.series))
    };
    records.iter().map(curve).collect()
}

/// A moving average, a second's worth.
fn rates(counts: &[u32], series: &StormSeries) -> Vec<Option<f64>> {
    let mean = |at: usize| {
        let from = at.saturating_sub(SMOOTH / 2);
        let window = &counts[from..(at + SMOOTH / 2 + 1).min(counts.len())];
        let sum: u32 = window.iter().sum();
        Some(f64::from(sum) / (window.len() as f64 * step_s(series)))
    };
    (0..counts.len()).map(mean).collect()
}

fn step_s(series: &StormSeries) -> f64 {
    series.step_ms as f64 / 1000.0
}

/// Shades what happens meanwhile.
fn marks(svg: &mut Svg, marks: &[StormMark], x: Scale, top: f64, is_named: bool) {
    for mark in marks {
        let (from, until) = (x.at(mark.from_s), x.at(mark.until_s));
        svg.rect("storm-mark", (from, top), (until - from, PLOT), &mark.text);
        if is_named {
            let at = (from + 4.0, top - HEADING - 2.0);
            svg.text("lost-text", at, Anchor::Start, &mark.text);
        }
    }
}

fn draw_panel(svg: &mut Svg, panel: &StormPanel, x: Scale, top: f64, step: f64) {
    let values = panel.curves.iter().flat_map(|StormCurve(_, values)| values);
    let most = values.flatten().copied().fold(0.0, f64::max);
    let range = (top + PLOT, top + 4.0);
    let y = if panel.is_time {
        let most = 10f64.powf(most.max(10.0).log10().ceil());
        Scale::log((TIMES.0, most.min(TIMES.1)), range)
    } else {
        Scale::linear((0.0, most.max(1.0) * 1.05), range)
    };
    svg.text("axis", (LEFT, top - 6.0), Anchor::Start, panel.heading);
    for tick in y.ticks(4.0) {
        svg.line("grid", (LEFT, y.at(tick)), (RIGHT, y.at(tick)));
        let text = if panel.is_time {
            duration(tick * 1000.0)
        } else {
            thousands(tick as u64)
        };
        svg.text("tick", (LEFT - 8.0, y.at(tick) + 4.0), Anchor::End, &text);
    }
    svg.line("base", (LEFT, top + PLOT), (RIGHT, top + PLOT));
    for StormCurve(class, values) in &panel.curves {
        svg.path(class, &path(values, x, y, step));
    }
}

/// A line through all values, with gaps where values are missing, up to the end of the axis.
fn path(values: &[Option<f64>], x: Scale, y: Scale, step: f64) -> String {
    let mut data = String::new();
    let (mut is_drawn, mut latest) = (false, f64::NEG_INFINITY);
    for (at, value) in values.iter().enumerate() {
        let across = x.at((at as f64 + 0.5) * step);
        if across <= latest {
            break;
        }
        latest = across;
        let Some(value) = value else {
            is_drawn = false;
            continue;
        };
        let verb = if is_drawn { 'L' } else { 'M' };
        data.push_str(&format!("{verb}{across:.1} {:.1}", y.at(*value)));
        is_drawn = true;
    }
    data
}

fn describe(records: &[&StormRecord]) -> String {
    let one = |record: &&StormRecord| {
        let fleet = match record.fleet {
            Fleet::Naive => "The naive fleet",
            Fleet::Redial => "Redial",
        };
        let figures = record.figures.iter();
        let figures = figures.map(|figure| {
            let value = figure.unit.value(figure.value);
            format!("{}: {value}", figure.name)
        });
        format!("{fleet}: {}", figures.collect::<Vec<_>>().join(", "))
    };
    records.iter().map(one).collect::<Vec<_>>().join(". ")
}
