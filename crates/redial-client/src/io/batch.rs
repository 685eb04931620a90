//! Arrays from the server: each entry is a message of its own.

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// How many entries of an array are read. The client sends no batches, so a server has no reason to
/// send larger ones than a client with as many requests in flight as it may have by default.
const MAX_ENTRIES: usize = 512;

/// Whether a frame that isn't a usual reply may be an array.
pub(super) fn is_array(frame: &[u8]) -> bool {
    let mut bytes = frame.iter();
    bytes.find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// Gives each entry, up to the first that is no JSON.
///
/// # Errors
///
/// What is wrong with the array.
pub(super) fn for_each(frame: &[u8], mut take: impl FnMut(&str)) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(frame);
    let all = json.deserialize_seq(Entries(&mut take));
    let all = all.and_then(|()| json.end());
    all.map_err(|error| format!("the array is no batch of replies: {error}"))
}

struct Entries<'a, F>(&'a mut F);

impl<'de, F: FnMut(&str)> Visitor<'de> for Entries<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        for number in 0.. {
            match array.next_element::<&RawValue>()? {
                Some(_) if number == MAX_ENTRIES => {
                    let text = format_args!("more than {MAX_ENTRIES} entries").to_string();
                    return Err(A::Error::custom(text));
                }
                Some(entry) => (self.0)(entry.get()),
                None if number == 0 => return Err(A::Error::custom("it is empty")),
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frame: &str) -> (Vec<String>, Result<(), String>) {
        let mut entries = Vec::new();
        let all = for_each(frame.as_bytes(), |entry| entries.push(entry.to_owned()));
        (entries, all)
    }

    #[test]
    fn entries_are_given_as_they_were_written() {
        let (entries, all) = read(r#" [{"id": 1},2 , [3]] "#);
        assert_eq!(entries, [r#"{"id": 1}"#, "2", "[3]"]);
        all.unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_after_what_came_before_it() {
        for (frame, count, expected) in [
            ("[]", 0, "it is empty"),
            ("[1,2,x]", 2, "expected value"),
            ("[1] 2", 1, "trailing characters"),
            ("[1", 1, "EOF"),
        ] {
            let (entries, all) = read(frame);
            let error = all.unwrap_err();
            assert!(error.contains(expected), "{frame}: {error}");
            assert_eq!(entries.len(), count, "{frame}");
        }
        let (entries, all) = read(&format!("[{}1]", "1,".repeat(MAX_ENTRIES)));
        assert_eq!(entries.len(), MAX_ENTRIES);
        assert!(all.unwrap_err().contains("more than 512 entries"));
    }

    #[test]
    fn an_array_is_known_by_its_first_byte() {
        assert!(is_array(b" \n[1") && !is_array(b"{\"a\":[]}") && !is_array(b""));
    }
}
