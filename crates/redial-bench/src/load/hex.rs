//! Eight hex digits at a time, all in one word: what an id costs must not show.

const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// A number as eight hex digits in lower case.
#[must_use]
pub fn digits(number: u32) -> [u8; 8] {
    let mut word = u64::from(number);
    word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    word = (word | word << 4) & NIBBLES;
    // 1 in every byte that is 10 or more: those need the letters, which lie 39 after the figures.
    let letters = (word + 6 * ONES) >> 4 & ONES;
    (word + u64::from(b'0') * ONES + letters * 39).to_be_bytes()
}

/// The number that eight hex digits are. Anything else is some number or other.
#[must_use]
pub fn number(digits: [u8; 8]) -> u32 {
    let word = u64::from_be_bytes(digits);
    let mut word = (word & NIBBLES) + (word >> 6 & ONES) * 9;
    word = (word | word >> 4) & 0x00ff_00ff_00ff_00ff;
    word = (word | word >> 8) & 0x0000_ffff_0000_ffff;
    (word | word >> 16) as u32
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
            assert_eq!(number(text), value);
        }
    }
}
