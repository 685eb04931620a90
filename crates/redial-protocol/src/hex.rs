//! Hex digits in lower case, eight at a time and all in one word: every call has its id written and
//! read.

const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// A number as eight hex digits.
pub(crate) fn digits(number: u32) -> [u8; 8] {
    let mut word = u64::from(number);
    word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    word = (word | word << 4) & NIBBLES;
    spelled(word).to_be_bytes()
}

/// The number that eight hex digits are. Says no to letters in upper case.
pub(crate) fn number(digits: [u8; 8]) -> Option<u32> {
    let digits = u64::from_be_bytes(digits);
    // Letters have a bit that figures don't have, and their low nibbles begin with 1.
    let word = ((digits & NIBBLES) + (digits >> 6 & ONES) * 9) & NIBBLES;
    if spelled(word) != digits {
        return None;
    }
    let word = (word | word >> 4) & 0x00ff_00ff_00ff_00ff;
    let word = (word | word >> 8) & 0x0000_ffff_0000_ffff;
    Some((word | word >> 16) as u32)
}

/// The digits of eight numbers below 16.
fn spelled(word: u64) -> u64 {
    // 1 in every byte that is 10 or more: those need the letters, which lie 39 after the figures.
    let letters = (word + 6 * ONES) >> 4 & ONES;
    word + u64::from(b'0') * ONES + letters * 39
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_written_as_the_standard_library_does_and_read_again() {
        let steps = (0..=u32::MAX).step_by(65_521);
        for value in steps.chain([1, 9, 10, 15, 16, 0xdead_beef, u32::MAX]) {
            let text = digits(value);
            assert_eq!(text, *format!("{value:08x}").as_bytes());
            assert_eq!(number(text), Some(value));
        }
    }

    #[test]
    fn no_byte_is_taken_for_a_digit_that_is_none() {
        for start in [*b"00000000", *b"89abcdef", *b"ffffffff"] {
            for at in 0..8 {
                for byte in 0..=u8::MAX {
                    let mut text = start;
                    text[at] = byte;
                    let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                    let known = std::str::from_utf8(&text).ok().filter(|_| is_digit);
                    let known = known.and_then(|text| u32::from_str_radix(text, 16).ok());
                    assert_eq!(number(text), known, "{byte} at {at}");
                }
            }
        }
    }
}
