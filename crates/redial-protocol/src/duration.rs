//! Durations as people write them: a number and its unit.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Visitor};
use thiserror::Error;

/// A duration as text, such as `250ms`, `1.5s` or `2m`: a number and one of the units `us`, `ms`, `s`, `m` and
/// `h`. So configurations and flags spell it.
///
/// ```
/// use std::time::Duration;
/// use redial_protocol::DurationText;
///
/// assert_eq!("1.5s".parse(), Ok(DurationText(Duration::from_millis(1500))));
/// assert!("5".parse::<DurationText>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

/// A text is no duration, or one that is longer than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected {EXPECTED}")]
pub struct DurationError;

const EXPECTED: &str = "a duration with its unit, such as 250ms, 5s or 2m";

/// In seconds.
const UNITS: [(&str, f64); 6] = [
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

impl FromStr for DurationText {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit());
        let unit = UNITS
            .iter()
            .find(|(unit, _)| *unit == &text[digits.len()..]);
        let is_plain = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let (_, unit) = unit.filter(|_| is_plain).ok_or(DurationError)?;
        let number: f64 = digits.parse().map_err(|_| DurationError)?;
        let duration = Duration::try_from_secs_f64(number * unit);
        duration.map(Self).map_err(|_| DurationError)
    }
}

impl DurationText {
    /// Reads a field of a configuration, by `#[serde(deserialize_with = "DurationText::read")]`.
    ///
    /// # Errors
    ///
    /// For what is no text, or none of a duration.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Self::deserialize(deserializer).map(|text| text.0)
    }

    /// The same of a field that may be left out.
    ///
    /// # Errors
    ///
    /// As of [`read`](Self::read).
    pub fn read_optional<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<Self>::deserialize(deserializer)?;
        Ok(text.map(|text| text.0))
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DurationText, E> {
                text.parse()
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Duration> {
        text.parse().ok().map(|DurationText(duration)| duration)
    }

    /// Kind: a number that is taken for another. Instances: every unit, and what has none.
    #[test]
    fn a_duration_has_a_unit() {
        for (text, micros) in [
            ("0s", 0),
            ("50us", 50),
            ("50µs", 50),
            ("250ms", 250_000),
            ("0.1s", 100_000),
            ("1.5s", 1_500_000),
            ("2m", 120_000_000),
            ("480h", 1_728_000_000_000),
        ] {
            assert_eq!(read(text), Some(Duration::from_micros(micros)), "{text}");
        }
        for wrong in [
            "", "5", "s", "-1s", "1e3s", "5 s", "5d", ".s", "NaNs", "1.2.3s", "infs", "5S",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read(&format!("{}h", "9".repeat(30))), None);
    }

    /// Kind: an error that doesn't say what would be right.
    #[test]
    fn a_number_without_a_unit_is_refused_with_what_was_expected() {
        for json in ["5", r#""5""#, "null", "true"] {
            let error = serde_json::from_str::<DurationText>(json).unwrap_err();
            assert!(error.to_string().contains(EXPECTED), "{json}: {error}");
        }
    }
}
