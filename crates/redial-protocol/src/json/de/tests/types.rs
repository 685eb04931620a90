//! Types of every shape, to be read in two ways.

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    a: String,
    #[serde(default)]
    b: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Strict {
    a: Option<Box<Strict>>,
    b: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Flat {
    a: Option<Value>,
    #[serde(flatten)]
    rest: BTreeMap<String, Loose>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Loose {
    Number(u8),
    Float(f64),
    Pair(i64, bool),
    Named { a: String },
    Unit,
    Many(Vec<Loose>),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum SomeEnum {
    #[serde(rename = "a")]
    Unit,
    #[serde(rename = "b")]
    Newtype(Option<u8>),
    #[serde(rename = "c")]
    Pair(i64, Letter),
    #[serde(rename = "d")]
    Named { a: bool },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Letter(char);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "a")]
pub(super) enum Tagged {
    #[serde(rename = "b")]
    One { b: Option<f32> },
    #[serde(rename = "c")]
    Two(Named),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "a", content = "b")]
pub(super) enum Adjacent {
    #[serde(rename = "b")]
    One(Option<u8>),
    #[serde(rename = "c")]
    Two { x: Value },
    #[serde(rename = "x")]
    Nothing,
}

/// Takes what is left of a refusal, if it can.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Fallback {
    Map(BTreeMap<u8, u8>),
    Checked(#[serde(deserialize_with = "even")] u8),
    Anything(Value),
}

fn even<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    match u8::deserialize(from)? {
        odd if odd % 2 == 1 => Err(serde::de::Error::custom("odd")),
        even => Ok(even),
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Label(String);

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Wrapped<T>(T);

/// Takes an error for an answer, and what it says for another.
#[derive(Debug, PartialEq)]
pub(super) struct Forgiving<T>(Result<T, String>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Forgiving<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(
            T::deserialize(from).map_err(|error| error.to_string()),
        ))
    }
}

/// Needs nothing of what it is to be read from.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Blind;

impl<'de> Deserialize<'de> for Blind {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// Asks for an array, or a unit, and takes a string.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Odd;

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(OddVisitor)
    }
}

pub(super) struct OddVisitor;

impl<'de> Visitor<'de> for OddVisitor {
    type Value = Odd;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("something odd")
    }

    fn visit_str<E>(self, _: &str) -> Result<Odd, E> {
        Ok(Odd)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Odd, A::Error> {
        let (odd, held) = data.variant::<Odd>()?;
        held.newtype_variant::<IgnoredAny>().map(|_| odd)
    }
}

/// An enum whose variants are named by something odd.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OddEnum(Odd);

impl<'de> Deserialize<'de> for OddEnum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_enum("Odd", &[], OddVisitor).map(Self)
    }
}

/// Can't be read from strings that are not lent.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Borrowed<'a> {
    #[serde(borrow)]
    a: Option<Cow<'a, str>>,
    b: Option<&'a str>,
}
