//! Sessions on the wire: a session's id, and the names of the calls that are numbered in it.
//!
//! To a program that has never heard of sessions such a name is a UUID like any other. Its
//! version is 8, which RFC 9562 (section 5.8) leaves to each application: the session stands in
//! the 60 high custom bits and the call's number in the 62 low ones. So the server finds a call's
//! record by counting instead of hashing, as RIFL (Lee et al., SOSP 2015, section 4) does with
//! `(client id, sequence number)` and NFSv4.1 (RFC 8881, section 2.10.6) with slots.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;
use uuid::{Uuid, Variant};

const NUMBER_BITS: u32 = 62;
const SESSION_BITS: u32 = 60;
const VERSION: u128 = 8;
const VARIANT: u128 = 0b10;

/// A client's standing with one table of calls: 60 random bits, made by the server, so that a
/// request that was held back can never bring an old session back to life.
///
/// ```
/// use redial_protocol::SessionId;
///
/// let session = SessionId::from_bits(0x123_4567_89ab_cdef);
/// assert_eq!(session.to_string(), "123456789abcdef");
/// assert_eq!("123456789abcdef".parse(), Ok(session));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

/// A text that is not a session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a session's id; expected 15 hex digits in lower case")]
pub struct SessionIdError;

impl SessionId {
    /// The session with these 60 bits; the 4 highest of the 64 are dropped.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << SESSION_BITS) - 1))
    }

    /// The 60 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 15 || !text.bytes().all(is_digit) {
            return Err(SessionIdError);
        }
        let bits = u64::from_str_radix(text, 16).map_err(|_| SessionIdError)?;
        Ok(Self(bits))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The name of a call that belongs to a session.
///
/// ```
/// use redial_protocol::{SessionCall, SessionId};
///
/// let call = SessionCall { session: SessionId::from_bits(0x123_4567_89ab_cdef), number: 7 };
/// let id = call.uuid();
/// assert_eq!(id.to_string(), "12345678-9abc-8def-8000-000000000007");
/// assert_eq!(SessionCall::from_uuid(id), Some(call));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionCall {
    /// The session.
    pub session: SessionId,
    /// Which call of the session it is, counted from 0 and below 2^62.
    pub number: u64,
}

impl SessionCall {
    /// The highest number that a call can have. At a million calls a second it is reached after
    /// 146,000 years.
    pub const MAX_NUMBER: u64 = (1 << NUMBER_BITS) - 1;

    /// The call that a UUID names, if its version is 8 and its variant that of RFC 9562.
    #[must_use]
    pub fn from_uuid(id: Uuid) -> Option<Self> {
        if id.get_version_num() != VERSION as usize || id.get_variant() != Variant::RFC4122 {
            return None;
        }
        let bits = id.as_u128();
        let (high, middle) = ((bits >> 80) as u64, (bits >> 64) as u64 & 0xfff);
        Some(Self {
            session: SessionId(high << 12 | middle),
            number: bits as u64 & Self::MAX_NUMBER,
        })
    }

    /// The call's id: a UUID of version 8. Of the number only the low 62 bits count.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        let session = u128::from(self.session.0);
        Uuid::from_u128(
            session >> 12 << 80
                | VERSION << 76
                | (session & 0xfff) << 64
                | VARIANT << 62
                | u128::from(self.number & Self::MAX_NUMBER),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_session_and_number_survive_the_uuid(bits: u64, number in 0..=SessionCall::MAX_NUMBER) {
            let call = SessionCall { session: SessionId::from_bits(bits), number };
            let id = call.uuid();
            prop_assert_eq!(id.get_version_num(), 8);
            prop_assert_eq!(id.get_variant(), Variant::RFC4122);
            prop_assert_eq!(SessionCall::from_uuid(id), Some(call));
        }

        #[test]
        fn every_session_survives_its_text(bits: u64) {
            let session = SessionId::from_bits(bits);
            prop_assert_eq!(session.to_string().parse(), Ok(session));
            let json = serde_json::to_string(&session).unwrap();
            prop_assert_eq!(serde_json::from_str::<SessionId>(&json).unwrap(), session);
        }
    }

    #[test]
    fn other_uuids_name_no_call_of_a_session() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49",
            "6b1f0e1c-7f51-7f5c-9d0e-0a5d1c2b3a49",
            // Version 8 of another variant.
            "6b1f0e1c-7f51-8f5c-cd0e-0a5d1c2b3a49",
        ] {
            let id = Uuid::parse_str(text).unwrap();
            assert_eq!(SessionCall::from_uuid(id), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_session_id_is_refused() {
        for text in [
            "",
            "123",
            "123456789abcdeg",
            "123456789ABCDEF",
            "+23456789abcdef",
            "1123456789abcdef",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(SessionIdError), "{text}");
        }
    }
}
