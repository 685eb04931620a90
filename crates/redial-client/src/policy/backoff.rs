//! How long to wait before the next attempt: a pure function of the attempt and a random number.
//!
//! The kinds of jitter are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS
//! Architecture Blog, 2015), and the proportional one.

use std::{str::FromStr, time::Duration};

use rand::{Rng, RngExt};
use thiserror::Error;

/// How a delay is spread, so that callers that failed together don't return together.
///
/// As text: `full`, `equal`, `decorrelated`, `none`, or `proportional:0.3`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Anything from 0 to the exponential delay. Spreads best; the default.
    Full,
    /// Half of the exponential delay, and anything up to the other half on top.
    Equal,
    /// Anything from the base to three times the delay before this one.
    Decorrelated,
    /// Exactly the exponential delay.
    None,
    /// The exponential delay times 1 ± this fraction, which is from 0 to 1.
    Proportional(f64),
}

/// Exponential backoff: `base * factor^n`, never above `cap`, spread by a [`Jitter`].
///
/// Default: base 50 ms, factor 2, cap 2 s, full jitter.
///
/// ```
/// use std::time::Duration;
/// use redial_client::{Backoff, Jitter};
///
/// let ms = Duration::from_millis;
/// let backoff = Backoff::new(ms(30), 2.0, ms(1000), Jitter::Proportional(0.3))?;
/// assert_eq!(backoff.ceiling(3), ms(120));
/// assert_eq!(backoff.ceiling(30), ms(1000));
/// assert!(Backoff::new(ms(30), 0.5, ms(1000), Jitter::Full).is_err());
/// # Ok::<(), redial_client::BackoffError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    factor: f64,
    cap: Duration,
    jitter: Jitter,
}

/// Why numbers don't make a [`Backoff`].
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// The base is 0, so that every delay would be.
    #[error("the backoff's base is 0; expected more")]
    BaseIsZero,
    /// The base is above the cap.
    #[error("the backoff's base {base:?} is above its cap {cap:?}")]
    BaseAboveCap {
        /// The base.
        base: Duration,
        /// The cap.
        cap: Duration,
    },
    /// The factor is below 1 or not a number, so that delays would shrink.
    #[error("the backoff's factor is {0}; expected a number from 1")]
    Factor(f64),
    /// The fraction of proportional jitter is not from 0 to 1.
    #[error("the proportion of the jitter is {0}; expected a number from 0 to 1")]
    Proportion(f64),
    /// The text names no kind of jitter.
    #[error(
        "{0:?} is no kind of jitter; \
         expected full, equal, decorrelated, none or proportional:P with P from 0 to 1"
    )]
    UnknownJitter(String),
}

impl FromStr for Jitter {
    type Err = BackoffError;

    fn from_str(text: &str) -> Result<Self, BackoffError> {
        Ok(match text {
            "full" => Self::Full,
            "equal" => Self::Equal,
            "decorrelated" => Self::Decorrelated,
            "none" => Self::None,
            _ => {
                let fraction = text.strip_prefix("proportional:").map(str::parse);
                let Some(Ok(fraction)) = fraction else {
                    return Err(BackoffError::UnknownJitter(text.to_owned()));
                };
                Self::Proportional(fraction)
            }
        })
    }
}

impl Backoff {
    /// A backoff of these numbers.
    ///
    /// # Errors
    ///
    /// [`BackoffError`] says which number is wrong and what would be right.
    pub fn new(
        base: Duration,
        factor: f64,
        cap: Duration,
        jitter: Jitter,
    ) -> Result<Self, BackoffError> {
        if base.is_zero() {
            return Err(BackoffError::BaseIsZero);
        }
        if base > cap {
            return Err(BackoffError::BaseAboveCap { base, cap });
        }
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(BackoffError::Factor(factor));
        }
        if let Jitter::Proportional(fraction) = jitter
            && !(0.0..=1.0).contains(&fraction)
        {
            return Err(BackoffError::Proportion(fraction));
        }
        Ok(Self {
            base,
            factor,
            cap,
            jitter,
        })
    }

    /// The delay without jitter after attempt number `attempt`, which counts from 1.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let power = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        self.capped(self.base.as_secs_f64() * self.factor.powi(power))
    }

    /// The delay after attempt number `attempt`, which counts from 1. `previous` is the delay
    /// before that attempt, zero before the first; only decorrelated jitter looks at it.
    pub fn delay(&self, attempt: u32, previous: Duration, rng: &mut impl Rng) -> Duration {
        let ceiling = self.ceiling(attempt).as_secs_f64();
        let seconds = match self.jitter {
            Jitter::Full => between(0.0, ceiling, rng),
            Jitter::Equal => between(ceiling / 2.0, ceiling, rng),
            Jitter::None => ceiling,
            Jitter::Proportional(p) => between(ceiling * (1.0 - p), ceiling * (1.0 + p), rng),
            Jitter::Decorrelated => {
                let base = self.base.as_secs_f64();
                between(base, (previous.as_secs_f64() * 3.0).max(base), rng)
            }
        };
        self.capped(seconds)
    }

    /// The delay after the first attempt, before jitter.
    #[must_use]
    pub fn base(&self) -> Duration {
        self.base
    }

    /// What each delay is multiplied by to give the next.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// How delays are spread.
    #[must_use]
    pub fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// The longest delay there is.
    #[must_use]
    pub fn cap(&self) -> Duration {
        self.cap
    }

    /// Huge powers are infinite as a float, and infinity is no duration.
    fn capped(&self, seconds: f64) -> Duration {
        Duration::try_from_secs_f64(seconds).map_or(self.cap, |delay| delay.min(self.cap))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            factor: 2.0,
            cap: Duration::from_secs(2),
            jitter: Jitter::Full,
        }
    }
}

fn between(low: f64, high: f64, rng: &mut impl Rng) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn jitters() -> impl Strategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::Full),
            Just(Jitter::Equal),
            Just(Jitter::Decorrelated),
            Just(Jitter::None),
            (0.0..=1.0).prop_map(Jitter::Proportional),
        ]
    }

    /// The least and the most that a kind of jitter may give.
    fn bounds(backoff: &Backoff, attempt: u32, previous: Duration) -> (Duration, Duration) {
        let ceiling = backoff.ceiling(attempt);
        match backoff.jitter {
            Jitter::Full => (Duration::ZERO, ceiling),
            Jitter::Equal => (ceiling / 2, ceiling),
            Jitter::None => (ceiling, ceiling),
            Jitter::Proportional(p) => (ceiling.mul_f64(1.0 - p), ceiling.mul_f64(1.0 + p)),
            Jitter::Decorrelated => (backoff.base, backoff.base.max(previous.saturating_mul(3))),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn every_delay_is_inside_its_bounds(
            base_us in 1u64..10_000_000,
            above_us in 0u64..100_000_000,
            factor in 1.0f64..1000.0,
            jitter in jitters(),
            attempt in prop_oneof![1u32..40, Just(u32::MAX)],
            previous_us in 0u64..100_000_000,
            seed: u64,
        ) {
            let (base, previous) = (Duration::from_micros(base_us), Duration::from_micros(previous_us));
            let cap = base + Duration::from_micros(above_us);
            let backoff = Backoff::new(base, factor, cap, jitter).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let delay = backoff.delay(attempt, previous, &mut rng);
            let (low, high) = bounds(&backoff, attempt, previous);
            let rounding = Duration::from_micros(1);
            prop_assert!(delay <= cap, "{delay:?} is above the cap {cap:?}");
            prop_assert!(delay + rounding >= low.min(cap), "{delay:?} is below {low:?}");
            prop_assert!(delay <= high + rounding, "{delay:?} is above {high:?}");
            let again = backoff.delay(attempt, previous, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(delay, again);
        }
    }

    #[test]
    fn grows_by_the_factor_up_to_the_cap() {
        let backoff = Backoff::new(ms(30), 2.0, ms(200), Jitter::None).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let delays: Vec<_> = (1..=5)
            .map(|attempt| backoff.delay(attempt, Duration::ZERO, &mut rng))
            .collect();
        assert_eq!(delays, [ms(30), ms(60), ms(120), ms(200), ms(200)]);
    }

    #[test]
    fn jitter_is_read_from_text() {
        for (text, jitter) in [
            ("full", Jitter::Full),
            ("equal", Jitter::Equal),
            ("decorrelated", Jitter::Decorrelated),
            ("none", Jitter::None),
            ("proportional:0.25", Jitter::Proportional(0.25)),
        ] {
            assert_eq!(text.parse(), Ok(jitter));
        }
        for text in ["", "Full", "proportional", "proportional:x"] {
            let error = text.parse::<Jitter>().unwrap_err().to_string();
            assert!(error.contains("expected full, equal"), "{error}");
        }
    }

    #[test]
    fn bad_numbers_are_named() {
        let new = |base, factor, jitter| {
            Backoff::new(ms(base), factor, ms(100), jitter)
                .unwrap_err()
                .to_string()
        };
        assert!(new(0, 2.0, Jitter::Full).contains("base is 0"));
        assert!(new(101, 2.0, Jitter::Full).contains("above its cap 100ms"));
        for factor in [0.9, -1.0, f64::NAN, f64::INFINITY] {
            assert!(new(1, factor, Jitter::Full).contains("expected a number from 1"));
        }
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(new(1, 2.0, Jitter::Proportional(p)).contains("from 0 to 1"));
        }
    }
}
