//! Numbers in the experiments' own flags, each with the range that it must be in.

use std::ops::RangeInclusive;

/// Seeds of random generators.
pub(crate) const SEEDS: RangeInclusive<u64> = 0..=u64::MAX;
/// How often something is measured.
pub(crate) const ROUNDS: RangeInclusive<u64> = 1..=99;
/// Calls of a run that lasts seconds.
pub(crate) const CALLS_PER_RUN: RangeInclusive<u64> = 1..=5000;

/// A parser of whole numbers in this range, whose error names both ends.
pub(crate) fn whole(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("expected a whole number from {least} to {most}")
            })
    }
}
