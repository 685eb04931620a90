//! How much it matters that a call is served where not all can be.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};

/// How much it matters that a call is served, where a server can't serve all that its caller sends.
///
/// It orders the calls of one caller, and never lets one caller's pass those of another.
///
/// ```
/// use redial_protocol::Priority;
///
/// assert_eq!(Priority::from_name("sheddable"), Some(Priority::Sheddable));
/// assert!(Priority::Critical < Priority::Default);
/// assert_eq!(Priority::default().name(), "default");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A user waits for it, and can't go on without it: served before the caller's other calls, and shed
    /// last.
    Critical,
    /// Any call that says nothing else.
    #[default]
    Default,
    /// It can be made later, or not at all: prefetching, batch work. Shed first.
    Sheddable,
}

impl Priority {
    /// All of them, the one that matters most first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Default, Self::Sheddable];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Default => "default",
            Self::Sheddable => "sheddable",
        }
    }

    /// The priority of this name; `None` for one that this version does not know.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that this version does not know is one of a later version, and says nothing here: it counts as
/// the default. What is no string is an error.
impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Priority;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a priority: "critical", "default" or "sheddable""#)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Priority, E> {
        Ok(Priority::from_name(name).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incoming, Limits};

    fn read(text: &str) -> Result<Priority, String> {
        match Incoming::parse(text.as_bytes(), &Limits::default()) {
            Ok(Incoming::Request(request)) => Ok(request.meta.priority),
            Ok(Incoming::Batch(_)) => panic!("it is no batch"),
            Err(rejection) => Err(rejection.error.to_string()),
        }
    }

    fn with(priority: &str) -> Result<Priority, String> {
        // Read by hand, and by serde_json, to which escapes are left.
        let fast = format!(r#"{{"id":1,"method":"m","redial":{{"ack":1,"priority":{priority}}}}}"#);
        let slow =
            format!(r#"{{"id":1,"method":"m","redial":{{"\u0061ck":1,"priority":{priority}}}}}"#);
        // Where the fault is differs, since the texts do.
        let read = |text| read(text).map_err(|error| error.replace(char::is_numeric, "0"));
        let (fast, slow) = (read(&fast), read(&slow));
        assert_eq!(fast, slow, "{priority}");
        fast
    }

    #[test]
    fn a_priority_has_three_names_and_others_are_the_default() {
        for known in Priority::ALL {
            assert_eq!(with(&format!(r#""{known}""#)), Ok(known));
        }
        let later = ["background", "", "CRITICAL", r"\u0063ritica"];
        for name in later {
            assert_eq!(with(&format!(r#""{name}""#)), Ok(Priority::Default));
        }
        assert_eq!(with(r#""\u0063ritical""#), Ok(Priority::Critical));
    }

    /// Kind: a member of a wrong type that is passed over. Instance: a priority that is a number.
    #[test]
    fn a_priority_that_is_no_string_is_refused_with_what_was_expected() {
        for wrong in ["1", "null", "true", "{}", r#"["critical"]"#] {
            let message = with(wrong).unwrap_err();
            assert!(
                message.contains(r#"expected a priority: "critical""#),
                "{wrong}: {message}"
            );
        }
    }
}
