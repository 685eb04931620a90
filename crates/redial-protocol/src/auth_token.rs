//! Tokens by which callers show who they are: secrets, which nothing prints.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A text by which a caller shows who it is. It is a secret: `Debug` doesn't print it, and its memory
/// is overwritten when it goes.
///
/// ```
/// use redial_protocol::AuthToken;
///
/// let token = AuthToken::from("secret".to_owned());
/// assert_eq!(format!("{token:?}"), "AuthToken");
/// assert_eq!(token.as_str(), "secret");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AuthToken(Zeroizing<String>);

impl AuthToken {
    /// The secret itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for AuthToken {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for AuthToken {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthToken")
    }
}

/// As it is sent.
impl Serialize for AuthToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AuthToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
