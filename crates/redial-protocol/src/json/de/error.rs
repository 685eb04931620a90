//! The error of the reader: a refusal, or what a type says itself.

use std::fmt;

use serde::de::{Expected, Unexpected};

/// A type's own words are kept as serde_json's error, so that a type that looks at the text finds what
/// it would find there. A refusal has no words: the text is read again from its start.
#[derive(Debug)]
pub struct Error(Option<serde_json::Error>);

impl Error {
    pub(super) const REFUSED: Self = Self(None);
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => error.fmt(f),
            None => f.write_str("refused, for serde_json to read"),
        }
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Some(serde_json::Error::custom(message)))
    }

    // serde_json words these two in its own way.

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(Some(serde_json::Error::invalid_type(unexpected, expected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(Some(serde_json::Error::invalid_value(unexpected, expected)))
    }
}
