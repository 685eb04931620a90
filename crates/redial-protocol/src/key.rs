//! The key of a call in the server's table.

use std::fmt;

use uuid::Uuid;

use crate::{principal::Principal, session::SessionCall};

/// The name of a call: two attempts with the same key are attempts of one call.
///
/// Two keys are equal exactly if the ids are the same string, or integers of the same text: `"a"` and
/// `"\u0061"` are one; `1` and `"1"` are two, and so are `0` and `-0`, and a UUID in lower case and in
/// upper case. A UUID of version 8 is
/// the name of a session's call in either case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKey {
    /// A call of a session: a string that is a UUID of version 8.
    Session(SessionCall),
    /// A string that is a UUID in lower case, kept as its 16 bytes.
    Uuid([u8; 16]),
    /// Any other string.
    Text(Box<str>),
    /// An integer, as its text.
    Integer(Box<str>),
    /// A plain id of a principal: another key than the same id of another principal, or of none.
    Owned(Box<OwnedKey>),
}

/// A plain id, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnedKey {
    /// Whose id it is.
    pub principal: Principal,
    /// The id as a key without a principal.
    pub key: CallKey,
}

/// The id as a text, without its principal: a UUID in lower case, any other string without its quotes, or digits.
impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(call) => call.uuid().fmt(f),
            Self::Uuid(bytes) => Uuid::from_bytes(*bytes).fmt(f),
            Self::Text(text) | Self::Integer(text) => text.fmt(f),
            Self::Owned(owned) => owned.key.fmt(f),
        }
    }
}

impl CallKey {
    /// The key of a string in the notebook dialect, where every string is one.
    #[must_use]
    pub fn of_string(text: &str) -> Self {
        match parse_uuid(text) {
            Some(uuid) => Self::from_uuid_text(uuid, text),
            None => Self::Text(text.into()),
        }
    }

    /// The key of a string that is a UUID, given with or without quotes. Only the canonical form is
    /// kept as bytes, since the others are other strings.
    #[inline]
    pub(crate) fn from_uuid_text(uuid: Uuid, text: &str) -> Self {
        // Of the bytes that a UUID may have, quotes included, only upper case has not this bit. Looks at
        // many at a time, where `any` would look at one after the other.
        let has_upper = |text: &str| text.bytes().fold(0x20, |all, byte| all & byte) == 0;
        if let Some(call) = SessionCall::from_uuid(uuid) {
            Self::Session(call)
        } else if has_upper(text) {
            Self::Text(text.trim_matches('"').into())
        } else {
            Self::Uuid(uuid.into_bytes())
        }
    }

    /// The key of an integer, given as its text.
    pub(crate) fn of_integer(digits: &str) -> Self {
        Self::Integer(digits.into())
    }

    /// The key of the same id of a principal. A call of a session stays what it is: its session is the
    /// principal's.
    ///
    /// ```
    /// use redial_protocol::{CallKey, Principal};
    ///
    /// let key = || CallKey::of_string("order 7");
    /// let (one, other) = (Principal::new("token:one")?, Principal::new("token:other")?);
    /// assert_ne!(key().owned_by(&one), key().owned_by(&other));
    /// assert_ne!(key().owned_by(&one), key());
    /// assert_eq!(key().owned_by(&one).to_string(), "order 7");
    /// # Ok::<(), redial_protocol::PrincipalError>(())
    /// ```
    #[must_use]
    pub fn owned_by(self, principal: &Principal) -> Self {
        match self {
            Self::Session(_) | Self::Owned(_) => self,
            key => Self::Owned(Box::new(OwnedKey {
                principal: principal.clone(),
                key,
            })),
        }
    }

    /// Whose plain id it is, if it is that of a principal.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Owned(owned) => Some(&owned.principal),
            _ => None,
        }
    }

    /// What the key keeps on the heap, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Session(_) | Self::Uuid(_) => 0,
            Self::Text(text) | Self::Integer(text) => text.len(),
            Self::Owned(owned) => size_of::<OwnedKey>() + owned.key.heap_bytes(),
        }
    }
}

/// The UUID that a string is in its 36-character form. `Uuid` also reads forms with braces and without
/// hyphens; those are other strings.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 {
        Uuid::try_parse_ascii(text.as_bytes()).ok()
    } else {
        None
    }
}
