//! What tells this process from its copies: a fork of it, or the same process on a machine that was
//! restored from a snapshot.
//!
//! A copy has the same generators in the same state, and draws the same numbers from them. Ids that
//! must not repeat are therefore drawn from a generator that was mixed with something new just
//! before.

use std::time::UNIX_EPOCH;

use rand::{Rng, SeedableRng, TryRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;

/// What no copy has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin([u8; 32]);

impl Origin {
    /// Drawn from the system. The process and the time are mixed in, since the system's own
    /// generator may be a copy, too.
    pub(crate) fn here() -> Self {
        let mut noise = [0; 32];
        // Without it the rest still tells a copy apart.
        let _ = SysRng.try_fill_bytes(&mut noise);
        #[expect(clippy::disallowed_methods, reason = "the edge where this comes in")]
        let since_1970 = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since_1970.unwrap_or_default().as_nanos() as u64;
        Self::new(std::process::id(), nanos, noise)
    }

    pub(crate) fn new(process: u32, nanos: u64, mut noise: [u8; 32]) -> Self {
        mix(&mut noise[..4], &process.to_le_bytes());
        mix(&mut noise[4..12], &nanos.to_le_bytes());
        Self(noise)
    }

    /// Has the generator draw other numbers than any copy of it.
    pub(crate) fn mix_into(&self, rng: &mut ChaCha8Rng) {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        mix(&mut seed, &self.0);
        *rng = ChaCha8Rng::from_seed(seed);
    }
}

fn mix(into: &mut [u8], what: &[u8]) {
    into.iter_mut()
        .zip(what)
        .for_each(|(into, what)| *into ^= what);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each difference alone is enough: a forked process, a later moment, other noise.
    #[test]
    fn copies_of_a_generator_draw_other_numbers_once_they_know_their_origin() {
        let here = Origin::new(1, 1_000, [7; 32]);
        let others = [
            Origin::new(2, 1_000, [7; 32]),
            Origin::new(1, 1_001, [7; 32]),
            Origin::new(1, 1_000, [8; 32]),
        ];
        let draw = |origin: Origin| {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            origin.mix_into(&mut rng);
            rng.next_u64()
        };
        for other in others {
            assert_ne!(draw(here), draw(other), "{other:?}");
        }
    }

    /// What is known of the system's noise alone says nothing of the ids.
    #[test]
    fn what_a_generator_was_mixed_with_does_not_give_its_numbers_away() {
        let origin = Origin::new(1, 1_000, [7; 32]);
        let [one, other] = [1, 2].map(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            origin.mix_into(&mut rng);
            rng.next_u64()
        });
        assert_ne!(one, other);
    }
}
