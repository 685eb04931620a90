//! The members of any message, as serde_json finds them; it does what the [`json`](crate::json) room
//! leaves to it.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of a request or a reply, as they were written.
#[derive(Default)]
pub(crate) struct Members<'a> {
    pub(crate) jsonrpc: Option<&'a RawValue>,
    pub(crate) id: Option<&'a RawValue>,
    pub(crate) method: Option<&'a RawValue>,
    pub(crate) params: Option<&'a RawValue>,
    pub(crate) result: Option<&'a RawValue>,
    pub(crate) error: Option<&'a RawValue>,
    pub(crate) redial: Option<&'a RawValue>,
    /// The first member that was there twice, known or not.
    pub(crate) duplicate: Option<String>,
    /// The id was there twice.
    pub(crate) has_two_ids: bool,
}

impl<'a> Members<'a> {
    /// Those that are there, by name.
    pub(crate) fn known_ones(&self) -> impl Iterator<Item = (&'static str, &'a RawValue)> {
        let all = [
            ("jsonrpc", self.jsonrpc),
            ("id", self.id),
            ("method", self.method),
            ("params", self.params),
            ("result", self.result),
            ("error", self.error),
            ("redial", self.redial),
        ];
        let present = |(name, value): (_, Option<_>)| value.map(|value| (name, value));
        all.into_iter().filter_map(present)
    }

    fn known(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match name {
            "jsonrpc" => &mut self.jsonrpc,
            "id" => &mut self.id,
            "method" => &mut self.method,
            "params" => &mut self.params,
            "result" => &mut self.result,
            "error" => &mut self.error,
            "redial" => &mut self.redial,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A derived deserialiser would take an array for the object.
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut others = HashSet::new();
        while let Some(BorrowedName(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let is_duplicate = match members.known(&name) {
                Some(member) => member.replace(value).is_some(),
                None => !others.insert(name.clone()),
            };
            if is_duplicate {
                members.has_two_ids |= name == "id";
                members.duplicate.get_or_insert(name.into_owned());
            }
        }
        Ok(members)
    }
}

/// A member's name, borrowed unless it has escapes. (serde reads a bare `Cow` as owned.)
#[derive(Deserialize)]
pub(crate) struct BorrowedName<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
