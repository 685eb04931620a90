//! Randomness from one seed, in separate streams: an extra draw in one stream changes nothing in
//! the others.

use std::{ops::RangeInclusive, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One stream of random numbers.
pub(crate) struct Rng(ChaCha8Rng);

/// Which stream.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Scenario,
    Middlebox,
    /// A client, its life, and its worker.
    Worker(u32, u32, u32),
    Wire(u32),
    /// What is odd about a connection.
    OddWire(u32),
    /// What freezes, which connections are black holes, and who speaks unasked.
    Oddities,
    /// How long a life's store takes.
    Disk(u32),
    /// What the end of a life leaves on the disk.
    PowerCut(u32),
    /// The servers that share a table, and what happens to them.
    Cluster,
    /// How long the database takes, and what it turns away.
    Database,
    /// The addresses of servers, and what happens to them.
    Endpoints,
    /// What is random in a storm: the calls of a client, the fleet's arrivals.
    Storm(u32),
}

impl Rng {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match stream {
            Stream::Scenario => 0,
            Stream::Middlebox => 1,
            Stream::Worker(client, life, worker) => {
                2 << 32 | u64::from(client) << 20 | u64::from(life) << 10 | u64::from(worker)
            }
            Stream::Wire(wire) => 3 << 32 | u64::from(wire),
            Stream::OddWire(wire) => 4 << 32 | u64::from(wire),
            Stream::Oddities => 5 << 32,
            Stream::Disk(life) => 6 << 32 | u64::from(life),
            Stream::PowerCut(life) => 7 << 32 | u64::from(life),
            Stream::Cluster => 8 << 32,
            Stream::Database => 9 << 32,
            Stream::Endpoints => 10 << 32,
            Stream::Storm(number) => 11 << 32 | u64::from(number),
        });
        Self(rng)
    }

    /// True with this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// A number in the range.
    pub(crate) fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A small number in the range.
    pub(crate) fn small(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0.random_range(range)
    }

    /// A number of milliseconds in the range.
    pub(crate) fn ms(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }

    /// A number in (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        1.0 - self.0.random::<f64>()
    }

    /// One of several values, all equally likely.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.random_range(0..from.len())]
    }

    /// A seed for another generator.
    pub(crate) fn seed(&mut self) -> u64 {
        self.0.random()
    }
}
