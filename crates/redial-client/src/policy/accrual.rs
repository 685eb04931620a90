//! Failure accrual: an endpoint that fails several times in a row is left out for a while, and tried
//! again after a pause that grows, as in finagle.

use std::time::{Duration, Instant};

use rand::Rng;

use super::backoff::Backoff;
use crate::clock::after;

/// What keeps an endpoint from being called.
#[derive(Debug, Default)]
pub(crate) struct FailureAccrual {
    /// How often in a row it was left out.
    ejections: u32,
    until: Option<Instant>,
}

impl FailureAccrual {
    /// The endpoint has failed `streak` times since it last worked. At `threshold` it is left out for
    /// as long as the backoff says.
    pub(crate) fn on_failure(
        &mut self,
        streak: u32,
        threshold: u32,
        backoff: Backoff,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        if streak <= 1 {
            // It worked in between.
            *self = Self::default();
        }
        let is_out = self.until.is_some_and(|until| now < until);
        if streak < threshold || is_out {
            return;
        }
        self.ejections += 1;
        let pause = backoff.delay(self.ejections, Duration::ZERO, rng);
        self.until = Some(after(now, pause));
    }

    /// Whether it is left out now, where it has failed `streak` times since it last worked.
    pub(crate) fn is_ejected(&self, streak: u32, now: Instant) -> bool {
        streak > 0 && self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{clock, policy::backoff::Jitter};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn backoff() -> Backoff {
        Backoff::new(ms(100), 2.0, ms(1_000), Jitter::None).unwrap()
    }

    /// An endpoint called although it fails, or left out for ever, or for one slip.
    #[test]
    fn it_is_left_out_from_the_threshold_on_and_probed_after_pauses_that_grow() {
        let (start, mut rng) = (clock::now(), ChaCha8Rng::seed_from_u64(1));
        let mut accrual = FailureAccrual::default();
        for streak in 1..3 {
            accrual.on_failure(streak, 3, backoff(), start, &mut rng);
            assert!(!accrual.is_ejected(streak, start), "{streak} of 3");
        }
        let mut now = start;
        for (streak, pause) in [
            (3, 100),
            (4, 200),
            (5, 400),
            (6, 800),
            (7, 1_000),
            (8, 1_000),
        ] {
            accrual.on_failure(streak, 3, backoff(), now, &mut rng);
            assert!(accrual.is_ejected(streak, now + ms(pause - 1)), "{streak}");
            now += ms(pause);
            assert!(
                !accrual.is_ejected(streak, now),
                "it is probed after {pause} ms"
            );
        }
        assert!(!accrual.is_ejected(0, now), "it works again");
        accrual.on_failure(1, 3, backoff(), now, &mut rng);
        assert!(!accrual.is_ejected(1, now), "one failure says little");
        accrual.on_failure(2, 3, backoff(), now, &mut rng);
        accrual.on_failure(3, 3, backoff(), now, &mut rng);
        assert!(
            accrual.is_ejected(3, now + ms(99)),
            "and the pauses begin anew"
        );
        assert!(!accrual.is_ejected(3, now + ms(100)));
    }

    /// Several connections that fail at one moment, counted as several rounds.
    #[test]
    fn failures_while_it_is_left_out_make_the_pause_no_longer() {
        let (now, mut rng) = (clock::now(), ChaCha8Rng::seed_from_u64(1));
        let mut accrual = FailureAccrual::default();
        for streak in 3..10 {
            accrual.on_failure(streak, 3, backoff(), now, &mut rng);
        }
        assert!(!accrual.is_ejected(10, now + ms(100)));
    }
}
