//! Params with places to fill in: another key for each call, or a random one.

use std::fmt::Write as _;

use rand_chacha::rand_core::Rng;
use redial_protocol::cut;
use serde_json::value::RawValue;

/// The largest whole number that every reader of JSON knows: 2^53 - 1.
const LARGEST: u64 = (1 << 53) - 1;

/// What a placeholder may be.
const PLACEHOLDERS: &str = "{{n}}, {{n%100}}, {{random}}, {{random:100}} or {{uuid}}";

/// JSON with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The number of the call, from 0, modulo this.
    Number(u64),
    /// A random whole number below this.
    Random(u64),
    /// A random UUID, without quotation marks.
    Uuid,
}

impl Template {
    /// Reads a template, and makes sure that whatever is filled in gives params.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text.trim());
        while let Some((before, behind)) = rest.split_once("{{") {
            let (name, after) = behind
                .split_once("}}")
                .ok_or_else(|| format!("{{{{ without }}}}; expected {PLACEHOLDERS}"))?;
            let part = Part::parse(name.trim()).ok_or_else(|| {
                format!("{{{{{name}}}}} is no placeholder; expected {PLACEHOLDERS}")
            })?;
            parts.extend([Part::Text(before.to_owned()), part]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self { parts };
        template.check()?;
        Ok(template)
    }

    /// Whether every call gets the same.
    pub(crate) fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Fills the placeholders in. `text` is overwritten.
    pub(crate) fn render(&self, call: u64, rng: &mut impl Rng, text: &mut String) {
        text.clear();
        for part in &self.parts {
            // Writing to a string can't fail.
            let _ = match part {
                Part::Text(literal) => text.write_str(literal),
                Part::Number(modulus) => write!(text, "{}", call % modulus),
                Part::Random(bound) => write!(text, "{}", below(*bound, rng)),
                Part::Uuid => write!(text, "{}", uuid(rng.next_u64(), rng.next_u64())),
            };
        }
    }

    /// The least and the most that can be filled in give params. So does everything in between: a digit
    /// more changes no grammar, and a UUID outside of a string, or behind a backslash, shows by its first
    /// digits.
    fn check(&self) -> Result<(), String> {
        for most in [false, true] {
            let mut text = String::new();
            for part in &self.parts {
                let _ = match part {
                    Part::Text(literal) => text.write_str(literal),
                    Part::Number(bound) | Part::Random(bound) if most => {
                        write!(text, "{}", bound - 1)
                    }
                    Part::Number(_) | Part::Random(_) => text.write_char('0'),
                    Part::Uuid if most => write!(text, "{}", uuid(u64::MAX, u64::MAX)),
                    Part::Uuid => write!(text, "{}", uuid(0, 0)),
                };
            }
            let value: &RawValue = serde_json::from_str(&text).map_err(|error| {
                format!(
                    "{} is not JSON: {error}; expected JSON, or lines of JSON",
                    cut(&text)
                )
            })?;
            let is_params = value.get().starts_with(['{', '[']) || value.get() == "null";
            if !is_params {
                return Err(format!(
                    "{} is no params; expected an object, an array, or null to leave them out",
                    cut(&text)
                ));
            }
        }
        Ok(())
    }
}

impl Part {
    fn parse(name: &str) -> Option<Self> {
        let bound = |text: &str| text.trim().parse().ok().filter(|bound| *bound > 0);
        match name {
            "n" => return Some(Self::Number(LARGEST + 1)),
            "random" => return Some(Self::Random(LARGEST + 1)),
            "uuid" => return Some(Self::Uuid),
            _ => {}
        }
        let number = name.strip_prefix('n').map(str::trim_start);
        if let Some(modulus) = number.and_then(|rest| rest.strip_prefix('%')) {
            return bound(modulus).map(Self::Number);
        }
        bound(name.strip_prefix("random:")?).map(Self::Random)
    }
}

/// A random whole number from 0 to below the bound.
fn below(bound: u64, rng: &mut impl Rng) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// A UUID of version 4 from random bits (RFC 9562, section 5.4).
fn uuid(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | 1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    fn rendered(template: &str, calls: impl IntoIterator<Item = u64>) -> Vec<String> {
        let template = Template::parse(template).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut text = String::new();
        let one = |call| {
            template.render(call, &mut rng, &mut text);
            text.clone()
        };
        calls.into_iter().map(one).collect()
    }

    #[test]
    fn what_has_no_placeholder_stays_as_it_is() {
        let text = r#"{"key":{"a":[1,{"b":null}]}}"#;
        assert_eq!(rendered(text, [5]), [text]);
        assert!(Template::parse(text).unwrap().is_constant());
        assert_eq!(rendered(" null\n", [5]), ["null"]);
    }

    #[test]
    fn numbers_of_calls_count_and_wrap() {
        let texts = rendered(r#"{"key":"k{{ n % 3 }}","nested":{"n":{{n}}}}"#, [0, 4]);
        assert_eq!(
            texts,
            [
                r#"{"key":"k0","nested":{"n":0}}"#,
                r#"{"key":"k1","nested":{"n":4}}"#
            ]
        );
    }

    #[test]
    fn random_numbers_are_below_their_bound_and_reach_all_of_it() {
        let mut texts = rendered("[{{random:4}}]", 0..200);
        texts.sort();
        texts.dedup();
        assert_eq!(texts, ["[0]", "[1]", "[2]", "[3]"]);
        let all = rendered("[{{random}},\"{{uuid}}\"]", 0..1000);
        for text in all {
            let (number, uuid): (u64, String) = serde_json::from_str(&text).unwrap();
            assert!(number <= LARGEST);
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], "4");
            assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        }
    }

    /// Neighbours of one kind: what would fail in the middle of a run is refused before it.
    #[test]
    fn what_could_give_no_params_is_refused_before_the_first_call() {
        for (text, expected) in [
            ("[{{n}", "{{ without }}"),
            ("[{{m}}]", "{{m}} is no placeholder"),
            ("[{{n%0}}]", "{{n%0}} is no placeholder"),
            ("[{{n%x}}]", "expected {{n}}"),
            ("[{{random:-1}}]", "is no placeholder"),
            ("[{{nn}}]", "is no placeholder"),
            ("[1{{n}}", "is not JSON"),
            ("[0{{n}}]", "is not JSON"),
            ("[{{uuid}}]", "is not JSON"),
            (r#"["\{{uuid}}"]"#, "is not JSON"),
            (r#"["\u00{{n%100}}"]"#, "is not JSON"),
            ("{{n}}", "expected an object"),
            ("\"{{n}}\"", "expected an object"),
            ("", "is not JSON"),
            ("{key: 1}", "is not JSON"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
