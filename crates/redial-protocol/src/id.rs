//! Ids: echoed as they were written, compared as the values they are.
//!
//! An id is a string of 1 to 128 bytes, an integer, or null. An integer is kept as its text:
//! through a float, 2^64 and 2^64 + 1 would become one id, and one of two effects would be lost.
//! `1` and `"1"` are two ids.

mod start;

use std::{borrow::Cow, fmt};

use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

pub use self::start::IdPrefixCache;
use crate::{limits::MAX_ID_BYTES, message::Dialect, session::SessionCall, text::cut};

/// The `id` member of a message, borrowed from its frame.
///
/// ```
/// use redial_protocol::{CallKey, Dialect, Id};
///
/// let text = serde_json::value::to_raw_value("6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49")?;
/// let id = Id::parse(&text)?;
/// assert_eq!(id.raw(), r#""6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49""#);
/// assert!(matches!(id.key(Dialect::JsonRpc2), Some(CallKey::Uuid(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Id<'a> {
    raw: &'a str,
    /// The UUID that it is, if that is known already.
    uuid: Option<Uuid>,
}

/// Why an `id` member is not an id. It is answered with -32600.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// A string without characters.
    #[error("the id is an empty string; expected 1 to 128 bytes")]
    Empty,
    /// A string or an integer that is too long.
    #[error("the id has {len_bytes} bytes; at most 128 are allowed")]
    TooLong {
        /// How long it is.
        len_bytes: usize,
    },
    /// A string with an escape that stands for no character, such as half of a surrogate pair.
    #[error("the id is not a valid string: {0}")]
    BadString(String),
    /// A fraction, a bool, an array or an object.
    #[error("the id is {0}; expected a string, an integer or null")]
    WrongType(String),
}

impl<'a> Id<'a> {
    /// The id `null`.
    pub const NULL: Id<'static> = Id::scanned("null");

    /// Reads the value of an `id` member.
    ///
    /// # Errors
    ///
    /// [`IdError`] if the value is none of the kinds an id may have.
    pub fn parse(raw: &'a RawValue) -> Result<Self, IdError> {
        let raw = raw.get();
        match raw.as_bytes() {
            b"null" => {}
            [b'"', ..] => check_length(string_value(raw)?.len())?,
            [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
                check_length(raw.len())?;
            }
            _ => return Err(IdError::WrongType(cut(raw).to_owned())),
        }
        Ok(Self::scanned(raw))
    }

    /// An id that has been looked at already: null, an integer, or a string without escapes, and
    /// no longer than an id may be.
    pub(crate) const fn scanned(raw: &'a str) -> Self {
        Self { raw, uuid: None }
    }

    /// The same, of a string that is a UUID in its 36-character form.
    pub(crate) const fn scanned_uuid(raw: &'a str, uuid: Uuid) -> Self {
        Self {
            raw,
            uuid: Some(uuid),
        }
    }

    /// Whether it is known already to be a UUID.
    pub(crate) fn is_known_uuid(&self) -> bool {
        self.uuid.is_some()
    }

    /// The id exactly as it was written, as JSON: a string keeps its quotes and escapes.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// Whether this is `null`, which is answered but correlates nothing and is never a key.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.raw == "null"
    }

    /// The string that the id is, or `None` if it is an integer or null.
    #[must_use]
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        if self.raw.starts_with('"') {
            string_value(self.raw).ok()
        } else {
            None
        }
    }

    /// The UUID that the id is, if it is a string with one in its 36-character form
    /// (RFC 9562, section 4), in either case.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        uuid_text(&self.as_str()?)
    }

    /// What names the call in the server's table, or `None` if the id only correlates: in the
    /// notebook dialect every id but null is a key; in JSON-RPC 2.0 only UUIDs are, since other
    /// clients count 1, 2, 3 on every connection.
    #[must_use]
    #[inline]
    pub fn key(&self, dialect: Dialect) -> Option<CallKey> {
        if let Some(uuid) = self.uuid {
            return Some(CallKey::from_uuid_text(uuid, self.raw));
        }
        match (self.as_str(), dialect) {
            (Some(text), Dialect::Notebook) => Some(CallKey::of_string(&text)),
            (Some(text), Dialect::JsonRpc2) => {
                uuid_text(&text).map(|uuid| CallKey::from_uuid_text(uuid, &text))
            }
            (None, Dialect::Notebook) if !self.is_null() => {
                // Whoever passes a message on may write it so: JavaScript does.
                let digits = if self.raw == "-0" { "0" } else { self.raw };
                Some(CallKey::Integer(digits.into()))
            }
            (None, _) => None,
        }
    }
}

impl PartialEq for Id<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Id<'_> {}

impl fmt::Debug for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.raw)
    }
}

/// The name of a call: what makes two attempts attempts of one call.
///
/// Two keys are equal exactly if the ids are the same JSON value: `"a"` and `"\u0061"` are one,
/// `1` and `"1"` are two, and so are a UUID in lower and in upper case. A UUID of version 8 is the
/// name of a session's call, in whatever case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKey {
    /// A call of a session: a string that is a UUID of version 8.
    Session(SessionCall),
    /// A string that is a UUID in lower case, kept as its 16 bytes.
    Uuid([u8; 16]),
    /// Any other string.
    Text(Box<str>),
    /// An integer, as its digits.
    Integer(Box<str>),
}

impl CallKey {
    /// The key that a string is, where every id is one.
    #[must_use]
    pub fn of_string(text: &str) -> Self {
        match uuid_text(text) {
            Some(uuid) => Self::from_uuid_text(uuid, text),
            None => Self::Text(text.into()),
        }
    }

    /// `text` is how `uuid` was written, with or without quotes: only the canonical form may be
    /// kept as bytes, because the others would no longer be told apart.
    #[inline]
    fn from_uuid_text(uuid: Uuid, text: &str) -> Self {
        if let Some(call) = SessionCall::from_uuid(uuid) {
            Self::Session(call)
        } else if text
            .bytes()
            // All are looked at, since that is done many at a time, and the first is rarely one.
            .fold(false, |any, byte| any | byte.is_ascii_uppercase())
        {
            Self::Text(text.trim_matches('"').into())
        } else {
            Self::Uuid(uuid.into_bytes())
        }
    }

    /// What the key keeps on the heap, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Session(_) | Self::Uuid(_) => 0,
            Self::Text(text) | Self::Integer(text) => text.len(),
        }
    }
}

/// `Uuid` also reads forms with braces and without hyphens; those are other strings.
fn uuid_text(text: &str) -> Option<Uuid> {
    if text.len() == 36 {
        Uuid::try_parse_ascii(text.as_bytes()).ok()
    } else {
        None
    }
}

fn check_length(len_bytes: usize) -> Result<(), IdError> {
    match len_bytes {
        0 => Err(IdError::Empty),
        1..=MAX_ID_BYTES => Ok(()),
        _ => Err(IdError::TooLong { len_bytes }),
    }
}

/// The value of a JSON string; borrowed unless it has escapes.
fn string_value(raw: &str) -> Result<Cow<'_, str>, IdError> {
    crate::message::string_value(raw).map_err(|error| IdError::BadString(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    fn key(json: &str, dialect: Dialect) -> Option<CallKey> {
        Id::parse(&raw(json)).unwrap().key(dialect)
    }

    #[test]
    fn strings_integers_and_null_are_ids() {
        let longest = format!("\"{}\"", "x".repeat(128));
        for json in [
            "\"a\"",
            "0",
            "-7",
            "18446744073709551617",
            "null",
            longest.as_str(),
        ] {
            assert_eq!(Id::parse(&raw(json)).unwrap().raw(), json);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let too_long = format!("\"{}\"", "x".repeat(129));
        let too_many_digits = "1".repeat(129);
        let cases = [
            "\"\"",
            "1.5",
            "1e3",
            "true",
            "[]",
            "{}",
            too_long.as_str(),
            &too_many_digits,
        ];
        for json in cases {
            assert!(Id::parse(&raw(json)).is_err(), "{json} was taken for an id");
        }
        let half_a_pair = raw(r#""\ud800""#);
        assert!(matches!(
            Id::parse(&half_a_pair),
            Err(IdError::BadString(_))
        ));
    }

    #[test]
    fn integers_beyond_64_bits_stay_apart() {
        let one = key("18446744073709551616", Dialect::Notebook);
        let other = key("18446744073709551617", Dialect::Notebook);
        assert_ne!(one, other);
    }

    #[test]
    fn a_number_and_its_text_are_two_ids() {
        assert_ne!(key("1", Dialect::Notebook), key("\"1\"", Dialect::Notebook));
    }

    #[test]
    fn one_value_written_twice_is_one_key() {
        assert_eq!(
            key(r#""a""#, Dialect::Notebook),
            key(r#""\u0061""#, Dialect::Notebook)
        );
        let plain = key(
            "\"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49\"",
            Dialect::JsonRpc2,
        );
        let escaped = key(
            "\"\\u0036b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49\"",
            Dialect::JsonRpc2,
        );
        assert!(plain.is_some());
        assert_eq!(plain, escaped);
    }

    #[test]
    fn json_rpc_2_takes_only_uuids_for_keys() {
        assert_eq!(key("1", Dialect::JsonRpc2), None);
        assert_eq!(key("\"abc\"", Dialect::JsonRpc2), None);
        let lower = "\"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49\"";
        assert!(matches!(
            key(lower, Dialect::JsonRpc2),
            Some(CallKey::Uuid(_))
        ));
        let upper = lower.to_uppercase();
        assert!(matches!(
            key(&upper, Dialect::JsonRpc2),
            Some(CallKey::Text(_))
        ));
        assert_eq!(
            key("\"6b1f0e1c7f514f5c9d0e0a5d1c2b3a49\"", Dialect::JsonRpc2),
            None
        );
    }

    #[test]
    fn a_call_of_a_session_is_known_in_either_case() {
        let lower = "\"12345678-9abc-8def-8000-000000000007\"";
        for dialect in [Dialect::JsonRpc2, Dialect::Notebook] {
            let found = key(lower, dialect);
            assert!(matches!(found, Some(CallKey::Session(call)) if call.number == 7));
            assert_eq!(found, key(&lower.to_uppercase(), dialect));
        }
    }

    #[test]
    fn null_is_never_a_key() {
        assert_eq!(key("null", Dialect::Notebook), None);
        assert_eq!(key("null", Dialect::JsonRpc2), None);
    }

    #[test]
    fn zero_has_one_key_however_it_is_written() {
        assert_eq!(key("-0", Dialect::Notebook), key("0", Dialect::Notebook));
        assert_eq!(Id::parse(&raw("-0")).unwrap().raw(), "-0", "it is echoed");
    }

    /// Strings that are apart by little: UUIDs of two versions, in either case, with something
    /// amiss, and what looks like an integer.
    fn text() -> impl Strategy<Value = String> {
        let uuid = (
            "6b1f0e1[cd]?-7f51-[48]f5c[-_]?[89c]d0e-0a5d1c2b3a49",
            any::<bool>(),
        );
        let uuid = uuid.prop_map(|(uuid, is_upper)| match is_upper {
            true => uuid.to_uppercase(),
            false => uuid,
        });
        prop_oneof![5 => uuid, 1 => "-?[0-2]", 1 => r#"[a"\\é/\n😀]{1,2}"#]
    }

    /// A string as JSON, its characters as they are or escaped.
    fn written(text: &str, escaped: u64) -> String {
        let write = |(at, character): (usize, char)| {
            let mut units = [0; 2];
            match escaped >> at & 1 {
                0 => {
                    let plain = serde_json::to_string(&character).unwrap();
                    plain[1..plain.len() - 1].to_owned()
                }
                _ => {
                    let units = character.encode_utf16(&mut units).iter();
                    units.map(|unit| format!("\\u{unit:04x}")).collect()
                }
            }
        };
        let text: String = text.chars().enumerate().map(write).collect();
        format!("\"{text}\"")
    }

    fn json() -> impl Strategy<Value = String> {
        // About half have no escapes.
        let escaped = prop_oneof![Just(0), any::<u64>()];
        let string = (text(), escaped).prop_map(|(text, escaped)| written(&text, escaped));
        let near = |n: i128| (n - 2..n + 2).prop_map(|n| n.to_string());
        prop_oneof![
            6 => string,
            1 => near(0),
            1 => near(1 << 64),
            1 => near(-(1 << 63)),
            1 => Just("-0".to_owned()),
            1 => Just("null".to_owned()),
        ]
    }

    /// Which value it is, and whether that is a UUID. The UUIDs of sessions have no case.
    fn value(json: &str) -> (Value, bool) {
        match serde_json::from_str(json).unwrap() {
            Value::String(text) => {
                let is_hyphen = |at: usize| [8, 13, 18, 23].contains(&at);
                let fits = |(at, byte): (usize, u8)| match is_hyphen(at) {
                    true => byte == b'-',
                    false => byte.is_ascii_hexdigit(),
                };
                let is_uuid = text.len() == 36 && text.bytes().enumerate().all(fits);
                let is_of_a_session =
                    is_uuid && &text[14..15] == "8" && "89abAB".contains(&text[19..20]);
                match is_of_a_session {
                    true => (Value::String(text.to_lowercase()), true),
                    false => (Value::String(text), is_uuid),
                }
            }
            // Beyond 64 bits `Value` is a float.
            Value::Number(_) => {
                let number: i128 = json.parse().unwrap();
                (serde_json::json!([number.to_string()]), false)
            }
            other => (other, false),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn two_ids_are_one_key_if_they_are_one_json_value(one in json(), other in json()) {
            let ((first, is_uuid), (second, _)) = (value(&one), value(&other));
            let in_notebook = key(&one, Dialect::Notebook);
            prop_assert_eq!(in_notebook.is_some(), first != Value::Null);
            let is_one_key = in_notebook == key(&other, Dialect::Notebook);
            prop_assert_eq!(is_one_key, first == second, "{} {}", one, other);
            // In JSON-RPC 2.0 there are fewer keys, and they are the same.
            let in_json_rpc = key(&one, Dialect::JsonRpc2);
            prop_assert_eq!(in_json_rpc, in_notebook.filter(|_| is_uuid), "{}", one);
            let raw = raw(&one);
            prop_assert_eq!(Id::parse(&raw).unwrap().raw(), &one);
        }
    }
}
