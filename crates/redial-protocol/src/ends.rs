//! What the beginning and the end of a message say about it, where its middle is unknown or no JSON.

use std::fmt;

use serde::{
    Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    dialect::Dialect,
    id::Id,
    members::{BorrowedName, Members},
};

/// How many bytes of each end of a message are looked at.
pub(crate) const END_BYTES: usize = 256;

/// What a message is, and for whom. An id is JSON, as it was written.
///
/// ```
/// use redial_protocol::MessageEnds;
///
/// let frame = br#"{"id":"7","result":[NaN]}"#;
/// let id = "\"7\"".to_owned();
/// assert_eq!(MessageEnds::of(frame), Some(MessageEnds::Result { id }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageEnds {
    /// A result for the call with this id.
    Result {
        /// The id.
        id: String,
    },
    /// A reply to the call with this id that has an error.
    Error {
        /// The id.
        id: String,
    },
    /// A request or a notification.
    Request {
        /// How it is spelled.
        dialect: Dialect,
        /// The id, if there is a usable one.
        id: Option<String>,
    },
}

impl MessageEnds {
    /// Looks at the first and the last 256 bytes of a message.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        if frame.len() <= 2 * END_BYTES {
            let mut seen = SeenMembers::default();
            seen.read_head(frame);
            if seen.ids == 0 {
                seen.read_tail(frame);
            }
            return seen.message();
        }
        let (head, rest) = frame.split_at(END_BYTES);
        Self::read(head, &rest[rest.len() - END_BYTES..])
    }

    /// The same, given the first bytes and the last.
    pub(crate) fn read(head: &[u8], tail: &[u8]) -> Option<Self> {
        let mut seen = SeenMembers::default();
        seen.read_head(head);
        seen.read_tail(tail);
        seen.message()
    }
}

/// The members that were seen.
#[derive(Debug)]
struct SeenMembers {
    id: Option<String>,
    ids: usize,
    dialect: Dialect,
    has_method: bool,
    has_result: bool,
    has_error: bool,
}

impl Default for SeenMembers {
    fn default() -> Self {
        Self {
            id: None,
            ids: 0,
            dialect: Dialect::Notebook,
            has_method: false,
            has_result: false,
            has_error: false,
        }
    }
}

impl SeenMembers {
    fn message(self) -> Option<MessageEnds> {
        let id = self.id.filter(|_| self.ids == 1);
        Some(match (self.has_method, self.has_error, self.has_result) {
            (true, ..) => MessageEnds::Request {
                dialect: self.dialect,
                id,
            },
            (false, true, _) => MessageEnds::Error { id: id? },
            (false, false, true) => MessageEnds::Result { id: id? },
            (false, false, false) => return None,
        })
    }

    /// `value` is `None` if it isn't all there.
    fn add(&mut self, name: &str, value: Option<&RawValue>) {
        // Some servers of the 1.0 days send both outcomes and set one of them to null.
        let is_set = value.is_none_or(|value| value.get() != "null");
        match name {
            "id" => {
                self.ids += 1;
                let id = value.and_then(|value| Id::parse(value).ok());
                self.id = id.map(|id| id.raw().to_owned());
            }
            "jsonrpc" => self.dialect = Dialect::JsonRpc2,
            "method" => self.has_method = true,
            "result" => self.has_result |= is_set,
            "error" => self.has_error |= is_set,
            _ => {}
        }
    }

    fn read_head(&mut self, head: &[u8]) {
        let mut json = serde_json::Deserializer::from_slice(head);
        // It ends in an error where it was cut off; what came before that counts.
        let _ = json.deserialize_map(Head { seen: self, head });
    }

    /// What follows a comma up to the end is an object without its brace, if the comma stands between
    /// two members of the message. Behind any other comma it has too many brackets, or half a string.
    fn read_tail(&mut self, tail: &[u8]) {
        let mut bytes = tail.to_vec();
        for at in 0..bytes.len() {
            if bytes[at] != b',' {
                continue;
            }
            bytes[at] = b'{';
            if let Ok(members) = serde_json::from_slice::<Members<'_>>(&bytes[at..]) {
                self.ids += usize::from(members.duplicate.as_deref() == Some("id"));
                for (name, value) in members.known_ones() {
                    self.add(name, Some(value));
                }
                return;
            }
        }
    }
}

struct Head<'a, 'h> {
    seen: &'a mut SeenMembers,
    head: &'h [u8],
}

impl<'de> Visitor<'de> for Head<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let end = self.head.as_ptr_range().end;
        while let Some(BorrowedName(name)) = map.next_key()? {
            let value = map.next_value::<&RawValue>();
            // A number may go on behind the cut.
            let is_whole = |value: &&&RawValue| value.get().as_bytes().as_ptr_range().end != end;
            self.seen
                .add(&name, value.as_ref().ok().filter(is_whole).copied());
            value?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn result(id: &str) -> Option<MessageEnds> {
        Some(MessageEnds::Result { id: id.to_owned() })
    }

    fn error(id: &str) -> Option<MessageEnds> {
        Some(MessageEnds::Error { id: id.to_owned() })
    }

    /// `~` stands for what nothing is known of.
    fn read(text: &str) -> Option<MessageEnds> {
        let (head, tail) = text.split_once('~').unwrap_or((text, ""));
        MessageEnds::read(head.as_bytes(), tail.as_bytes())
    }

    #[test]
    fn the_id_is_found_at_either_end() {
        for (text, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":"a","result":["x~"#,
                result("\"a\""),
            ),
            (r#"{"id":7,"result":{"a":{"id":8},"b~"#, result("7")),
            (r#"{"result":"x~y","id":-1}"#, result("-1")),
            (
                r#"{"error": null, "result": [1~2], "id": "a,\"b" , "jsonrpc": "2.0"} "#,
                result(r#""a,\"b""#),
            ),
            (
                r#"{"result":[~{"id":1},{"id":2}],"id":3,"redial":{"replayed":true}}"#,
                result("3"),
            ),
            (r#"{"result":[1~],"error":null,"id":"x"}"#, result("\"x\"")),
            (
                r#"{"id":"a","error":{"code":1,"message":"~"#,
                error("\"a\""),
            ),
            (
                r#"{"id":"a","result":null,"error":{"code":1,"message":"~"#,
                error("\"a\""),
            ),
            (
                r#"{"id":"a","result":"~","error":{"code":1}}"#,
                error("\"a\""),
            ),
            (r#"{"id":"a","result":1e"#, result("\"a\"")),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_certain_is_not_said() {
        for text in [
            "",
            "~",
            "[~]",
            r#"[{"id":1,"result":"~"}]"#,
            r#"{"id":12"#,
            r#"{"id":12~3,"result":1}"#,
            r#"{"result":1,"id":12"#,
            r#"{"id":"a~","result":1}"#,
            r#"{"id":1,"id":2,"result":[~]}"#,
            r#"{"id":1,"result":[~],"id":2}"#,
            r#"{"result":[~],"id":1,"id":2}"#,
            r#"{"id":1.5,"result":[~]}"#,
            r#"{"id":1,"data":[~]}"#,
            r#"{"result":["~"],{"id":1}]}"#,
            r#"{"result":"~\",\"id\":1}"}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_in_its_middle_has_two_ends() {
        for middle in ["NaN", "[1,,2]", "\"\t\""] {
            for pad in [0, 1000] {
                let pad = " ".repeat(pad);
                for text in [
                    format!(r#"{{"id":7,"result":{middle}{pad}}}"#),
                    format!(r#"{{"jsonrpc":"2.0","result":{middle}{pad},"id":7}}"#),
                ] {
                    assert_eq!(MessageEnds::of(text.as_bytes()), result("7"), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_has_a_method_at_either_end_is_a_request() {
        for (text, expected) in [
            (r#"{"id":1,"method":"m","params":[~]}"#, Some("1")),
            (r#"{"id":1,"result":[~],"method":"m"}"#, Some("1")),
            (r#"{"m\u0065thod":1,"params":[~],"id":"x"}"#, Some("\"x\"")),
            (r#"{"method":"m","params":[~"#, None),
        ] {
            let id = expected.map(str::to_owned);
            let dialect = Dialect::Notebook;
            let expected = Some(MessageEnds::Request { dialect, id });
            assert_eq!(read(text), expected, "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            Just(json!({"id": 1, "result": 2})),
            prop::sample::select(vec![
                "",
                ",",
                ",\"id\":1}",
                "\"",
                "\\",
                "{\"id\":1,",
                "id",
                ": ",
                "}",
                "ü\\\",",
                "result"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z\",{}:]{0,3}|id|result", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// Whatever stands in the message, and wherever it is cut, no other id is found than its own.
        #[test]
        fn no_other_id_is_found_than_that_of_the_message(
            id in prop_oneof![Just(json!(123_456)), Just(json!("a,\"id\":1}"))],
            others in prop::collection::vec(("[a-z\",]{0,3}", json()), 0..4),
            value in json(),
            is_error: bool,
            order in any::<prop::sample::Index>(),
            cuts in any::<[prop::sample::Index; 2]>(),
        ) {
            let outcome = if is_error { "error" } else { "result" };
            let mut members = vec![
                format!("\"id\":{id}"),
                format!("\"{outcome}\":{value}"),
            ];
            members.extend(others.iter().filter(|(name, _)| !["id", "error"].contains(&&**name)).map(
                |(name, value)| format!("{}:{value}", json!(name)),
            ));
            let at = order.index(members.len());
            members.rotate_left(at);
            let text = format!("{{{}}}", members.join(","));
            let mut cuts = cuts.map(|cut| cut.index(text.len() + 1));
            cuts.sort_unstable();
            let found = MessageEnds::read(&text.as_bytes()[..cuts[0]], &text.as_bytes()[cuts[1]..]);
            let id = id.to_string();
            let expected = if is_error { error(&id) } else { result(&id) };
            prop_assert!(found.is_none() || found == expected, "{}: {:?}", text, found);
        }
    }
}
