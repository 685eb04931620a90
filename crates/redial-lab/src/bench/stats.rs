//! The middle and the spread of a few rounds.

use serde::Serialize;

use crate::report::scale::median;

/// The values of all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// None if there are no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        Some(Self {
            median: median(values.iter().copied())?,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    /// The ratios within each round: what slows the machine down for a round slows both.
    pub(crate) fn of_ratios(values: &[f64], to: &[f64]) -> Option<Self> {
        let pairs = values.iter().zip(to);
        Self::of(pairs.filter(|(_, to)| **to > 0.0).map(|(a, b)| a / b))
    }

    /// The middle, and in brackets from the least to the most, if there is more than one value.
    pub(crate) fn text(
        self,
        middle: impl Fn(f64) -> String,
        end: impl Fn(f64) -> String,
    ) -> String {
        let text = middle(self.median);
        if self.least < self.most {
            return format!("{text} ({} to {})", end(self.least), end(self.most));
        }
        text
    }

    /// From the least to the most, as a share of the middle.
    pub(crate) fn width(self) -> f64 {
        (self.most - self.least) / self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_middle_is_a_round_and_not_between_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert!(close(spread.median, 2.0) && close(spread.least, 1.0) && close(spread.most, 4.0));
        assert!(close(spread.width(), 3.0 / 2.0));
        assert!(close(Spread::of([3.0, 9.0, 1.0]).unwrap().median, 3.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // A machine that is half as fast in the second round.
        let ratio = Spread::of_ratios(&[50.0, 25.0, 60.0], &[100.0, 50.0, 100.0]).unwrap();
        assert!(close(ratio.median, 0.5) && close(ratio.most, 0.6));
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }
}
