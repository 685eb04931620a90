//! The pictures of the report: curves over time or over percentiles, as SVG without a script.

use std::fmt::Write as _;

use super::markup::escape;

/// The size of a picture. It is drawn for a phone of 390 px, where it is a little larger than this, so that
/// letters of 12 px can be read there; elsewhere it may be larger.
const SIZE: (f64, f64) = (340.0, 196.0);

/// Where its curves are: the last label may reach as far to the right as the first one to the left.
const LEFT: f64 = 54.0;
const RIGHT: f64 = 310.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 168.0;

/// How values become positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) is_log: bool,
}

impl Axis {
    /// From 0 to at least this.
    pub(crate) fn linear(most: f64) -> Self {
        Self {
            least: 0.0,
            most: if most > 0.0 { most } else { 1.0 },
            is_log: false,
        }
    }

    /// The powers of ten around these, both above 0.
    pub(crate) fn log(least: f64, most: f64) -> Self {
        let least = 10f64.powf(least.max(1e-9).log10().floor());
        let most = 10f64.powf(most.max(1e-9).log10().ceil());
        Self {
            least,
            most: most.max(least * 10.0),
            is_log: true,
        }
    }

    /// From 0 at its beginning to 1 at its end.
    fn share(self, value: f64) -> f64 {
        let value = value.clamp(self.least, self.most);
        if self.is_log {
            return (value / self.least).ln() / (self.most / self.least).ln();
        }
        (value - self.least) / (self.most - self.least)
    }

    /// Values to label: powers of ten, or a few multiples of 1, 2 or 5.
    fn ticks(self) -> Vec<f64> {
        if self.is_log {
            let powers = self.least.log10().round() as i32..=self.most.log10().round() as i32;
            return powers.map(|power| 10f64.powi(power)).collect();
        }
        let raw = self.most / 4.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .find(|step| step * power >= raw);
        let step = step.unwrap_or(10.0) * power;
        let count = (self.most / step + 1e-3).floor() as u32;
        (0..=count).map(|n| f64::from(n) * step).collect()
    }
}

/// A line through points, with the class that the style sheet colours.
pub(crate) struct Curve<'a> {
    pub(crate) class: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture. `name` is what it shows, for those who don't see it; labels are text for values.
pub(crate) struct Chart<'a> {
    pub(crate) name: &'a str,
    pub(crate) x: (Axis, &'a dyn Fn(f64) -> String),
    pub(crate) y: (Axis, &'a dyn Fn(f64) -> String),
    pub(crate) curves: Vec<Curve<'a>>,
}

impl Chart<'_> {
    pub(crate) fn svg(&self) -> String {
        let (width, height) = SIZE;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(self.name)
        );
        let ((x, x_label), (y, y_label)) = (self.x, self.y);
        for tick in y.ticks() {
            let at = BOTTOM - y.share(tick) * (BOTTOM - TOP);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                escape(&y_label(tick))
            );
        }
        for tick in x.ticks() {
            let at = LEFT + x.share(tick) * (RIGHT - LEFT);
            let _ = write!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 18.0,
                escape(&x_label(tick))
            );
        }
        for curve in &self.curves {
            let _ = write!(
                svg,
                "<path class=\"curve {}\" d=\"{}\"/>",
                curve.class,
                path(curve, x, y)
            );
        }
        svg + "</svg>"
    }
}

fn path(curve: &Curve<'_>, x: Axis, y: Axis) -> String {
    let mut path = String::new();
    for (index, (at, value)) in curve.points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let at = LEFT + x.share(*at) * (RIGHT - LEFT);
        let value = BOTTOM - y.share(*value) * (BOTTOM - TOP);
        let _ = write!(path, "{command}{at:.1} {value:.1}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_begin_and_end_at_their_ends_and_have_round_ticks() {
        let linear = Axis::linear(83.0);
        assert_eq!(linear.ticks(), [0.0, 50.0]);
        assert_eq!(
            (linear.share(0.0), linear.share(83.0), linear.share(100.0)),
            (0.0, 1.0, 1.0)
        );
        let log = Axis::log(25.0, 1500.0);
        assert_eq!(log.ticks(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert!((log.share(1000.0) - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_no_reason_for_a_nan() {
        for axis in [Axis::linear(0.0), Axis::log(0.0, 0.0), Axis::log(5.0, 5.0)] {
            let chart = Chart {
                name: "<nothing>",
                x: (axis, &|value| format!("{value}")),
                y: (axis, &|value| format!("{value} < \"")),
                curves: vec![Curve {
                    class: "p50",
                    points: vec![(0.0, 0.0), (5.0, f64::MAX)],
                }],
            };
            let svg = chart.svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(
                svg.contains("&lt;nothing&gt;") && svg.contains("&lt; &quot;<"),
                "{svg}"
            );
        }
    }
}
