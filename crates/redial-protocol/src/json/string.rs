//! Strings: what they stand for, and how they are written.

use std::borrow::Cow;

use super::skip::plain_len;

/// What a JSON string stands for, given with its quotes; borrowed unless it has escapes.
pub(crate) fn value(raw: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    if raw.contains('\\') {
        serde_json::from_str(raw).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(&raw[1..raw.len() - 1]))
    }
}

/// Appends a string as JSON. Most need no more than quotes around them.
#[inline(always)]
pub(crate) fn write(out: &mut Vec<u8>, text: &str) {
    if plain_len(text.as_bytes()) == text.len() {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing a string to memory can't fail");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_string_is_written_as_serde_json_writes_it_and_read_again(text in "(?s:.{0,20})") {
            let mut out = Vec::new();
            super::write(&mut out, &text);
            let written = String::from_utf8(out).unwrap();
            prop_assert_eq!(&written, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(super::value(&written).unwrap(), text);
        }
    }
}
