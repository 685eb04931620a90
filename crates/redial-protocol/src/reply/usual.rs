//! The usual reply, a result under a UUID as Redial's server spells it, read without a parser.
//!
//! It is an eighth of the work. Whatever is spelled in another way, or is wrong, is left to
//! [`Reply::parse`](super::Reply::parse), so that the two never say different things.

use uuid::Uuid;

use crate::id::IdPrefixCache;

/// What a reply begins with, up to the digits of its id.
const BEGINNINGS: [&[u8]; 2] = [br#"{"jsonrpc":"2.0","id":""#, br#"{"id":""#];

/// What is between the id and the result.
const MIDDLE: &[u8] = br#"","result":"#;

/// Larger frames are not worth it: what is saved is the work for what is around the result.
const MAX_FRAME_BYTES: usize = 4096;

/// How deep a result may nest, which is one bit each.
const MAX_DEPTH: u32 = u64::BITS;

/// A result under a UUID, without Redial's own member.
///
/// ```
/// use redial_protocol::reply::FastReply;
///
/// let frame = br#"{"jsonrpc":"2.0","id":"12345678-9abc-8def-8000-000000000007","result":19}"#;
/// let reply = FastReply::read(frame).expect("it is spelled in the usual way");
/// assert_eq!(reply.result, b"19");
/// assert!(FastReply::read(br#"{"id":1,"result":19}"#).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastReply<'a> {
    /// Which call it answers.
    pub id: Uuid,
    /// The result as it was written: JSON in UTF-8.
    pub result: &'a [u8],
}

impl<'a> FastReply<'a> {
    /// Reads one frame, if it is such a reply, spelled without white space. `None` says nothing
    /// about what else it is.
    #[must_use]
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        Self::read_after(frame, &mut IdPrefixCache::default())
    }

    /// The same of one of many frames, which takes less.
    #[must_use]
    pub fn read_after(frame: &'a [u8], before: &mut IdPrefixCache) -> Option<Self> {
        if frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        let mut beginnings = BEGINNINGS.iter();
        let rest = beginnings.find_map(|beginning| frame.strip_prefix(*beginning))?;
        let (id, rest) = rest.split_first_chunk()?;
        let id = before.read(id)?;
        let result = rest.strip_prefix(MIDDLE)?.strip_suffix(b"}")?;
        is_json(result).then_some(Self { id, result })
    }
}

/// Whether the bytes are one JSON value in UTF-8 without white space. May say no to one that is
/// unusual.
fn is_json(bytes: &[u8]) -> bool {
    // Of most results this is all.
    if let Some(rest) = number(bytes)
        && rest.is_empty()
    {
        return true;
    }
    std::str::from_utf8(bytes).is_ok() && value(bytes).is_some_and(<[u8]>::is_empty)
}

/// What is behind the value at the front of the bytes.
fn value(mut bytes: &[u8]) -> Option<&[u8]> {
    // The objects and arrays that are open, the innermost in the lowest bit; 1 is an object.
    let (mut open, mut depth) = (0u64, 0u32);
    loop {
        // A value begins here.
        match bytes {
            [b'{', b'}', rest @ ..] | [b'[', b']', rest @ ..] => bytes = rest,
            [first @ (b'{' | b'['), rest @ ..] => {
                let is_object = *first == b'{';
                depth += 1;
                open = open << 1 | u64::from(is_object);
                if depth > MAX_DEPTH {
                    return None;
                }
                bytes = if is_object { name(rest)? } else { rest };
                continue;
            }
            _ => bytes = scalar(bytes)?,
        }
        // A value has ended here.
        loop {
            if depth == 0 {
                return Some(bytes);
            }
            let is_object = open & 1 == 1;
            match (bytes, is_object) {
                ([b',', rest @ ..], true) => bytes = name(rest)?,
                ([b',', rest @ ..], false) => bytes = rest,
                ([b'}', rest @ ..], true) | ([b']', rest @ ..], false) => {
                    depth -= 1;
                    open >>= 1;
                    bytes = rest;
                    continue;
                }
                _ => return None,
            }
            break;
        }
    }
}

/// A member's name and the colon.
fn name(bytes: &[u8]) -> Option<&[u8]> {
    string(bytes.strip_prefix(b"\"")?)?.strip_prefix(b":")
}

fn scalar(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [b'"', rest @ ..] => string(rest),
        [b't', ..] => bytes.strip_prefix(b"true"),
        [b'f', ..] => bytes.strip_prefix(b"false"),
        [b'n', ..] => bytes.strip_prefix(b"null"),
        _ => number(bytes),
    }
}

/// A string whose first quote has been taken.
fn string(bytes: &[u8]) -> Option<&[u8]> {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let end = bytes.iter().position(is_special)?;
    // Escapes are unusual.
    (bytes[end] == b'"').then(|| &bytes[end + 1..])
}

/// A number (RFC 8259, section 6).
fn number(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let bytes = match bytes {
        [b'0', rest @ ..] => rest,
        _ => digits(bytes)?,
    };
    let bytes = match bytes {
        [b'.', rest @ ..] => digits(rest)?,
        _ => bytes,
    };
    match bytes {
        [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] => digits(rest),
        _ => Some(bytes),
    }
}

/// One digit or more.
fn digits(bytes: &[u8]) -> Option<&[u8]> {
    let count = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (count > 0).then(|| &bytes[count..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{Dialect, Reply, ReplyMeta, reply};

    const ID: &str = "12345678-9abc-8def-8000-000000000007";

    /// What the short way says the long way says too.
    fn agrees(frame: &[u8]) -> Result<bool, TestCaseError> {
        let mut before = IdPrefixCache::default();
        let was_read = agrees_after(frame, &mut before)?;
        // And behind a reply of the same session.
        let id = ID.as_bytes().first_chunk();
        prop_assert!(id.and_then(|id| before.read(id)).is_some());
        prop_assert!(!agrees_after(frame, &mut before)? || was_read);
        Ok(was_read)
    }

    fn agrees_after(frame: &[u8], before: &mut IdPrefixCache) -> Result<bool, TestCaseError> {
        let Some(usual) = FastReply::read_after(frame, before) else {
            return Ok(false);
        };
        let text = String::from_utf8_lossy(frame);
        let reply =
            Reply::parse(frame).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(reply.id.as_uuid(), Some(usual.id));
        prop_assert_eq!(reply.meta, ReplyMeta::default());
        let result = reply.outcome.map(|result| result.get().as_bytes());
        prop_assert_eq!(result.ok(), Some(usual.result), "{}", text);
        Ok(true)
    }

    fn frame(dialect: Dialect, result: &[u8]) -> Vec<u8> {
        let outcome = [br#""result":"#, result].concat();
        let mut out = Vec::new();
        let id = format!("\"{ID}\"");
        reply::write(&mut out, dialect, &id, &outcome, ReplyMeta::default());
        out
    }

    #[test]
    fn usual_results_are_read() {
        for result in [
            "0",
            "-1.5e+7",
            "19",
            "1E3",
            "null",
            "true",
            "false",
            r#""ab ü""#,
            "[]",
            "{}",
            r#"{"key":"k","value":1}"#,
            r#"[1,[2,{"a":[]}],"x"]"#,
            r#"{"a":{"b":{}},"c":null}"#,
        ] {
            for dialect in [Dialect::JsonRpc2, Dialect::Notebook] {
                let frame = frame(dialect, result.as_bytes());
                assert!(agrees(&frame).unwrap(), "{result}");
            }
        }
    }

    #[test]
    fn what_is_unusual_or_wrong_is_left_alone() {
        for result in [
            "",
            " 1",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "nul",
            "nulll",
            "1 ",
            "1,",
            "1}",
            "[1",
            "[1,]",
            "[,1]",
            "{]",
            "[}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{1:1}"#,
            "\"a",
            "\"\n\"",
            r#""\n""#,
            "1,\"result\":2",
            "1,\"error\":null",
            "1,\"redial\":{}",
        ] {
            let frame = frame(Dialect::JsonRpc2, result.as_bytes());
            assert_eq!(FastReply::read(&frame), None, "{result}");
        }
        assert_eq!(
            FastReply::read(&frame(Dialect::JsonRpc2, b"\"\xff\"")),
            None
        );
        let deep = [vec![b'['; 66], vec![b']'; 66]].concat();
        assert_eq!(FastReply::read(&frame(Dialect::JsonRpc2, &deep)), None);
        assert!(agrees(&frame(Dialect::JsonRpc2, &deep[1..131])).unwrap());
    }

    /// Any JSON, as `serde_json` spells it.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z\"]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Bytes that JSON is made of, and some that it is not.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "0", "1", "-", ".", "e",
                "null", "true", " ", "\\", "\\n", "\\u00e4", "\n", "ü", "{}", "[]",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            any::<u8>().prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn valid_replies_are_read_as_the_parser_reads_them(value in json(), notebook: bool) {
            let dialect = if notebook { Dialect::Notebook } else { Dialect::JsonRpc2 };
            let text = value.to_string();
            let was_read = agrees(&frame(dialect, text.as_bytes()))?;
            prop_assert!(was_read || text.contains('\\'), "{} is not read", text);
        }

        #[test]
        fn ids_are_read_as_the_uuid_crate_reads_them_whatever_was_before(
            ids in prop::collection::vec((0u64..3, any::<u64>(), any::<[bool; 2]>()), 1..9),
        ) {
            let mut before = IdPrefixCache::default();
            for (start, rest, [is_upper, is_low]) in ids {
                // Few sessions, and digits of all kinds in both halves.
                let start = start.wrapping_mul(0x1234_5678_9abc_def0);
                let id = Uuid::from_u64_pair(start, if is_low { rest & 0xffff } else { rest });
                let lower = id.hyphenated().to_string();
                let text = if is_upper { lower.to_uppercase() } else { lower.clone() };
                let read = before.read(text.as_bytes().first_chunk().unwrap());
                // One in upper case may be left to the parser.
                prop_assert!(read == Some(id) || read.is_none() && text != lower, "{}", text);
            }
        }

        #[test]
        fn hostile_results_are_read_as_the_parser_reads_them(result in pieces()) {
            agrees(&frame(Dialect::JsonRpc2, &result))?;
        }

        #[test]
        fn damaged_replies_are_read_as_the_parser_reads_them(
            value in json(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), pieces(), 0usize..3), 1..4),
        ) {
            let mut frame = frame(Dialect::JsonRpc2, value.to_string().as_bytes());
            for (at, new, gone) in damage {
                let at = at.index(frame.len() + 1);
                let gone = at..(at + gone).min(frame.len());
                frame.splice(gone, new);
            }
            agrees(&frame)?;
        }
    }
}
