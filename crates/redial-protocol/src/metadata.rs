//! What a caller says beside the params: names and values, few and short.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use crate::text::cut;

/// What a caller says beside the params of its call, such as a tenant, a locale or a token: the member
/// `meta` of the member `redial`. It is no part of the call: a retry may say something else.
///
/// At most [`MAX_ENTRIES`](Self::MAX_ENTRIES) entries, and [`MAX_BYTES`](Self::MAX_BYTES) of keys and
/// values together. `Debug` shows the keys alone, since values may be secrets.
///
/// ```
/// use redial_protocol::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.insert("tenant", "acme")?;
/// assert_eq!(metadata.get("tenant"), Some("acme"));
/// assert_eq!(serde_json::to_string(&metadata)?, r#"{"tenant":"acme"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: Vec<(Box<str>, Box<str>)>,
    bytes: usize,
}

/// Why something can't be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// One entry more than there may be.
    #[error("meta has more than {max} entries, the limit", max = Metadata::MAX_ENTRIES)]
    TooMany,
    /// Longer than it may be.
    #[error("meta has more than {max} bytes of keys and values, the limit", max = Metadata::MAX_BYTES)]
    TooLong,
    /// A key without a character.
    #[error("meta has an empty key; expected a name")]
    EmptyKey,
}

impl Metadata {
    /// How many entries there may be.
    pub const MAX_ENTRIES: usize = 32;

    /// How many bytes the keys and values may have together, in UTF-8 and without escapes.
    pub const MAX_BYTES: usize = 8 * 1024;

    /// Without an entry.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// Sets a value, in place of another one of the same key.
    ///
    /// # Errors
    ///
    /// [`MetadataError`] if a limit is reached, or if the key is empty. Nothing is changed then.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), MetadataError> {
        let at = self.position(key);
        let replaced = at.map_or(0, |at| key.len() + self.entries[at].1.len());
        let bytes = self.bytes - replaced + key.len() + value.len();
        if key.is_empty() {
            return Err(MetadataError::EmptyKey);
        }
        if bytes > Self::MAX_BYTES {
            return Err(MetadataError::TooLong);
        }
        match at {
            Some(at) => self.entries[at].1 = value.into(),
            None if self.entries.len() == Self::MAX_ENTRIES => return Err(MetadataError::TooMany),
            None => self.entries.push((key.into(), value.into())),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.position(key).map(|at| &*self.entries[at].1)
    }

    /// All keys and values, in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (self.entries.iter()).map(|(key, value)| (&**key, &**value))
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(other, _)| **other == *key)
    }
}

/// What a caller says beside the params, where it stands: in the text of a request, or in a
/// [`Metadata`]. `Debug` shows the keys alone.
///
/// ```
/// use redial_protocol::{Metadata, MetadataRef};
///
/// let mut metadata = Metadata::new();
/// metadata.insert("tenant", "acme")?;
/// assert_eq!(*MetadataRef::from(&metadata).to_metadata(), metadata);
///
/// let read: MetadataRef<'_> = serde_json::from_str(r#"{"tenant": "acme"}"#)?;
/// assert_eq!(*read.to_metadata(), metadata);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct MetadataRef<'a>(MetadataSource<'a>);

/// `Copy`, so that requests without metadata, which are most of them, have nothing to drop.
#[derive(Clone, Copy)]
enum MetadataSource<'a> {
    Entries(&'a Metadata),
    /// A JSON object that was read once without an error.
    Text(&'a RawValue),
}

impl<'a> MetadataRef<'a> {
    /// The entries.
    #[must_use]
    pub fn to_metadata(self) -> Cow<'a, Metadata> {
        match self.0 {
            MetadataSource::Entries(metadata) => Cow::Borrowed(metadata),
            MetadataSource::Text(text) => {
                Cow::Owned(serde_json::from_str(text.get()).expect("it was read before"))
            }
        }
    }
}

impl<'a> From<&'a Metadata> for MetadataRef<'a> {
    fn from(metadata: &'a Metadata) -> Self {
        Self(MetadataSource::Entries(metadata))
    }
}

impl PartialEq for MetadataRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.to_metadata() == other.to_metadata()
    }
}

impl Eq for MetadataRef<'_> {}

impl fmt::Debug for MetadataRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_metadata().fmt(f)
    }
}

impl Serialize for MetadataRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_metadata().serialize(serializer)
    }
}

/// From JSON text alone, which it refers to.
impl<'de: 'a, 'a> Deserialize<'de> for MetadataRef<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&'de RawValue>::deserialize(deserializer)?;
        let checked: Result<Metadata, _> = serde_json::from_str(text.get());
        checked.map_err(|error| {
            // The outer reader says where.
            let text = error.to_string();
            D::Error::custom(
                text.rsplit_once(" at line ")
                    .map_or(&*text, |(what, _)| what),
            )
        })?;
        Ok(Self(MetadataSource::Text(text)))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|(key, _)| key))
            .finish()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Reads no further than to the first entry that is one too many.
impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MetadataVisitor)
    }
}

/// The error does not repeat a value that is no object.
struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose values are strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        use serde::de::Error;
        let mut metadata = Metadata::new();
        while let Some(Text(key)) = map.next_key()? {
            if metadata.get(&key).is_some() {
                return Err(A::Error::custom(format_args!(
                    "meta has the key \"{}\" twice",
                    cut(&key)
                )));
            }
            let Text(value) = map.next_value()?;
            metadata.insert(&key, &value).map_err(A::Error::custom)?;
        }
        Ok(metadata)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Metadata, E> {
        Err(mismatch("object", &self))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Metadata, E> {
        Err(mismatch("object", &self))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Metadata, E> {
        Err(mismatch("object", &self))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Metadata, E> {
        Err(mismatch("object", &self))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Metadata, E> {
        Err(mismatch("object", &self))
    }
}

/// A string. The error does not repeat a value of another type: it may be a secret, wrongly spelled.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string for each value of meta")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Text<'de>, E> {
        Err(mismatch("string", &self))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Text<'de>, E> {
        Err(mismatch("string", &self))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Text<'de>, E> {
        Err(mismatch("string", &self))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Text<'de>, E> {
        Err(mismatch("string", &self))
    }
}

/// What was found is not repeated.
fn mismatch<E: serde::de::Error>(what: &str, expected: &dyn serde::de::Expected) -> E {
    let found = format!("no {what}");
    E::invalid_type(serde::de::Unexpected::Other(&found), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Metadata, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    fn object(entries: usize, value_bytes: usize) -> String {
        let value = "v".repeat(value_bytes);
        let entries: Vec<String> = (0..entries)
            .map(|entry| format!(r#""{entry:02}":"{value}""#))
            .collect();
        format!("{{{}}}", entries.join(","))
    }

    /// More than there may be: each limit lets its last one in and the next one out.
    #[test]
    fn each_limit_is_where_it_is_said_to_be() {
        assert_eq!(read(&object(32, 254)).unwrap().bytes, Metadata::MAX_BYTES);
        for (text, expected) in [
            (object(33, 1), "more than 32 entries"),
            (object(32, 255), "more than 8192 bytes"),
            (object(1, 8191), "more than 8192 bytes"),
            (r#"{"":"v"}"#.to_owned(), "empty key"),
            (
                r#"{"a":"1","\u0061":"2"}"#.to_owned(),
                "the key \"a\" twice",
            ),
            ("[]".to_owned(), "an object whose values are strings"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let mut metadata = read(&object(32, 254)).unwrap();
        assert_eq!(metadata.insert("00", &"w".repeat(254)), Ok(()));
        let (before, error) = (metadata.clone(), metadata.insert("00", &"w".repeat(255)));
        assert_eq!((error, &metadata), (Err(MetadataError::TooLong), &before));
        let mut metadata = read(&object(32, 1)).unwrap();
        assert_eq!(metadata.insert("33", ""), Err(MetadataError::TooMany));
        assert_eq!(metadata.insert("", ""), Err(MetadataError::EmptyKey));
    }

    /// A secret in the wrong type, or in a log.
    #[test]
    fn no_value_is_ever_repeated() {
        for value in [
            "12345678",
            "-12345678",
            "1234.5678",
            "[12345678]",
            r#"{"12345678":1}"#,
            "null",
        ] {
            let error = read(&format!(r#"{{"pin":{value}}}"#)).unwrap_err();
            assert!(error.contains("expected a string"), "{error}");
            assert!(!error.contains("1234"), "{error}");
        }
        for all in [
            r#""Bearer 12345678""#,
            "12345678",
            "-12345678",
            "1234.5678",
            "true",
            "null",
            "[12345678]",
        ] {
            let error = read(all).unwrap_err();
            assert!(error.contains("expected an object"), "{error}");
            assert!(
                !error.contains("1234") && !error.contains("true"),
                "{error}"
            );
        }
        let metadata = read(r#"{"token":"secret","tenant":"acme"}"#).unwrap();
        assert_eq!(format!("{metadata:?}"), r#"{"token", "tenant"}"#);
    }
}
