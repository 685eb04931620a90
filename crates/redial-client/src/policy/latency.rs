//! How long calls took lately, in little room: what hedges and timeouts go by.

use std::time::Duration;

/// Answers that must have been seen before the percentile means anything.
const ENOUGH: u64 = 100;

/// When so many have been seen, all count half as much: what was long ago is forgotten.
const HALVED_AT: u64 = 4096;

/// The same where what has changed is to show within about ten times as many as are needed.
const HALVED_SOON_AT: u64 = 1024;

/// Buckets per power of two, so that a bucket is at most a quarter wider than its lower bound.
const PER_OCTAVE: u32 = 4;

/// From 1 µs to more than an hour.
const BUCKETS: usize = 32 * PER_OCTAVE as usize;

/// How long calls took lately: a histogram with logarithmic buckets, which takes 256 bytes from its first
/// sample on.
#[derive(Debug)]
pub(crate) struct Latency {
    counts: Box<[u16]>,
    total: u64,
    halved_at: u64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self {
            counts: Box::new([]),
            total: 0,
            halved_at: HALVED_AT,
        }
    }

    /// One that forgets sooner.
    pub(crate) fn forgetful() -> Self {
        Self {
            halved_at: HALVED_SOON_AT,
            ..Self::new()
        }
    }

    pub(crate) fn record(&mut self, took: Duration) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS].into();
        }
        self.counts[bucket(took)] += 1;
        self.total += 1;
        if self.total >= self.halved_at {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u64::from(*count)).sum();
        }
    }

    /// What 95 % took no longer than, as far as buckets can tell, once there are enough.
    pub(crate) fn p95(&self) -> Option<Duration> {
        self.exceeded_by_one_in(20)
    }

    /// The same of 99 %.
    pub(crate) fn p99(&self) -> Option<Duration> {
        self.exceeded_by_one_in(100)
    }

    fn exceeded_by_one_in(&self, share: u64) -> Option<Duration> {
        if self.total < ENOUGH {
            return None;
        }
        let mut above = self.total / share;
        let reached = self.counts.iter().rposition(|count| {
            let count = u64::from(*count);
            let is_within = count > above;
            above = above.saturating_sub(count);
            is_within
        });
        reached.map(upper_bound)
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let octave = micros.ilog2();
    let within = match octave {
        0 => 0,
        1 => (micros & 1) * 2,
        _ => micros >> (octave - 2) & 3,
    };
    ((octave * PER_OCTAVE) as usize + within as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let (octave, within) = (bucket / PER_OCTAVE as usize, bucket % PER_OCTAVE as usize);
    let quarters = (PER_OCTAVE as usize + within + 1) as f64 / f64::from(PER_OCTAVE);
    Duration::from_secs_f64((1u64 << octave) as f64 * quarters / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn the_percentile_is_that_of_the_sorted_list_within_a_bucket() {
        let mut latency = Latency::new();
        for n in 1..100 {
            latency.record(us(n * 100));
            assert_eq!(latency.p95(), None, "{n} are not enough");
        }
        latency.record(us(10_000));
        let p95 = latency.p95().unwrap();
        assert!((us(9_500)..us(12_000)).contains(&p95), "{p95:?}");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut latency = Latency::new();
        (0..10_000).for_each(|_| latency.record(us(100_000)));
        (0..100_000).for_each(|_| latency.record(us(100)));
        assert!(latency.p95().unwrap() < us(200));
        (0..1_000).for_each(|_| latency.record(us(100_000)));
        assert!(latency.p95().unwrap() >= us(100_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// A twentieth of the samples, or a hundredth, took longer than the one it is of.
        #[test]
        fn the_percentile_is_that_of_the_sorted_samples(
            mut samples in prop::collection::vec(0u64..1 << 20, 0..300),
            shift in 0u32..21,
        ) {
            let mut latency = Latency::new();
            // Many that are equal, or nearly, as well as none.
            samples.iter_mut().for_each(|sample| *sample >>= shift);
            samples.iter().for_each(|sample| latency.record(us(*sample)));
            samples.sort_unstable_by(|one, other| other.cmp(one));
            let enough = (samples.len() as u64 >= ENOUGH).then_some(());
            for (found, share) in [(latency.p95(), 20), (latency.p99(), 100)] {
                let sorted = enough.map(|()| samples[samples.len() / share]);
                prop_assert_eq!(found.is_some(), sorted.is_some());
                if let (Some(found), Some(sorted)) = (found, sorted) {
                    // What lasts less than 1 µs counts as that; the lowest buckets are wider.
                    let (sorted, wider) = (sorted.max(1), if sorted < 4 { 2.0 } else { 1.26 });
                    prop_assert!(found >= us(sorted), "{found:?} for {sorted} us");
                    prop_assert!(found <= us(sorted).mul_f64(wider), "{found:?} for {sorted} us");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_duration_lies_below_the_bound_of_its_bucket_and_not_far(micros in 1u64..1 << 31) {
            let bound = upper_bound(bucket(us(micros)));
            prop_assert!(us(micros) <= bound);
            prop_assert!(bound <= us(micros).mul_f64(2.0) , "{bound:?}");
            prop_assert!(micros < 4 || bound <= us(micros).mul_f64(1.26), "{bound:?}");
        }
    }
}
