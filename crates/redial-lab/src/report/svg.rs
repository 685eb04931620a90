//! Pictures, written by hand: each shape has a class, and the page's style sheet says what
//! colour that is in light and in dark.

use std::fmt::Write as _;

pub(crate) use super::markup::escape;
use super::series::Series;

/// A picture under construction.
pub(crate) struct Svg {
    text: String,
}

/// Where a text's given point lies in it.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// An empty picture. `slug` must be the only one on its page; `title` and `description` are
    /// what a screen reader reads out instead of showing it.
    pub(crate) fn new(slug: &str, size: (f64, f64), title: &str, description: &str) -> Self {
        let (width, height) = size;
        let mut text = String::new();
        let _ = write!(
            text,
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-labelledby=\"{slug}-t {slug}-d\"><title id=\"{slug}-t\">{}</title>\
             <desc id=\"{slug}-d\">{}</desc>",
            escape(title),
            escape(description)
        );
        Self { text }
    }

    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = write!(
            self.text,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    /// A rectangle with a tooltip, or without one where `tip` is empty.
    pub(crate) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), tip: &str) {
        let ((x, y), (width, height)) = (at, size);
        let _ = write!(
            self.text,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\""
        );
        self.close("rect", tip);
    }

    /// A rectangle whose colour is `share` (0 to 1) of the way from the page to the full colour.
    pub(crate) fn heat(&mut self, at: (f64, f64), size: (f64, f64), share: f64, tip: &str) {
        let ((x, y), (width, height)) = (at, size);
        let _ = write!(
            self.text,
            "<rect class=\"heat\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" fill-opacity=\"{share:.3}\""
        );
        self.close("rect", tip);
    }

    pub(crate) fn circle(&mut self, class: &str, at: (f64, f64), radius: f64, tip: &str) {
        let (x, y) = at;
        let _ = write!(
            self.text,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\""
        );
        self.close("circle", tip);
    }

    /// A path in SVG's own words.
    pub(crate) fn path(&mut self, class: &str, data: &str) {
        let _ = write!(self.text, "<path class=\"{class}\" d=\"{data}\"/>");
    }

    /// The mark of a series, with a tooltip.
    pub(crate) fn mark(&mut self, series: Series, at: (f64, f64), tip: &str) {
        let (class, shape) = (series.class(), series.shape(at));
        let _ = write!(self.text, "<path class=\"mark {class}\" d=\"{shape}\"");
        self.close("path", tip);
    }

    pub(crate) fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let (x, y) = at;
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = write!(
            self.text,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        );
    }

    fn close(&mut self, tag: &str, tip: &str) {
        let _ = if tip.is_empty() {
            write!(self.text, "/>")
        } else {
            write!(self.text, "><title>{}</title></{tag}>", escape(tip))
        };
    }

    /// The finished element.
    pub(crate) fn finish(mut self) -> String {
        self.text.push_str("</svg>");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_text_becomes_markup() {
        let mut svg = Svg::new("s", (1.0, 2.0), "<t>", "a & b");
        svg.text("c", (0.0, 0.0), Anchor::End, "</svg>");
        svg.rect("c", (0.0, 0.0), (1.0, 1.0), "<tip>");
        let text = svg.finish();
        assert_eq!(text.matches("</svg>").count(), 1, "{text}");
        assert!(text.contains("<title>&lt;tip&gt;</title></rect>"), "{text}");
    }

    #[test]
    fn a_picture_has_a_name_and_a_description() {
        let text = Svg::new("x", (10.0, 20.0), "Name", "What it shows").finish();
        assert!(text.contains("aria-labelledby=\"x-t x-d\""), "{text}");
        assert!(text.contains("<title id=\"x-t\">Name</title>"), "{text}");
        assert!(
            text.contains("<desc id=\"x-d\">What it shows</desc>"),
            "{text}"
        );
    }
}
