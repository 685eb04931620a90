//! Who calls, by a name that something has vouched for.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// Who calls: a name that a transport or a verifier has vouched for, from 1 to 256 bytes and without
/// control characters, which would forge lines of logs. Cheap to clone.
///
/// By convention a name says where it comes from: `cert:NAME` for a client certificate, `uid:1000` for
/// a Unix peer, `token:NAME` for a token.
///
/// ```
/// use redial_protocol::Principal;
///
/// let principal = Principal::new("token:billing")?;
/// assert_eq!(principal.as_str(), "token:billing");
/// assert!(Principal::new("").is_err());
/// # Ok::<(), redial_protocol::PrincipalError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(Arc<str>);

/// A name that no principal can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a principal's name has {found}; expected 1 to {} bytes without control characters",
    Principal::MAX_BYTES
)]
pub struct PrincipalError {
    found: Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Bytes(usize),
    Control(char),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Control(char) => write!(f, "a control character, {char:?}"),
        }
    }
}

impl Principal {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The principal of this name.
    ///
    /// # Errors
    ///
    /// [`PrincipalError`] if the name is empty, longer than [`MAX_BYTES`](Self::MAX_BYTES), or has a
    /// control character in it.
    pub fn new(name: &str) -> Result<Self, PrincipalError> {
        let found = if !(1..=Self::MAX_BYTES).contains(&name.len()) {
            Found::Bytes(name.len())
        } else if let Some(control) = name.chars().find(|char| char.is_control()) {
            Found::Control(control)
        } else {
            return Ok(Self(name.into()));
        };
        Err(PrincipalError { found })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate may hold any text, of any length.
    #[test]
    fn a_name_has_from_1_to_256_bytes() {
        for (len, is_name) in [(0, false), (1, true), (256, true), (257, false)] {
            let name = "n".repeat(len);
            assert_eq!(Principal::new(&name).is_ok(), is_name, "{len}");
        }
        let error = Principal::new("").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a principal's name has 0 bytes; expected 1 to 256 bytes without control characters"
        );
        assert!(Principal::new(&"é".repeat(129)).is_err());
    }

    /// Kind: a name that stands in a log or a table and is more than a name there. Instances: a line
    /// break, an escape sequence, and NUL, which PostgreSQL has no text with.
    #[test]
    fn a_name_has_no_control_characters() {
        for char in [
            '\0', '\n', '\r', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}',
        ] {
            let error = Principal::new(&format!("cert:a{char}b")).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("a control character") && !text.contains(char),
                "{text}"
            );
        }
        for name in ["uid:0", "cert:spiffe://corp/a b", "token:größe"] {
            assert!(Principal::new(name).is_ok(), "{name}");
        }
    }
}
