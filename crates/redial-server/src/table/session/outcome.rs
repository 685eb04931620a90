//! An outcome as a slot keeps it: a short one in itself, since most are, and a long one elsewhere.

/// How long an outcome may be that lies in its slot: what a slot has room for beside the rest.
const SHORT_BYTES: usize = 30;

/// How many buffers of long outcomes are kept for those to come, and how large they may be.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES: usize = 256;

#[derive(Debug)]
pub(super) enum Outcome {
    Short { len: u8, bytes: [u8; SHORT_BYTES] },
    Long(Vec<u8>),
}

impl Default for Outcome {
    fn default() -> Self {
        Self::Short {
            len: 0,
            bytes: [0; SHORT_BYTES],
        }
    }
}

impl Outcome {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    /// Copies an outcome to where this one is.
    #[inline]
    pub(super) fn fill(&mut self, outcome: &[u8], spare: &mut Spare) {
        if let Self::Short { len, bytes } = self
            && let Some(start) = bytes.get_mut(..outcome.len())
        {
            start.copy_from_slice(outcome);
            *len = outcome.len() as u8;
        } else {
            *self = Self::Long(spare.copy(outcome));
        }
    }
}

/// Buffers that outcomes have left behind.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Vec<u8>>);

impl Spare {
    fn copy(&mut self, outcome: &[u8]) -> Vec<u8> {
        let mut kept = self.0.pop().unwrap_or_default();
        kept.extend_from_slice(outcome);
        kept
    }

    /// An outcome goes.
    #[inline]
    pub(super) fn take(&mut self, outcome: &mut Outcome) {
        if let Outcome::Long(bytes) = outcome
            && bytes.capacity() <= SPARE_BYTES
            && self.0.len() < SPARE_BUFFERS
        {
            let mut buffer = std::mem::take(bytes);
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_of_any_length_is_kept_as_it_is() {
        let (mut spare, bytes) = (Spare::default(), vec![b'x'; 300]);
        for len in (0..40).chain([SPARE_BYTES, SPARE_BYTES + 1, 300]) {
            let mut outcome = Outcome::default();
            outcome.fill(&bytes[..len], &mut spare);
            assert_eq!(outcome.as_slice(), &bytes[..len]);
            assert_eq!(matches!(outcome, Outcome::Short { .. }), len <= SHORT_BYTES);
            spare.take(&mut outcome);
            let is_spared = (SHORT_BYTES + 1..=SPARE_BYTES).contains(&len);
            assert_eq!(spare.0.len(), usize::from(is_spared), "{len}");
        }
    }
}
