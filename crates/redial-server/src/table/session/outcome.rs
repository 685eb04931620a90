//! An outcome as a slot stores it: a short one inline, since most are short, and a long one on the heap.

/// The longest inline outcome: what a slot has room for beside the rest, in bytes.
const SHORT_BYTES: usize = 30;

/// How many buffers of long outcomes are pooled, and how large they may be.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES: usize = 256;

#[derive(Debug)]
pub(super) enum SlotOutcome {
    Short { len: u8, bytes: [u8; SHORT_BYTES] },
    Long(Vec<u8>),
}

impl Default for SlotOutcome {
    fn default() -> Self {
        Self::Short {
            len: 0,
            bytes: [0; SHORT_BYTES],
        }
    }
}

impl SlotOutcome {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    /// Copies an outcome into this one.
    #[inline]
    pub(super) fn fill(&mut self, outcome: &[u8], pool: &mut BufferPool) {
        if let Self::Short { len, bytes } = self
            && let Some(start) = bytes.get_mut(..outcome.len())
        {
            start.copy_from_slice(outcome);
            *len = outcome.len() as u8;
        } else {
            *self = Self::Long(pool.copy(outcome));
        }
    }
}

/// Buffers of long outcomes that have gone, for the next ones.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Vec<Vec<u8>>);

impl BufferPool {
    fn copy(&mut self, outcome: &[u8]) -> Vec<u8> {
        let mut buffer = self.0.pop().unwrap_or_default();
        buffer.extend_from_slice(outcome);
        buffer
    }

    /// An outcome goes: its buffer is kept, if it is small.
    #[inline]
    pub(super) fn take(&mut self, outcome: &mut SlotOutcome) {
        if let SlotOutcome::Long(bytes) = outcome
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
        let (mut pool, bytes) = (BufferPool::default(), vec![b'x'; 300]);
        for len in (0..40).chain([SPARE_BYTES, SPARE_BYTES + 1, 300]) {
            let mut outcome = SlotOutcome::default();
            outcome.fill(&bytes[..len], &mut pool);
            assert_eq!(outcome.as_slice(), &bytes[..len]);
            assert_eq!(
                matches!(outcome, SlotOutcome::Short { .. }),
                len <= SHORT_BYTES
            );
            pool.take(&mut outcome);
            let is_pooled = (SHORT_BYTES + 1..=SPARE_BYTES).contains(&len);
            assert_eq!(pool.0.len(), usize::from(is_pooled), "{len}");
        }
    }
}
