//! The picture that matters most: effects found per call made, where one is right.

use crate::{
    demo::run::Run,
    harness::mode::Mode,
    report::{
        scale::{Scale, thousands},
        svg::{Anchor, Svg},
    },
};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 800.0;
const TOP: f64 = 28.0;
const ROW: f64 = 34.0;
const TICKS: [f64; 8] = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];

/// One row per scenario, with a mark for each way of calling.
pub(crate) fn draw(runs: &[Run]) -> String {
    let rows = scenarios(runs);
    let bottom = TOP + ROW * rows.len() as f64;
    let title = "Effects found per call made";
    let mut svg = Svg::new("effects", (WIDTH, bottom + 48.0), title, &description(runs));
    let least = runs.iter().map(ratio).fold(0.8, f64::min).max(0.01);
    let most = runs.iter().map(ratio).fold(1.5, f64::max) * 1.1;
    // Logarithmic, since it is a ratio: a quarter too much and ten times too much are both visible.
    let x = Scale::log((least, most), (LEFT, RIGHT));
    let ticks = TICKS
        .into_iter()
        .filter(|tick| (least..most).contains(tick));
    axis(&mut svg, x, ticks, bottom);
    for (row, name) in rows.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        svg.text("label", (LEFT - 14.0, y + 4.5), Anchor::End, name);
        let here: Vec<_> = runs
            .iter()
            .filter(|run| run.scenario.name == *name)
            .collect();
        draw_row(&mut svg, x, y, &here);
    }
    svg.finish()
}

fn axis(svg: &mut Svg, x: Scale, ticks: impl Iterator<Item = f64>, bottom: f64) {
    for tick in ticks {
        let right = (tick - 1.0).abs() < 1e-9;
        let class = if right { "right" } else { "grid" };
        svg.line(class, (x.at(tick), TOP - 6.0), (x.at(tick), bottom));
        let label = tick.to_string();
        svg.text("tick", (x.at(tick), bottom + 16.0), Anchor::Middle, &label);
    }
    let at = (x.at(1.0), TOP - 12.0);
    svg.text("note right-text", at, Anchor::Middle, "each call once");
    let at = (f64::midpoint(LEFT, RIGHT), bottom + 36.0);
    let text = "effects found on the server per call made (log scale)";
    svg.text("axis", at, Anchor::Middle, text);
}

fn draw_row(svg: &mut Svg, x: Scale, y: f64, runs: &[&Run]) {
    let find = |mode| runs.iter().find(|run| run.mode == mode);
    let (Some(table), Some(naive)) = (find(Mode::Session), find(Mode::Naive)) else {
        return;
    };
    let (from, to) = (x.at(ratio(table)), x.at(ratio(naive)));
    svg.line("stem", (from, y), (to, y));
    let (cx, r) = (to, 6.0);
    svg.path(
        "naive",
        &format!("M{:.1} {y:.1}l{r} -{r}l{r} {r}l-{r} {r}z", cx - r),
    );
    svg.circle(Mode::Session.name(), (from, y), 5.5, &tip(table));
    let text = if naive.effects > naive.summary.calls {
        format!(
            "{:.2}: {} effects of {} calls",
            ratio(naive),
            thousands(naive.effects),
            thousands(naive.summary.calls)
        )
    } else {
        format!("both {:.2}", ratio(naive))
    };
    let (at, anchor) = if to > f64::midpoint(LEFT, RIGHT) {
        (to - 14.0, Anchor::End)
    } else {
        (to + 14.0, Anchor::Start)
    };
    let above = if matches!(anchor, Anchor::End) {
        -5.0
    } else {
        4.5
    };
    svg.text("note", (at, y + above), anchor, &text);
}

/// Effects per call that was made.
fn ratio(run: &Run) -> f64 {
    run.effects as f64 / run.summary.calls.max(1) as f64
}

fn tip(run: &Run) -> String {
    let (effects, calls) = (thousands(run.effects), thousands(run.summary.calls));
    format!("{effects} effects of {calls} calls")
}

fn scenarios(runs: &[Run]) -> Vec<&'static str> {
    let mut names: Vec<_> = runs.iter().map(|run| run.scenario.name).collect();
    names.dedup();
    names
}

fn description(runs: &[Run]) -> String {
    let one = |run: &Run| {
        format!(
            "{} {}: {:.2}",
            run.scenario.name,
            run.mode.name(),
            ratio(run)
        )
    };
    runs.iter().map(one).collect::<Vec<_>>().join("; ")
}
