//! Ids that begin alike, as those of one session do.

use uuid::Uuid;

use crate::hex;

/// How the id before began: of a session's calls, all ids begin with the session.
#[derive(Clone, Copy, Debug)]
pub struct IdPrefixCache {
    /// Half of the digits and three hyphens.
    text: [u8; 19],
    /// What those digits are.
    bits: u64,
}

impl Default for IdPrefixCache {
    fn default() -> Self {
        Self {
            text: *b"00000000-0000-0000-",
            bits: 0,
        }
    }
}

impl IdPrefixCache {
    /// Reads an id, half of which need only be compared if it begins as the one before.
    #[inline]
    pub(crate) fn read(&mut self, text: &[u8; 36]) -> Option<Uuid> {
        let (start, rest) = text.split_first_chunk()?;
        if *start != self.text {
            let id = Uuid::try_parse_ascii(text).ok()?;
            (self.text, self.bits) = (*start, id.as_u64_pair().0);
            return Some(id);
        }
        let [a, b, c, d, b'-', e, f, g, h, last @ ..] = rest else {
            return None;
        };
        let high = hex::number([*a, *b, *c, *d, *e, *f, *g, *h])?;
        let low = hex::number(*last.first_chunk()?)?;
        let bits = u64::from(high) << 32 | u64::from(low);
        Some(Uuid::from_u64_pair(self.bits, bits))
    }
}
