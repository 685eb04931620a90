//! Text of a peer's: how much of it is repeated, and where what is plain in it ends.

use crate::limits::MAX_ECHO_BYTES;

/// Shortens `text` to at most 200 bytes, at a character boundary, for use in an error's text.
///
/// ```
/// let long = "ä".repeat(1000);
/// assert_eq!(redial_protocol::cut(&long).len(), 200);
/// assert_eq!(redial_protocol::cut("short"), "short");
/// ```
#[must_use]
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ECHO_BYTES)]
}

/// How many bytes of a JSON string's inside come before the first that may not simply be taken over:
/// a quote, a backslash, or a control character (RFC 8259, section 7).
///
/// ```
/// assert_eq!(redial_protocol::plain_len(br#"key": 1"#), 3);
/// assert_eq!(redial_protocol::plain_len("ü".as_bytes()), 2);
/// ```
#[must_use]
#[inline]
pub fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit));
    let mut rest = bytes;
    // Eight bytes in one step: Mycroft's test for a zero byte, which is exact for the lowest that
    // passes it.
    while let Some((chunk, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*chunk);
        // With that bit flipped a quote comes right after the control characters.
        let quote_or_control = below(word ^ (ONES * 2), b'!');
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = (quote_or_control | backslash) & !word & (ONES << 7);
        if found != 0 {
            return bytes.len() - rest.len() + found.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    while let [byte, after @ ..] = rest
        && !matches!(byte, b'"' | b'\\' | 0..b' ')
    {
        rest = after;
    }
    bytes.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn eight_bytes_at_once_are_the_same_as_one_by_one(
            bytes in prop::collection::vec(prop::sample::select(
                vec![b'"', b'\\', 0, 1, 2, 0x1f, b' ', b'!', b'#', b'[', b'\\' ^ 1, b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff],
            ), 0..40),
            plain in 0usize..40,
        ) {
            let bytes = [vec![b'x'; plain], bytes].concat();
            let one_by_one = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(plain_len(&bytes), one_by_one.unwrap_or(bytes.len()));
        }
    }
}
