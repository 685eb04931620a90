//! What the simulation leaves of a storm, as it prints it.

use serde::{Deserialize, Serialize};

/// Who sends a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fleet {
    Naive,
    Redial,
}

/// Both, in the order of the table.
pub(super) const FLEETS: [Fleet; 2] = [Fleet::Naive, Fleet::Redial];

/// What is left of one storm.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StormRecord {
    pub(super) letter: char,
    pub(super) title: String,
    pub(super) fleet: Fleet,
    pub(super) seed: u64,
    pub(super) lasted_s: f64,
    pub(super) marks: Vec<StormMark>,
    pub(super) figures: Vec<StormFigure>,
    pub(super) count: CallCount,
    pub(super) violations: Vec<String>,
    pub(super) series: StormSeries,
}

/// What happened for a while.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StormMark {
    pub(super) from_s: f64,
    pub(super) until_s: f64,
    pub(super) text: String,
}

/// A figure, and what is wanted of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StormFigure {
    pub(super) name: String,
    pub(super) unit: Unit,
    /// `None` for what never came.
    pub(super) value: Option<f64>,
    pub(super) wanted: Option<Wanted>,
    pub(super) holds: bool,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    Seconds,
    Millis,
    Share,
    Times,
    Count,
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

/// What the calls of a storm came to.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct CallCount {
    pub(super) calls: u64,
    pub(super) repeated: u64,
}

/// A value for each step.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct StormSeries {
    pub(super) step_ms: u64,
    pub(super) offered: Vec<u32>,
    pub(super) goodput: Vec<u32>,
    pub(super) p50_ms: Vec<Option<f64>>,
    pub(super) p99_ms: Vec<Option<f64>>,
    pub(super) queue_ms: Vec<Option<f64>>,
    pub(super) sheds: Vec<u32>,
    pub(super) retries: Vec<u32>,
}

impl Fleet {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Redial => "redial",
        }
    }

    /// The class of its curves.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Redial => "session",
        }
    }
}

impl StormRecord {
    /// What is not as it should be: of the naive fleet only that it stands, where it is to go down.
    pub(super) fn problems(&self) -> Vec<String> {
        let name = format!(
            "storm {}, {}, seed {}",
            self.letter,
            self.fleet.name(),
            self.seed
        );
        let figures = self.figures.iter();
        let broken = figures.filter(|figure| self.is_judged() && !figure.holds);
        let broken = broken.map(|figure| {
            let wanted = figure.wanted.map_or_else(String::new, |bound| {
                format!("; expected {}", figure.unit.bound(bound))
            });
            let value = figure.unit.value(figure.value);
            format!("{name}: {}: {value}{wanted}", figure.name)
        });
        let violations = self.violations.iter();
        let violations = violations.map(|violation| format!("{name}: {violation}"));
        broken.chain(violations).collect()
    }

    /// Whether its figures have to hold. Those of the naive fleet are there to be compared, but for the stall,
    /// which would prove nothing if that fleet came back.
    fn is_judged(&self) -> bool {
        self.fleet == Fleet::Redial || self.letter == 'a'
    }
}

impl Unit {
    /// A value in it.
    pub(super) fn value(self, value: Option<f64>) -> String {
        let Some(value) = value else {
            return "never".to_owned();
        };
        let digits = self.digits(value);
        format!("{digits}{}", self.suffix())
    }

    /// The number alone.
    pub(super) fn digits(self, value: f64) -> String {
        match self {
            Self::Share => {
                let percent = value * 100.0;
                // Next to all, or to nothing, digits count.
                if percent > 99.0 && percent < 100.0 || percent > 0.0 && percent < 1.0 {
                    format!("{percent:.2}")
                } else {
                    format!("{percent:.1}")
                }
            }
            Self::Count => format!("{value:.0}"),
            Self::Millis if value >= 100.0 => format!("{value:.0}"),
            Self::Millis => format!("{value:.1}"),
            Self::Seconds => format!("{value:.1}"),
            Self::Times if value >= 100.0 => format!("{value:.0}"),
            Self::Times => format!("{value:.2}"),
        }
    }

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Seconds => " s",
            Self::Millis => " ms",
            Self::Share => " %",
            Self::Times => " x",
            Self::Count => "",
        }
    }

    /// What is wanted, in it.
    pub(super) fn bound(self, bound: Wanted) -> String {
        let (sign, value) = match bound {
            Wanted::AtMost(value) => ("<=", value),
            Wanted::AtLeast(value) => (">=", value),
        };
        let value = if self == Self::Share {
            value * 100.0
        } else {
            value
        };
        // Floats of a bound are short, once what a product adds is cut off.
        let value = (value * 1e6).round() / 1e6;
        format!("{sign} {value}{}", self.suffix())
    }
}
