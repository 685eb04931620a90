//! From values to positions on a page, and to text.

/// A linear or logarithmic scale from a domain of values to a range of pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    domain: (f64, f64),
    range: (f64, f64),
    log: bool,
}

impl Scale {
    pub(crate) fn linear(domain: (f64, f64), range: (f64, f64)) -> Self {
        Self {
            domain,
            range,
            log: false,
        }
    }

    /// Both ends of `domain` must be above zero.
    pub(crate) fn log(domain: (f64, f64), range: (f64, f64)) -> Self {
        Self {
            domain,
            range,
            log: true,
        }
    }

    /// Where `value` lies; values outside the domain lie at its ends.
    pub(crate) fn at(self, value: f64) -> f64 {
        let (low, high) = self.domain;
        let value = value.clamp(low, high);
        let share = if self.log {
            (value / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        let share = if share.is_finite() { share } else { 0.0 };
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// Round values to label: powers of ten, or about `wanted` multiples of 1, 2 or 5.
    pub(crate) fn ticks(self, wanted: f64) -> Vec<f64> {
        let (low, high) = self.domain;
        if self.log {
            let first = low.log10().ceil() as i32;
            let last = (high.log10() + 1e-9).floor() as i32;
            return (first..=last).map(|power| 10f64.powi(power)).collect();
        }
        let step = round_up((high - low) / wanted);
        let first = (low / step).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

/// The smallest of 1, 2 or 5 times a power of ten that is not below `raw`.
pub(crate) fn round_up(raw: f64) -> f64 {
    let power = 10f64.powf(raw.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits = |step: &&f64| *step * power >= raw * (1.0 - 1e-9);
    steps.iter().find(fits).unwrap_or(&10.0) * power
}

/// A duration in microseconds, in three digits and the unit that suits it.
pub(crate) fn duration(us: f64) -> String {
    let digits = |value: f64| {
        if value < 9.95 {
            format!("{value:.1}")
        } else {
            format!("{value:.0}")
        }
    };
    if us < 999.5 {
        format!("{us:.0} µs")
    } else if us < 999_500.0 {
        format!("{} ms", digits(us / 1e3))
    } else {
        format!("{} s", digits(us / 1e6))
    }
}

/// A number with a comma before each three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(",")
}

/// So many per second, as text and labels say it.
pub(crate) fn rate(per_s: f64) -> String {
    thousands(per_s.round() as u64)
}

/// Memory, as text and labels say it.
pub(crate) fn memory(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// A whole number, or two where it lies between them.
pub(crate) fn between(least: u64, most: u64) -> String {
    if least == most {
        return thousands(least);
    }
    format!("{} to {}", thousands(least), thousands(most))
}

/// What the pages say of percentiles.
pub(crate) const PERCENTILES: &str = "Percentiles are nearest ranks: p99 is the least time that 99 % of the calls did \
    not exceed. A median is the 50th of them.";

/// The nearest rank: the smallest value that at least `share` of all `count` values do not exceed, where
/// `sorted` holds those that are known; `None` if too many of them are not. All percentiles and medians of
/// this crate are these; the programs read theirs from histograms of three digits, by the same rule.
pub(crate) fn reached(sorted: &[f64], count: usize, share: f64) -> Option<f64> {
    let rank = (share * count as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The 50th percentile; `None` if there are no values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    reached(&values, values.len(), 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_scale_maps_ends_and_middle_and_clamps() {
        let linear = Scale::linear((0.0, 10.0), (100.0, 200.0));
        assert!(close(linear.at(0.0), 100.0) && close(linear.at(5.0), 150.0));
        assert!(close(linear.at(11.0), 200.0) && close(linear.at(-1.0), 100.0));
        let log = Scale::log((0.1, 1000.0), (0.0, 4.0));
        assert!(close(log.at(0.1), 0.0) && close(log.at(10.0), 2.0) && close(log.at(1e9), 4.0));
        let upside_down = Scale::linear((0.0, 1.0), (80.0, 0.0));
        assert!(close(upside_down.at(0.25), 60.0));
    }

    #[test]
    fn an_empty_domain_is_no_reason_for_a_nan() {
        assert!(close(Scale::linear((3.0, 3.0), (0.0, 9.0)).at(3.0), 0.0));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let ticks = Scale::linear((0.0, 83.0), (0.0, 1.0)).ticks(5.0);
        assert_eq!(ticks, [0.0, 20.0, 40.0, 60.0, 80.0]);
        let ticks = Scale::log((0.5, 1000.0), (0.0, 1.0)).ticks(5.0);
        assert_eq!(ticks, [1.0, 10.0, 100.0, 1000.0]);
        assert!(close(round_up(0.03), 0.05) && close(round_up(7.0), 10.0));
    }

    #[test]
    fn durations_change_their_unit() {
        let texts = [0.0, 999.0, 1000.0, 12_345.0, 999_499.0, 1_000_000.0, 12e6].map(duration);
        assert_eq!(
            texts,
            [
                "0 µs", "999 µs", "1.0 ms", "12 ms", "999 ms", "1.0 s", "12 s"
            ]
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn figures_are_rounded_and_not_cut_off() {
        assert_eq!([rate(1999.6), rate(0.2)], ["2,000", "0"]);
        assert_eq!([memory(1023), memory(1075)], ["1.0 MiB", "1.0 MiB"]);
        assert_eq!([between(9, 9), between(999, 1000)], ["9", "999 to 1,000"]);
    }

    #[test]
    fn a_percentile_counts_those_that_never_came() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(reached(&sorted, 4, 0.5), Some(2.0));
        assert_eq!(reached(&sorted, 4, 0.99), Some(4.0));
        assert_eq!(reached(&sorted, 8, 0.5), Some(4.0));
        assert_eq!(reached(&sorted, 8, 0.51), None);
        assert_eq!(reached(&[], 0, 0.5), None);
    }

    /// Two definitions of a percentile: a median between two values is one that was never measured.
    #[test]
    fn a_median_is_the_lower_of_the_two_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
