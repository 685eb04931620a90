//! What the small panels have in common: an axis for shares of calls, and where it lies.

use crate::report::{
    scale::Scale,
    svg::{Anchor, Svg},
};

pub(super) const WIDTH: f64 = 270.0;
pub(super) const LEFT: f64 = 46.0;
pub(super) const RIGHT: f64 = 258.0;
pub(super) const TOP: f64 = 12.0;

/// From 0 to 100 % of the calls, upwards from `bottom`, with what the other axis shows.
pub(super) fn frame(svg: &mut Svg, bottom: f64, across: &str) -> Scale {
    let y = Scale::linear((0.0, 1.0), (bottom, TOP));
    for tick in y.ticks(4.0) {
        svg.line("grid", (LEFT, y.at(tick)), (RIGHT, y.at(tick)));
        let label = format!("{:.0} %", tick * 100.0);
        svg.text("tick", (LEFT - 6.0, y.at(tick) + 4.0), Anchor::End, &label);
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    svg.text("axis", (middle, bottom + 38.0), Anchor::Middle, across);
    y
}
