//! Series: what is drawn of one thing has one colour and one shape, in every picture and every legend.

/// What a mark may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// Calls of a session.
    Session,
    /// Calls with plain ids.
    Plain,
    /// Calls whose attempts have an id each.
    Naive,
    /// Calls that are sent a second time when they take long.
    Hedged,
    /// The same calls without that.
    Unhedged,
}

impl Series {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] = [
        Self::Session,
        Self::Plain,
        Self::Naive,
        Self::Hedged,
        Self::Unhedged,
    ];

    /// The class by which the style sheet knows its colour, and how its line is dashed.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Plain => "plain",
            Self::Naive => "naive",
            Self::Hedged => "hedged",
            Self::Unhedged => "unhedged",
        }
    }

    /// Its shape around a point, as the data of a path.
    pub(crate) fn shape(self, (x, y): (f64, f64)) -> String {
        match self {
            Self::Session => format!("M{:.1} {y:.1}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", x - 5.0),
            Self::Plain => format!("M{:.1} {:.1}h9v9h-9z", x - 4.5, y - 4.5),
            Self::Naive => format!("M{:.1} {y:.1}l6 -6l6 6l-6 6z", x - 6.0),
            Self::Hedged => format!("M{:.1} {:.1}h11l-5.5 -10z", x - 5.5, y + 4.5),
            Self::Unhedged => format!("M{:.1} {:.1}h11l-5.5 10z", x - 5.5, y - 4.5),
        }
    }

    /// Its mark, for a legend or a table.
    pub(crate) fn key(self) -> String {
        format!(
            "<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><path class=\"{}\" d=\"{}\"/></svg>",
            self.class(),
            self.shape((8.0, 8.0))
        )
    }

    /// Its mark on its line, for the legend of curves.
    pub(crate) fn curve_key(self) -> String {
        let class = self.class();
        format!(
            "<svg class=\"icon long\" viewBox=\"0 0 32 16\" aria-hidden=\"true\"><path class=\"curve {class}\" \
             d=\"M0 8H32\"/><path class=\"{class}\" d=\"{}\"/></svg>",
            self.shape((16.0, 8.0))
        )
    }
}

/// The colour of a bar, for a legend.
pub(crate) fn swatch(class: &str) -> String {
    format!(
        "<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><rect class=\"{class}\" x=\"2\" y=\"2\" \
         width=\"12\" height=\"12\"/></svg>"
    )
}

/// What keys mean, one beside the other. Texts are HTML.
pub(crate) fn legend(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entry = |(key, text)| format!("<span>{key}{text}</span>");
    let entries: String = entries.into_iter().map(entry).collect();
    format!("<p class=\"legend\">{entries}</p>")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Two series that look alike, and one that looks different in its legend.
    #[test]
    fn each_series_has_a_shape_and_a_colour_of_its_own() {
        let style = include_str!("style.css");
        let mut looks = HashSet::new();
        for series in Series::ALL {
            let class = series.class();
            let colour = style.split(&format!("svg .{class} {{ fill: ")).nth(1);
            let colour = colour.and_then(|rest| rest.split(';').next());
            let colour = colour.unwrap_or_else(|| panic!("no colour for {class}"));
            assert!(looks.insert(colour.to_owned()), "{class}: {colour}");
            assert!(looks.insert(series.shape((8.0, 8.0))), "{class}");
            assert!(series.key().contains(&series.shape((8.0, 8.0))));
            assert!(
                style.contains(&format!("svg .curve.{class} {{ stroke: ")),
                "{class}"
            );
        }
    }
}
