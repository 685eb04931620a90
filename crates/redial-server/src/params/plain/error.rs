//! Why a type can't be read: it says so, or what it is to be read from is refused.

use std::fmt;

use serde::de::{Expected, Unexpected};

/// What a type itself says is serde_json's error, so that a type that looks at the text finds
/// what it would find there. A refusal is nothing, since it goes before every unusual text.
#[derive(Debug)]
pub(super) struct Error(Option<serde_json::Error>);

impl Error {
    pub(super) const REFUSED: Self = Self(None);
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => error.fmt(f),
            None => f.write_str("not of the usual shape"),
        }
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Some(serde_json::Error::custom(message)))
    }

    // These two are worded in a way of its own.

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(Some(serde_json::Error::invalid_type(unexpected, expected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(Some(serde_json::Error::invalid_value(unexpected, expected)))
    }
}
