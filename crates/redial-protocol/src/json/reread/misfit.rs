//! Why a value is not what a type takes, in JSON's words.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::words;

/// Why a text is not what a type takes: what was found, where, and what was expected, in JSON's words.
/// It repeats at most 200 bytes of the text.
#[derive(Debug)]
pub struct Misfit {
    what: MisfitKind,
    /// What was expected, if more is known than that.
    expected: Option<String>,
    location: Option<Box<MisfitLocation>>,
}

#[derive(Debug)]
enum MisfitKind {
    /// Another value.
    Value {
        /// What a type was shown that doesn't look at the text itself.
        shown: Option<Shown>,
    },
    /// An array of this length.
    Length(usize),
    Missing(&'static str),
    Duplicate(&'static str),
    UnknownMember(String),
    /// What a type says itself.
    Words(String),
}

/// A value as a type has kept it.
#[derive(Debug)]
struct Shown {
    kind: &'static str,
    text: String,
}

#[derive(Debug)]
struct MisfitLocation {
    path: String,
    /// The value, as an error repeats it.
    found: String,
    kind: &'static str,
}

impl Misfit {
    pub(super) fn expected(expected: &dyn Expected) -> Self {
        Self::expected_words(words::expected(&expected.to_string()))
    }

    pub(super) fn expected_words(expected: String) -> Self {
        let what = MisfitKind::Value { shown: None };
        Self::new(what, Some(expected))
    }

    /// serde_json's own words, without the line and the column of a text that has one line.
    pub(super) fn of_serde_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let words = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(words, _)| words);
        de::Error::custom(words)
    }

    fn new(what: MisfitKind, expected: Option<String>) -> Self {
        Self {
            what,
            expected,
            location: None,
        }
    }

    /// The same, at this place if it has none yet.
    pub(super) fn at<T: AsRef<str>>(
        self,
        path: &impl fmt::Display,
        value: impl FnOnce() -> T,
    ) -> Self {
        let location = self.location.unwrap_or_else(|| {
            let value = value();
            Box::new(MisfitLocation {
                path: words::shortened(&path.to_string(), words::MAX_PATH_BYTES),
                found: words::found(value.as_ref()),
                kind: words::kind(value.as_ref()),
            })
        });
        Self {
            location: Some(location),
            ..self
        }
    }

    /// The same, in which an object of these members was expected.
    pub(super) fn in_object_of(self, members: &[&str]) -> Self {
        let is_object = |expected: &String| expected.starts_with(words::OBJECT);
        if self.location.is_some() || !self.expected.as_ref().is_none_or(is_object) {
            return self;
        }
        if matches!(
            self.what,
            MisfitKind::UnknownMember(_) | MisfitKind::Words(_)
        ) {
            return self;
        }
        Self {
            expected: Some(words::object_of(members)),
            ..self
        }
    }

    /// The same for params that were left out: there was nothing.
    #[must_use]
    pub fn of_nothing(self) -> Self {
        let location = MisfitLocation {
            path: String::new(),
            found: "nothing".to_owned(),
            kind: "nothing",
        };
        Self {
            location: Some(Box::new(location)),
            ..self
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, kind) = match &self.location {
            Some(location) => {
                if !location.path.is_empty() {
                    write!(f, "at {}: ", location.path)?;
                }
                (&*location.found, location.kind)
            }
            None => ("a value", ""),
        };
        match &self.what {
            MisfitKind::Value { shown: Some(shown) } if shown.kind != kind => {
                write!(f, "found {} in {found}", shown.text)?;
            }
            MisfitKind::Value { .. } => write!(f, "found {found}")?,
            MisfitKind::Length(1) => write!(f, "found 1 element in {found}")?,
            MisfitKind::Length(len) => write!(f, "found {len} elements in {found}")?,
            MisfitKind::Missing(name) => write!(f, "found {found} without the member {name:?}")?,
            MisfitKind::Duplicate(name) => write!(f, "found the member {name:?} twice in {found}")?,
            MisfitKind::UnknownMember(name) => write!(f, "found the unknown member {name}")?,
            MisfitKind::Words(text) => write!(f, "found {found}: {text}")?,
        }
        match &self.expected {
            Some(expected) => write!(f, "; expected {expected}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        if text.starts_with("data did not match any variant") {
            return Self::expected_words("one of the forms that this value may have".to_owned());
        }
        Self::new(
            MisfitKind::Words(words::shortened(&text, words::MAX_WORDS_BYTES)),
            None,
        )
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (kind, text) = words::shown(&found);
        let shown = Some(Shown { kind, text });
        Self::new(
            MisfitKind::Value { shown },
            Some(words::expected(&expected.to_string())),
        )
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::new(
            MisfitKind::Length(len),
            Some(words::expected(&expected.to_string())),
        )
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let (kind, text) = words::shown(&Unexpected::Str(variant));
        let shown = Some(Shown { kind, text });
        Self::new(MisfitKind::Value { shown }, Some(words::one_of(expected)))
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        let name = words::shortened(&words::quoted(name), words::MAX_FOUND_BYTES);
        Self::new(
            MisfitKind::UnknownMember(name),
            Some(words::one_of(expected)),
        )
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(MisfitKind::Missing(name), None)
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::new(MisfitKind::Duplicate(name), None)
    }
}
