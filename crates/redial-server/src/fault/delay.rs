//! How long a fault rule makes something wait.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::FaultRuleError;

/// The longest delay that a rule can cause, 600 s; the tails of the distributions end here.
pub const MAX_DELAY: Duration = Duration::from_secs(600);

/// How long a delay is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Anything between the two, equally likely.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Memoryless, like the gaps between independent arrivals.
    Exponential {
        /// The average.
        mean: Duration,
    },
    /// Heavy-tailed: P(delay > x) = (scale / x)^shape.
    Pareto {
        /// The shortest.
        scale: Duration,
        /// The smaller, the heavier the tail; the average is infinite up to 1.
        shape: f64,
    },
}

impl Delay {
    pub(super) fn check(self) -> Result<(), FaultRuleError> {
        match self {
            Self::Uniform { min, max } if min > max => Err(FaultRuleError::Range { min, max }),
            Self::Pareto { shape, .. } if !(shape > 0.0 && shape.is_finite()) => {
                Err(FaultRuleError::Shape(shape))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn sample(self, rng: &mut impl Rng) -> Duration {
        // In (0, 1], so that neither the logarithm nor the power meets a zero.
        let unit = 1.0 - rng.random::<f64>();
        let seconds = match self {
            Self::Fixed(delay) => delay.as_secs_f64(),
            Self::Uniform { min, max } => min.as_secs_f64() + (max - min).as_secs_f64() * unit,
            Self::Exponential { mean } => -unit.ln() * mean.as_secs_f64(),
            Self::Pareto { scale, shape } => scale.as_secs_f64() / unit.powf(1.0 / shape),
        };
        Duration::from_secs_f64(seconds.min(MAX_DELAY.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn delays_have_the_distribution_they_name() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut mean_ms = |delay: Delay| {
            let total: Duration = (0..20_000).map(|_| delay.sample(&mut rng)).sum();
            total.as_secs_f64() * 1e3 / 20_000.0
        };
        let ms = Duration::from_millis;
        assert!((mean_ms(Delay::Fixed(ms(7))) - 7.0).abs() < 1e-6);
        assert!(
            (mean_ms(Delay::Uniform {
                min: ms(2),
                max: ms(6)
            }) - 4.0)
                .abs()
                < 0.1
        );
        assert!((mean_ms(Delay::Exponential { mean: ms(5) }) - 5.0).abs() < 0.2);
        // The mean of a Pareto distribution is scale * shape / (shape - 1).
        assert!(
            (mean_ms(Delay::Pareto {
                scale: ms(2),
                shape: 3.0
            }) - 3.0)
                .abs()
                < 0.1
        );
    }
}
