//! How fast it went when nothing else was going on: calls are counted in slices of time, of which
//! the fast ones are those in which the machine did nothing else.

use std::time::Duration;

/// How long a slice is: many calls even one at a time, and seldom interrupted on a machine that
/// does something else now and then.
const SLICE: Duration = Duration::from_millis(10);

/// The share of all slices that are faster than what is reported.
const FASTER: f64 = 0.1;

/// The calls of each slice.
#[derive(Clone, Debug)]
pub struct Slices {
    counts: Vec<u64>,
}

impl Slices {
    /// Room for so long a time.
    #[must_use]
    pub fn of(length: Duration) -> Self {
        let count = length.as_nanos() / SLICE.as_nanos();
        Self {
            counts: vec![0; count as usize],
        }
    }

    /// So many calls completed at this time. Those beyond the last slice are left out.
    pub fn add(&mut self, at: Duration, calls: u64) {
        let index = at.as_nanos() as u64 / SLICE.as_nanos() as u64;
        if let Some(count) = self.counts.get_mut(index as usize) {
            *count += calls;
        }
    }

    /// Calls per second in the slowest slice of the fastest tenth.
    #[must_use]
    pub fn undisturbed_per_s(mut self) -> f64 {
        self.counts.sort_unstable_by(|a, b| b.cmp(a));
        let rank = (self.counts.len() as f64 * FASTER) as usize;
        let count = self.counts.get(rank).copied().unwrap_or(0);
        count as f64 / SLICE.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slows_some_slices_down_does_not_count() {
        let mut slices = Slices::of(Duration::from_secs(1));
        for slice in 0..200 {
            let calls = if slice % 3 == 0 { 100 } else { 40 };
            let at = Duration::from_millis(slice * 10);
            slices.add(at, calls / 2);
            slices.add(at + Duration::from_millis(9), calls / 2);
        }
        assert_eq!(slices.undisturbed_per_s(), 10_000.0);
        assert_eq!(Slices::of(Duration::ZERO).undisturbed_per_s(), 0.0);
    }
}
