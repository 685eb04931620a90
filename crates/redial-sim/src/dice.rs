//! Chance: everything that is random in a world comes from its one seed, through streams that are
//! kept apart, so that one draw more in one place changes nothing elsewhere.

use std::{ops::RangeInclusive, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of draws.
pub(crate) struct Dice(ChaCha8Rng);

/// Whose draws they are.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Scenario,
    Middlebox,
    /// Of a client, and which of its lives and workers.
    Worker(u32, u32, u32),
    Wire(u32),
}

impl Dice {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match stream {
            Stream::Scenario => 0,
            Stream::Middlebox => 1,
            Stream::Worker(client, life, worker) => {
                2 << 32 | u64::from(client) << 20 | u64::from(life) << 10 | u64::from(worker)
            }
            Stream::Wire(wire) => 3 << 32 | u64::from(wire),
        });
        Self(rng)
    }

    /// Whether something happens that has this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// A number of the range.
    pub(crate) fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A number of the range, small.
    pub(crate) fn small(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0.random_range(range)
    }

    /// As many milliseconds as a number of the range.
    pub(crate) fn ms(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }

    /// In (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        1.0 - self.0.random::<f64>()
    }

    /// One of several things, none of them likelier.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.random_range(0..from.len())]
    }

    /// A seed for somebody who draws by himself.
    pub(crate) fn seed(&mut self) -> u64 {
        self.0.random()
    }
}
