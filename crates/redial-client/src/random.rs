//! Where generators come from. Everything else gets one as an argument.

use rand::{SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;

use crate::error::BuildError;

/// Random numbers of the system's, or of a seed; `stream` keeps those of one seed apart.
pub(crate) fn rng(seed: Option<u64>, stream: u64) -> Result<ChaCha8Rng, BuildError> {
    let Some(seed) = seed else {
        return ChaCha8Rng::try_from_rng(&mut SysRng)
            .map_err(|error| BuildError::NoRandomness(error.to_string()));
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    Ok(rng)
}
