//! Objects that a peer sends: read by the names of their members, or not at all.
//!
//! A deserialiser that serde derives also takes an array for a struct, and its elements for the
//! members in their order: `[-32601, "x"]` would be an error that says that nothing was executed.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Reads an object into a type whose `Deserialize` is derived. Anything but an object is an error,
/// above all an array, which a derived deserialiser would take, too.
///
/// ```
/// use redial_protocol::deserialize_object;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Point { x: i64, y: i64 }
///
/// let read = |text| {
///     let mut json = serde_json::Deserializer::from_str(text);
///     deserialize_object::<_, Point>(&mut json)
/// };
/// assert_eq!(read(r#"{"x":1,"y":2}"#)?.y, 2);
/// assert!(read("[1,2]").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
///
/// The deserialiser's, if there is no object or it is not one of that type.
pub fn deserialize_object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Defines structs whose `Deserialize` is derived and takes objects alone. Attributes of it for the whole
/// struct stand behind the name.
macro_rules! objects {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident $(<$lifetime:lifetime>)? $(#[$derived_attribute:meta])* {
            $($(#[$member_attribute:meta])* $member_visibility:vis $member:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$attribute])*
        $visibility struct $name $(<$lifetime>)? {
            $($(#[$member_attribute])* $member_visibility $member: $type,)*
        }

        impl<'de $(: $lifetime, $lifetime)?> serde::Deserialize<'de> for $name $(<$lifetime>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                $(#[$derived_attribute])*
                struct Derived $(<$lifetime>)? {
                    $($(#[$member_attribute])* $member: $type,)*
                }
                let Derived { $($member,)* } = $crate::json::object::deserialize_object(deserializer)?;
                Ok(Self { $($member,)* })
            }
        }
    )*};
}

pub(crate) use objects;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::{
        ErrorData, ErrorObject, Executed, ReplyMeta, RequestMeta,
        rpc::{AckParams, CallParams, Cancellation, Hello, HelloParams, Resolution, State},
    };

    fn refuses<'de, T: Deserialize<'de> + Debug>(texts: &[&'de str]) {
        for text in texts {
            let read = serde_json::from_str::<T>(text);
            let error = read.expect_err(text).to_string();
            assert!(error.contains("expected an object"), "{text}: {error}");
        }
    }

    /// Foreign objects read by position.
    #[test]
    fn an_array_is_no_object_whatever_its_elements() {
        refuses::<ErrorObject>(&["[]", r#"[-32601,"x"]"#, r#"[-32601,"x",null]"#]);
        refuses::<ErrorData>(&[r#"["no"]"#, r#"["no",1,null,null]"#]);
        refuses::<RequestMeta<'_>>(&["[]", "[2]", "[2,null,7,null]"]);
        refuses::<ReplyMeta>(&["[]", "[true]", "[true,3]"]);
        refuses::<HelloParams>(&["[]", r#"["123456789abcdef"]"#]);
        refuses::<Hello<'_>>(&[r#"["123456789abcdef","t",1,2,3]"#]);
        refuses::<AckParams>(&[r#"["123456789abcdef",7,[]]"#]);
        refuses::<CallParams<'_>>(&[r#"["12345678-9abc-8def-8000-000000000007"]"#]);
        refuses::<Resolution>(&[r#"["never"]"#, r#"["done",1,null]"#]);
        refuses::<Cancellation>(&[r#"["never"]"#]);
        let nested = r#"{"state":"done","error":[-32601,"x"]}"#;
        refuses::<Resolution>(&[nested]);
    }

    #[test]
    fn a_text_or_a_number_is_no_object() {
        refuses::<ErrorObject>(&["1", r#""x""#, "null", "true"]);
        refuses::<HelloParams>(&["1", r#""x""#, "null", "true"]);
    }

    #[test]
    fn the_data_of_an_error_says_nothing_by_position() {
        for data in [
            r#"["no"]"#,
            r#"["no",7,null,null]"#,
            r#"[{"executed":"no"}]"#,
        ] {
            let text = format!(r#"{{"code":-32000,"message":"","data":{data}}}"#);
            let error: ErrorObject = serde_json::from_str(&text).unwrap();
            assert_eq!(error.executed(), Executed::Yes, "{data}");
            assert_eq!(error.data.unwrap().get(), data);
        }
    }

    #[test]
    fn a_word_is_no_object() {
        assert!(serde_json::from_str::<Executed>(r#"{"no":null}"#).is_err());
        assert!(serde_json::from_str::<State>(r#"{"never":null}"#).is_err());
        assert!(serde_json::from_str::<Executed>(r#""n\u006f""#).is_ok());
    }

    #[test]
    fn unknown_members_are_refused_where_they_were() {
        assert!(serde_json::from_str::<HelloParams>(r#"{"x":1}"#).is_err());
        assert!(serde_json::from_str::<ReplyMeta>(r#"{"x":1}"#).is_ok());
    }
}
