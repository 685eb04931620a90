//! The grammar: how each kind of value is skipped.
//!
//! Each function takes what has not been read yet and returns what follows the thing that it skips,
//! or `None` if that thing isn't there.

use uuid::Uuid;

/// Skips exactly this text.
#[inline(always)]
pub(super) fn token<'a>(rest: &'a [u8], token: &str) -> Option<&'a [u8]> {
    rest.strip_prefix(token.as_bytes())
}

/// Skips spaces, and no other white space. Few programs write any, so the loop stays out of line.
#[inline(always)]
pub(super) fn spaces(rest: &[u8]) -> &[u8] {
    match rest.first() {
        Some(b' ') => many_spaces(rest),
        _ => rest,
    }
}

#[inline(never)]
fn many_spaces(mut rest: &[u8]) -> &[u8] {
    while let [b' ', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// Skips a string without escapes.
#[inline(always)]
pub(super) fn string(rest: &[u8]) -> Option<&[u8]> {
    let inside = token(rest, "\"")?;
    token(inside.get(plain_len(inside)..)?, "\"")
}

/// Skips a number of any size and precision (RFC 8259, section 6).
#[inline(always)]
pub(super) fn number(rest: &[u8]) -> Option<&[u8]> {
    let rest = token(rest, "-").unwrap_or(rest);
    let rest = match rest {
        [b'0', after @ ..] => after,
        _ => digits(rest)?,
    };
    match rest.first() {
        Some(b'.' | b'e' | b'E') => fraction_and_exponent(rest),
        _ => Some(rest),
    }
}

#[inline(never)]
fn fraction_and_exponent(mut rest: &[u8]) -> Option<&[u8]> {
    if let [b'.', after @ ..] = rest {
        rest = digits(after)?;
    }
    match rest {
        [b'e' | b'E', b'+' | b'-', after @ ..] | [b'e' | b'E', after @ ..] => digits(after),
        _ => Some(rest),
    }
}

/// Skips one digit or more.
#[inline(always)]
fn digits(rest: &[u8]) -> Option<&[u8]> {
    let (b'0'..=b'9', mut rest) = rest.split_first()? else {
        return None;
    };
    while let [b'0'..=b'9', after @ ..] = rest {
        rest = after;
    }
    Some(rest)
}

/// Skips an integer without a sign, and returns it. It may have 19 digits, which always fit into 64
/// bits.
#[inline(always)]
pub(super) fn count(rest: &[u8]) -> Option<(u64, &[u8])> {
    const MAX_DIGITS: usize = 19;
    let (mut count, mut after) = (0_u64, rest);
    while let [digit @ b'0'..=b'9', next @ ..] = after {
        count = count.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        after = next;
    }
    let is_integer = !matches!(after, [b'.' | b'e' | b'E', ..]);
    let fits = match rest.len() - after.len() {
        1 => true,
        2..=MAX_DIGITS => rest[0] != b'0',
        _ => false,
    };
    (is_integer && fits).then_some((count, after))
}

/// Skips a string that is a UUID in its 36-character form (RFC 9562, section 4), in either case, and
/// returns it.
#[inline(always)]
pub(super) fn uuid(rest: &[u8]) -> Option<(Uuid, &[u8])> {
    let ([b'"', uuid @ .., b'"'], rest) = rest.split_at_checked(38)? else {
        return None;
    };
    Some((Uuid::try_parse_ascii(uuid).ok()?, rest))
}

/// Skips any value that nests at most `depth` deep.
#[inline(always)]
pub(super) fn value(rest: &[u8], depth: usize) -> Option<&[u8]> {
    match rest.first()? {
        b'"' => string(rest),
        b'{' | b'[' => container(rest, depth),
        b't' => token(rest, "true"),
        b'f' => token(rest, "false"),
        b'n' => token(rest, "null"),
        _ => number(rest),
    }
}

/// Skips an object or an array that nests at most `depth` deep, itself included.
pub(super) fn container(rest: &[u8], depth: usize) -> Option<&[u8]> {
    let (first, inside) = rest.split_first()?;
    let depth = depth.checked_sub(1)?;
    let inside = spaces(inside);
    match first {
        b'{' => token(inside, "}").or_else(|| members(inside, depth)),
        b'[' => token(inside, "]").or_else(|| elements(inside, depth)),
        _ => None,
    }
}

fn members(mut rest: &[u8], depth: usize) -> Option<&[u8]> {
    loop {
        let colon = spaces(string(spaces(rest))?);
        rest = spaces(value(spaces(token(colon, ":")?), depth)?);
        let (next, after) = rest.split_first()?;
        match next {
            b',' => rest = after,
            b'}' => return Some(after),
            _ => return None,
        }
    }
}

fn elements(mut rest: &[u8], depth: usize) -> Option<&[u8]> {
    loop {
        rest = spaces(value(spaces(rest), depth)?);
        let (next, after) = rest.split_first()?;
        match next {
            b',' => rest = after,
            b']' => return Some(after),
            _ => return None,
        }
    }
}

/// The text from where `from` begins to where `to` does. Both lie beside ASCII, so that no character
/// is split.
#[inline(always)]
pub(super) fn between<'a>(text: &'a str, from: &[u8], to: &[u8]) -> &'a str {
    &text[text.len() - from.len()..text.len() - to.len()]
}

/// The same of a string, without its quotes.
#[inline(always)]
pub(super) fn unquoted<'a>(text: &'a str, from: &[u8], to: &[u8]) -> &'a str {
    &text[text.len() - from.len() + 1..text.len() - to.len() - 1]
}

/// How many bytes of a JSON string come before the first that can't be taken as it is: a quote, a
/// backslash, or a control character (RFC 8259, section 7).
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit));
    let mut rest = bytes;
    // Eight bytes in one step, since strings may be long: Mycroft's test for a zero byte, which is exact
    // for the lowest that passes it.
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
    use serde_json::value::RawValue;

    use super::*;
    use crate::json::MAX_DEPTH;

    /// Whether all of a text is skipped as one value, which serde_json must take then.
    fn is_value(text: &str) -> bool {
        let is_value = value(text.as_bytes(), MAX_DEPTH).is_some_and(<[u8]>::is_empty);
        let parsed = serde_json::from_str::<&RawValue>(text);
        assert!(!is_value || parsed.is_ok(), "{text}: {parsed:?}");
        is_value
    }

    #[test]
    fn values_of_every_kind_are_skipped() {
        for text in [
            "0",
            "-0",
            "19",
            "-1.5e+7",
            "1E3",
            "0.25",
            "1e999",
            "null",
            "true",
            "false",
            r#""""#,
            r#""ab ü""#,
            "[]",
            "[ ]",
            "{}",
            "{ }",
            r#"{"key":"k", "value" : 1}"#,
            r#"[1, [2,{"a":[]}] ,"x"]"#,
        ] {
            assert!(is_value(text), "{text}");
        }
    }

    #[test]
    fn what_is_unusual_or_wrong_is_refused() {
        for text in [
            "",
            " ",
            "-",
            "01",
            "00",
            "+1",
            "1.",
            ".5",
            "1.e3",
            "1e",
            "1e+",
            "0x1",
            "nul",
            "nulll",
            "tru",
            "\"a",
            r#""\n""#,
            "\"\n\"",
            "\"\u{1f}\"",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{]",
            "[}",
            "{",
            "{:1}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{1:1}"#,
            "[1]]",
            "1 ",
            "1,",
            "[\n]",
            "[1,\t2]",
        ] {
            assert!(!is_value(text), "{text}");
        }
    }

    #[test]
    fn a_value_nests_as_deep_as_allowed_and_no_deeper() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_value(&nested(MAX_DEPTH)));
        assert!(!is_value(&nested(MAX_DEPTH + 1)));
        assert_eq!(value(nested(100_000).as_bytes(), MAX_DEPTH), None);
        assert_eq!(container(b"[[]]", 1), None);
        assert_eq!(container(b"[]", 0), None);
    }

    #[test]
    fn an_integer_is_read_if_any_of_its_length_fits() {
        for (text, read) in [
            ("0", Some((0, ""))),
            ("7,", Some((7, ","))),
            ("9999999999999999999", Some((9_999_999_999_999_999_999, ""))),
            ("10000000000000000000", None),
            ("01", None),
            ("1.0", None),
            ("1e3", None),
            ("-1", None),
            ("", None),
        ] {
            let read = read.map(|(number, rest): (u64, &str)| (number, rest.as_bytes()));
            assert_eq!(count(text.as_bytes()), read, "{text}");
        }
    }

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

        #[test]
        fn no_text_is_skipped_that_is_not_json(text in "[\\[\\]{}:,\"0-2eE.+ntrufalse\\\\ \n-]{0,12}") {
            is_value(&text);
        }
    }
}
