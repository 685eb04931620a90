//! Ids: echoed as they were written, compared as the values they are.
//!
//! An id is a string of 1 to 128 bytes, an integer, or null. An integer is kept as its text:
//! through a float, 2^64 and 2^64 + 1 would become one id, and one of two effects would be lost.
//! `1` and `"1"` are two ids.

use std::{borrow::Cow, fmt};

use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    dialect::Dialect,
    json::string,
    key::{CallKey, parse_uuid},
    limits::Limits,
    text::cut,
};

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
    /// The UUID that it is, if that is known already; it is needed for every call.
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
    pub const NULL: Id<'static> = Id {
        raw: "null",
        uuid: None,
    };

    /// Reads the value of an `id` member.
    ///
    /// # Errors
    ///
    /// [`IdError`] if the value is not of a kind that an id may have.
    pub fn parse(raw: &'a RawValue) -> Result<Self, IdError> {
        Self::from_json(raw.get())
    }

    /// The same of a text that is known to be one JSON value.
    pub(crate) fn from_json(raw: &'a str) -> Result<Self, IdError> {
        match raw.as_bytes() {
            b"null" => {}
            [b'"', ..] => check_length(string_value(raw)?.len())?,
            [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
                check_length(raw.len())?;
            }
            _ => return Err(IdError::WrongType(cut(raw).to_owned())),
        }
        Ok(Self { raw, uuid: None })
    }

    /// The same of a string that is known to be this UUID in its 36-character form.
    pub(crate) fn from_uuid_json(raw: &'a str, uuid: Uuid) -> Self {
        Self {
            raw,
            uuid: Some(uuid),
        }
    }

    /// Whether this is known to be a UUID.
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
        self.uuid.or_else(|| parse_uuid(&self.as_str()?))
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
                parse_uuid(&text).map(|uuid| CallKey::from_uuid_text(uuid, &text))
            }
            (None, Dialect::Notebook) if !self.is_null() => Some(CallKey::of_integer(self.raw)),
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

fn check_length(len_bytes: usize) -> Result<(), IdError> {
    match len_bytes {
        0 => Err(IdError::Empty),
        1..=Limits::MAX_ID_BYTES => Ok(()),
        _ => Err(IdError::TooLong { len_bytes }),
    }
}

/// What a JSON string stands for.
fn string_value(raw: &str) -> Result<Cow<'_, str>, IdError> {
    string::value(raw).map_err(|error| IdError::BadString(error.to_string()))
}

#[cfg(test)]
mod tests;
