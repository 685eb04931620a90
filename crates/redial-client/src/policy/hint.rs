//! When a call comes back that a server has asked to wait (`retry_after_ms`): no sooner than asked, and
//! spread over as long again, so that those who were refused together don't come back together.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

/// How long beyond what was asked to wait: anything up to as long again, as long as `room` allows.
pub(crate) fn jitter(asked: Duration, room: Duration, rng: &mut impl Rng) -> Duration {
    asked.min(room).mul_f64(rng.random::<f64>())
}

/// When a call is sent again that a server asked, `now`, not to send before `asked`. The jitter leaves at
/// least half of what is left until the deadline then: it alone ends no call.
pub(crate) fn come_back_at(
    asked: Instant,
    now: Instant,
    deadline: Instant,
    rng: &mut impl Rng,
) -> Instant {
    let wait = asked.saturating_duration_since(now);
    let room = deadline.saturating_duration_since(asked) / 2;
    asked + jitter(wait, room, rng)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::clock;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    proptest! {
        /// A call that comes back too soon, or that its jitter alone has ended.
        #[test]
        fn no_sooner_than_asked_and_no_later_than_twice_that(
            asked_ms in 0u64..100_000,
            left_ms in 0u64..200_000,
            seed: u64,
        ) {
            let now = clock::now();
            let (asked, deadline) = (now + ms(asked_ms), now + ms(left_ms));
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let at = come_back_at(asked, now, deadline, &mut rng);
            prop_assert!(at >= asked && at <= now + ms(2 * asked_ms));
            prop_assert_eq!(at < deadline, asked < deadline);
        }
    }

    /// A fleet that was refused in one moment, and comes back in one.
    #[test]
    fn a_fleet_comes_back_evenly_over_as_long_as_it_was_asked_to_wait() {
        let (now, mut rng) = (clock::now(), ChaCha8Rng::seed_from_u64(3));
        let (asked, deadline) = (now + ms(100), now + ms(10_000));
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let at = come_back_at(asked, now, deadline, &mut rng);
            tenths[(at - asked).as_millis() as usize / 10] += 1;
        }
        assert!(
            tenths.iter().all(|count| (800..1_200).contains(count)),
            "{tenths:?}"
        );
    }
}
