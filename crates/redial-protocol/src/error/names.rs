//! The names of the members of an error's data: whether any is there twice.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::members::BorrowedName;

/// What is to be known of the names of an object's members.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names {
    has_executed: bool,
    has_double: bool,
}

impl Names {
    /// Those of an object; `None` if it is something else.
    pub(super) fn of(data: &RawValue) -> Option<Self> {
        serde_json::from_str(data.get()).ok()
    }

    /// Data of Redial's, of which it can't be said what it means.
    pub(super) fn contradict(self) -> bool {
        self.has_executed && self.has_double
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let (mut names, mut seen) = (Names::default(), HashSet::<Cow<'de, str>>::new());
        while let Some(BorrowedName(name)) = map.next_key()? {
            map.next_value::<IgnoredAny>()?;
            names.has_executed |= name == "executed";
            names.has_double |= !seen.insert(name);
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use crate::error::{ErrorObject, Executed};

    /// Kind: one thing said twice, and one of them taken. Instance: `executed` yes and no, where the code
    /// alone says no.
    #[test]
    fn data_that_contradicts_itself_says_nothing_and_outranks_the_code() {
        for data in [
            r#"{"executed":"yes","executed":"no"}"#,
            r#"{"executed":"no","executed":"no"}"#,
            r#"{"executed":"no","ex\u0065cuted":"yes"}"#,
            r#"{"executed":"no","detail":"a","detail":"b"}"#,
            r#"{"executed":"no","x":1,"x":2}"#,
        ] {
            for code in [-32601, -32602, -32001, -32000, 7] {
                let text = format!(r#"{{"code":{code},"message":"","data":{data}}}"#);
                let error: ErrorObject = serde_json::from_str(&text).unwrap();
                assert_eq!(error.executed(), Executed::Unknown, "{text}");
                assert_eq!(error.redial_data(), None, "{text}");
            }
        }
    }

    /// What is not Redial's is not judged by Redial's rules.
    #[test]
    fn data_that_does_not_speak_of_the_execution_leaves_it_to_the_code() {
        for (code, executed) in [(-32601, Executed::No), (7, Executed::Yes)] {
            let text = format!(r#"{{"code":{code},"message":"","data":{{"x":1,"x":2}}}}"#);
            let error: ErrorObject = serde_json::from_str(&text).unwrap();
            assert_eq!(error.executed(), executed, "{text}");
        }
    }
}
