//! A result under a UUID, as Redial's server spells it, read at an eighth of a parser's cost.

use uuid::Uuid;

use super::{MAX_DEPTH, skip};
use crate::id::Id;

/// How a reply begins, up to its id.
const HEADS: [&[u8]; 2] = [br#"{"jsonrpc":"2.0","id":"#, br#"{"id":"#];

/// What stands between the id and the result.
const MIDDLE: &[u8] = br#","result":"#;

/// A larger frame is left to serde_json: what is saved is work on what stands around the result.
const MAX_FRAME_BYTES: usize = 4096;

/// A result under a UUID, without Redial's own member.
///
/// ```
/// use redial_protocol::FastReply;
///
/// let frame = br#"{"jsonrpc":"2.0","id":"12345678-9abc-8def-8000-000000000007","result":19}"#;
/// let reply = FastReply::read(frame).expect("Redial's server spells it so");
/// assert_eq!(reply.result, b"19");
/// assert!(FastReply::read(br#"{"id":1,"result":19}"#).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastReply<'a> {
    /// Which call it answers.
    pub id: Uuid,
    /// The result, exactly as it was written: JSON in UTF-8.
    pub result: &'a [u8],
}

impl<'a> FastReply<'a> {
    /// Reads one frame, if it is such a reply. `None` says nothing about what else it is.
    #[must_use]
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        if frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        let from_id = HEADS.iter().find_map(|head| frame.strip_prefix(*head))?;
        let (id, rest) = skip::uuid(from_id)?;
        let result = rest.strip_prefix(MIDDLE)?.strip_suffix(b"}")?;
        // The message around it is the first level.
        let is_whole = skip::value(result, MAX_DEPTH - 1)?.is_empty();
        let is_utf8 = result.is_ascii() || simdutf8::basic::from_utf8(result).is_ok();
        (is_whole && is_utf8).then_some(Self { id, result })
    }

    /// The id and the result as text, given the frame that this was read from.
    pub(crate) fn text(self, frame: &'a [u8]) -> Option<(Id<'a>, &'a str)> {
        const ID_BYTES: usize = 38;
        let text = std::str::from_utf8(frame).ok()?;
        let result_at = text.len() - 1 - self.result.len();
        let id_end = result_at - MIDDLE.len();
        let id = Id::from_uuid_json(&text[id_end - ID_BYTES..id_end], self.id);
        Some((id, &text[result_at..text.len() - 1]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{Dialect, Reply, ReplyMeta, ReplyReader, write_reply};

    const ID: &str = "12345678-9abc-8def-8000-000000000007";

    /// Whether a frame is read by hand; then serde_json must read the same.
    fn agrees(frame: &[u8]) -> Result<bool, TestCaseError> {
        let Some(fast) = FastReply::read(frame) else {
            return Ok(false);
        };
        let text = String::from_utf8_lossy(frame);
        let slow =
            Reply::parse(frame).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(slow.id.as_uuid(), Some(fast.id));
        prop_assert_eq!(slow.meta, ReplyMeta::default());
        prop_assert_eq!(
            slow.outcome.ok().map(str::as_bytes),
            Some(fast.result),
            "{}",
            text
        );
        let read = ReplyReader::new().read(frame).unwrap();
        prop_assert_eq!(
            format!("{read:?}"),
            format!("{:?}", Reply::parse(frame).unwrap())
        );
        Ok(true)
    }

    fn frame(dialect: Dialect, result: &[u8]) -> Vec<u8> {
        let outcome = [br#""result":"#, result].concat();
        let mut out = Vec::new();
        let id = format!("\"{ID}\"");
        write_reply(&mut out, dialect, &id, &outcome, ReplyMeta::default());
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
            r#"[1, [2,{"a":[]}],"x"]"#,
            r#"{"a":{"b":{}},"c":null}"#,
        ] {
            for dialect in [Dialect::JsonRpc2, Dialect::Notebook] {
                let frame = frame(dialect, result.as_bytes());
                assert!(agrees(&frame).unwrap(), "{result}");
            }
        }
    }

    #[test]
    fn what_is_unusual_or_wrong_is_left_to_serde_json() {
        for result in [
            "",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "nul",
            "nulll",
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
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        let deep = frame(Dialect::JsonRpc2, &nested(MAX_DEPTH));
        assert_eq!(FastReply::read(&deep), None);
        let shallower = frame(Dialect::JsonRpc2, &nested(MAX_DEPTH - 1));
        assert!(agrees(&shallower).unwrap());
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

    /// Bytes that JSON is made of, and some that it isn't made of.
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
        fn valid_replies_are_what_serde_json_reads(value in json(), notebook: bool) {
            let dialect = if notebook { Dialect::Notebook } else { Dialect::JsonRpc2 };
            let text = value.to_string();
            let was_read = agrees(&frame(dialect, text.as_bytes()))?;
            prop_assert!(was_read || text.contains('\\'), "{} is not read", text);
        }

        #[test]
        fn hostile_results_are_what_serde_json_reads(result in pieces()) {
            agrees(&frame(Dialect::JsonRpc2, &result))?;
        }

        #[test]
        fn damaged_replies_are_what_serde_json_reads(
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
