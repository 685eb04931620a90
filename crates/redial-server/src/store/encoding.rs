//! How ids and acknowledgements stand in a store's tables, for the stores of this repository.

use redial_protocol::{CallKey, Principal, SessionId};

use super::Acknowledged;

const UUID: u8 = 1;
const TEXT: u8 = 2;
const INTEGER: u8 = 3;

/// Added to the tag of a principal's plain id. The principal's name comes last, behind a byte that no
/// text has.
const OWNED: u8 = 0x10;
const SEPARATOR: u8 = 0xff;

/// A plain id as bytes; `None` for a call of a session.
#[must_use]
pub fn plain_key(key: &CallKey) -> Option<Vec<u8>> {
    let (tag, bytes) = match key {
        CallKey::Session(_) => return None,
        CallKey::Owned(owned) => {
            let mut encoded = plain_key(&owned.key)?;
            encoded[0] |= OWNED;
            encoded.push(SEPARATOR);
            encoded.extend_from_slice(owned.principal.as_str().as_bytes());
            return Some(encoded);
        }
        CallKey::Uuid(bytes) => (UUID, &bytes[..]),
        CallKey::Text(text) => (TEXT, text.as_bytes()),
        CallKey::Integer(digits) => (INTEGER, digits.as_bytes()),
    };
    let mut encoded = Vec::with_capacity(1 + bytes.len());
    encoded.push(tag);
    encoded.extend_from_slice(bytes);
    Some(encoded)
}

/// The plain id of these bytes, if they are one.
#[must_use]
pub fn key_of(bytes: &[u8]) -> Option<CallKey> {
    let (tag, bytes) = bytes.split_first()?;
    if tag & OWNED != 0 {
        return owned_key(tag & !OWNED, bytes);
    }
    plain_key_of(*tag, bytes)
}

fn owned_key(tag: u8, bytes: &[u8]) -> Option<CallKey> {
    let is_separator = |byte: &u8| *byte == SEPARATOR;
    let end = match tag {
        UUID => 16,
        _ => bytes.iter().position(is_separator)?,
    };
    let (id, owner) = bytes.split_at_checked(end)?;
    let (_, owner) = owner
        .split_first()
        .filter(|(first, _)| is_separator(first))?;
    let owner = Principal::new(std::str::from_utf8(owner).ok()?).ok()?;
    Some(plain_key_of(tag, id)?.owned_by(&owner))
}

fn plain_key_of(tag: u8, bytes: &[u8]) -> Option<CallKey> {
    let text = || Some(Box::from(std::str::from_utf8(bytes).ok()?));
    match tag {
        UUID => Some(CallKey::Uuid(bytes.try_into().ok()?)),
        TEXT => Some(CallKey::Text(text()?)),
        INTEGER => Some(CallKey::Integer(text()?)),
        _ => None,
    }
}

/// A session as the tables have it; an id has 60 bits.
#[must_use]
pub fn session(id: SessionId) -> i64 {
    id.bits().cast_signed()
}

/// Whether a number is acknowledged.
#[must_use]
pub fn is_acknowledged(acknowledged: &Acknowledged, number: u64) -> bool {
    number < acknowledged.below && acknowledged.open.binary_search(&number).is_err()
}

/// Whether another one says of some call that it is acknowledged which is not known as such. That most have nothing
/// new is seen at once, however many are open.
#[must_use]
pub fn is_news(known: &Acknowledged, other: &Acknowledged) -> bool {
    let mut open = known
        .open
        .iter()
        .take_while(|number| **number < other.below);
    other.below > known.below || open.any(|number| is_acknowledged(other, *number))
}

/// Takes in what may be older or newer than what is known: what either says stays acknowledged.
/// Returns whether anything was new.
pub fn merge(known: &mut Acknowledged, other: &Acknowledged) -> bool {
    if !is_news(known, other) {
        return false;
    }
    if other.below > known.below {
        let before = std::mem::replace(known, other.clone());
        known
            .open
            .retain(|number| !is_acknowledged(&before, *number));
    } else {
        known.open.retain(|number| !is_acknowledged(other, *number));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(below: u64, open: &[u64]) -> Acknowledged {
        Acknowledged {
            below,
            open: open.to_vec(),
        }
    }

    #[test]
    fn every_plain_id_survives_its_bytes() {
        for key in [
            CallKey::Uuid([7; 16]),
            CallKey::Text("".into()),
            CallKey::Text("ä7".into()),
            CallKey::Integer("-7".into()),
        ] {
            assert_eq!(key_of(&plain_key(&key).unwrap()), Some(key.clone()));
            let owned = |name: &str| key.clone().owned_by(&Principal::new(name).unwrap());
            for key in [owned("a"), owned("token:ä")] {
                assert_eq!(key_of(&plain_key(&key).unwrap()), Some(key));
            }
        }
        // A UUID may have the byte that separates, and a name may be damaged.
        let owner = Principal::new("a").unwrap();
        let key = CallKey::Uuid([SEPARATOR; 16]).owned_by(&owner);
        assert_eq!(key_of(&plain_key(&key).unwrap()), Some(key));
        assert_eq!(key_of(b"\x12id\xff"), None);
        assert_eq!(key_of(b"\x12id"), None);
        assert_eq!(key_of(b"\x11short\xffa"), None);
        assert_eq!(key_of(b"\x01short"), None);
        assert_eq!(key_of(b""), None);
    }

    #[test]
    fn what_either_side_knows_as_acknowledged_stays_so() {
        for (mut known, other, merged) in [
            (acks(5, &[2]), acks(5, &[2]), acks(5, &[2])),
            (acks(5, &[2]), acks(3, &[1]), acks(5, &[])),
            (acks(3, &[1, 2]), acks(9, &[2, 7]), acks(9, &[2, 7])),
            (acks(3, &[]), acks(9, &[2, 7]), acks(9, &[7])),
            (acks(9, &[2]), acks(0, &[]), acks(9, &[2])),
            (acks(9, &[2, 7]), acks(7, &[2]), acks(9, &[2, 7])),
            (acks(9, &[2, 7]), acks(8, &[2]), acks(9, &[2])),
        ] {
            let is_new = known != merged;
            assert_eq!(is_news(&known, &other), is_new);
            assert_eq!(merge(&mut known, &other), is_new);
            assert_eq!(known, merged);
        }
    }
}
