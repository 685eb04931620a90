//! JSON that serde_json has refused for a type, read once more: to say why in JSON's words, and to take
//! `-0` for an integer.
//!
//! The text is known to be JSON, so nothing here looks for errors in it. serde_json reads `-0` as a
//! float, which no integer type takes; to RFC 8259 (section 6) it is an integer like any other. Only a
//! value in which that made the difference is taken here: of every other text serde_json's word stands.

/// Forwards methods of a [`Deserializer`] to one that reads them all alike.
macro_rules! forward {
    ($($to:ident: $($method:ident($($ignored:ty),*))+;)+) => {$($(
        fn $method<V: Visitor<'de>>(self, $(_: $ignored,)* visitor: V) -> Result<V::Value, Misfit> {
            self.$to(visitor)
        }
    )+)+};
}

mod access;
mod cursor;
mod misfit;
#[cfg(test)]
mod tests;
mod words;

use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Visitor};

pub use self::misfit::Misfit;
use self::{
    access::{Chosen, Inside},
    cursor::{Cursor, Path, Wanted},
};
use super::de::RAW_VALUE;

/// Reads all of `text`, which serde_json has refused, as a `T`.
///
/// ```
/// let misfit = redial_protocol::reread_json::<Vec<u8>>(r#"[1,"2"]"#).unwrap_err();
/// assert_eq!(
///     misfit.to_string(),
///     r#"at [1]: found the string "2"; expected an integer from 0 to 255"#
/// );
/// assert_eq!(redial_protocol::reread_json::<Vec<u8>>("[-0]").unwrap(), [0]);
/// ```
///
/// # Errors
///
/// [`Misfit`], which says why it is not one.
pub fn reread<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Misfit> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return Err(Misfit::of_serde_json(&error));
    }
    let mut cursor = Cursor::new(text, false);
    let misfit = match read_all(&mut cursor) {
        Ok(value) if cursor.has_taken_zero => return Ok(value),
        Ok(_) => None,
        Err(misfit) => Some(misfit),
    };
    if cursor.has_seen_zero {
        // A type that keeps any value and asks what it is later (`flatten`, `untagged`).
        let mut cursor = Cursor::new(text, true);
        if let Ok(value) = read_all(&mut cursor) {
            return Ok(value);
        }
    }
    misfit.map_or_else(
        || serde_json::from_str(text).map_err(|error| Misfit::of_serde_json(&error)),
        Err,
    )
}

fn read_all<'de, T: Deserialize<'de>>(cursor: &mut Cursor<'de>) -> Result<T, Misfit> {
    let root = Node {
        cursor: &mut *cursor,
        path: &Path::Root,
    };
    let value = root.seeded(PhantomData)?;
    if cursor.is_at_end() {
        Ok(value)
    } else {
        let words = "a value that ends earlier";
        Err(Misfit::expected_words(words.to_owned()))
    }
}

/// A value, and where it stands.
struct Node<'a, 'de> {
    cursor: &'a mut Cursor<'de>,
    path: &'a Path<'a>,
}

impl<'de> Node<'_, 'de> {
    /// Reads the value as a type, which may refuse what it has read.
    fn seeded<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        self.read(|cursor, path| seed.deserialize(Node { cursor, path }))
    }

    /// Reads the value. An error that says nothing of its place is this value's.
    fn read<T>(
        self,
        read: impl FnOnce(&mut Cursor<'de>, &Path<'_>) -> Result<T, Misfit>,
    ) -> Result<T, Misfit> {
        let Self { cursor, path } = self;
        cursor.peek();
        let start = cursor.rest();
        read(cursor, path).map_err(|misfit| {
            cursor.stop();
            misfit.at(path, || cursor::value_at(start))
        })
    }

    fn number<V: Visitor<'de>>(self, visitor: V, wanted: Wanted) -> Result<V::Value, Misfit> {
        self.read(|cursor, _| match cursor.peek() {
            b'-' | b'0'..=b'9' => cursor.number(visitor, wanted),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.number(visitor, Wanted::Integer)
    }

    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.number(visitor, Wanted::Float)
    }

    fn string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, _| match cursor.peek() {
            b'"' => cursor::visit_string(cursor.string()?, visitor),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, path| match cursor.peek() {
            b'"' => visitor.visit_bytes(cursor.string()?.as_bytes()),
            b'[' => array(cursor, path, visitor, || "fewer elements".into()),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn sequence<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, path| match cursor.peek() {
            b'[' => array(cursor, path, visitor, || "fewer elements".into()),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, path| match cursor.peek() {
            b'{' => object(cursor, path, visitor),
            _ => Err(Misfit::expected(&visitor)),
        })
    }
}

fn array<'de, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    path: &Path<'_>,
    visitor: V,
    expected: impl FnOnce() -> String,
) -> Result<V::Value, Misfit> {
    let visited = cursor.nested(b'[', |cursor| {
        visitor.visit_seq(Inside::of(cursor, path, b']'))
    })?;
    if cursor.take(b']') {
        Ok(visited)
    } else {
        Err(Misfit::expected_words(expected()))
    }
}

fn object<'de, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    path: &Path<'_>,
    visitor: V,
) -> Result<V::Value, Misfit> {
    let visited = cursor.nested(b'{', |cursor| {
        visitor.visit_map(Inside::of(cursor, path, b'}'))
    })?;
    if cursor.take(b'}') {
        Ok(visited)
    } else {
        Err(Misfit::expected_words("fewer members".into()))
    }
}

impl<'de> Deserializer<'de> for Node<'_, 'de> {
    type Error = Misfit;

    forward! {
        integer: deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
            deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64();
        float: deserialize_f64();
        string: deserialize_char() deserialize_str() deserialize_string() deserialize_identifier();
        bytes: deserialize_bytes() deserialize_byte_buf();
        sequence: deserialize_seq();
        map: deserialize_map();
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.cursor.peek() {
            b'"' => self.string(visitor),
            b'{' => self.map(visitor),
            b'[' => self.sequence(visitor),
            b'n' => self.deserialize_unit(visitor),
            b't' | b'f' => self.deserialize_bool(visitor),
            _ => self.number(visitor, Wanted::Any),
        }
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, _| match cursor.token().parse() {
            Ok(number) => visitor.visit_i128(number),
            Err(_) => Err(Misfit::expected(&visitor)),
        })
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, _| match cursor.token() {
            "-0" => visitor.visit_u128(cursor.zero()),
            token => match token.parse() {
                Ok(number) => visitor.visit_u128(number),
                Err(_) => Err(Misfit::expected(&visitor)),
            },
        })
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.number(visitor, Wanted::Single)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, _| match cursor.token() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, _| match cursor.token() {
            "null" => visitor.visit_unit(),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.cursor.peek() != b'n' {
            return visitor.visit_some(self);
        }
        self.cursor.token();
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        if name != RAW_VALUE {
            return visitor.visit_newtype_struct(self);
        }
        self.read(|cursor, _| {
            let mut json = serde_json::Deserializer::from_str(cursor.value());
            let read = json.deserialize_newtype_struct(name, visitor);
            read.map_err(|error| Misfit::of_serde_json(&error))
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.read(|cursor, path| match cursor.peek() {
            b'[' => array(cursor, path, visitor, || words::array_of(len)),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.read(|cursor, path| {
            let read = match cursor.peek() {
                b'{' => object(cursor, path, visitor),
                b'[' => array(cursor, path, visitor, || words::object_of(members)),
                _ => Err(Misfit::expected(&visitor)),
            };
            read.map_err(|misfit| misfit.in_object_of(members))
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.read(|cursor, path| match cursor.peek() {
            b'{' => {
                let chosen = cursor.nested(b'{', |cursor| {
                    visitor.visit_enum(Chosen {
                        cursor,
                        path,
                        is_member: true,
                    })
                })?;
                if cursor.take(b'}') {
                    Ok(chosen)
                } else {
                    Err(Misfit::expected_words("an object with one member".into()))
                }
            }
            b'"' => visitor.visit_enum(Chosen {
                cursor,
                path,
                is_member: false,
            }),
            _ => Err(Misfit::expected_words(words::one_of(variants))),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, _| {
            cursor.value();
            visitor.visit_unit()
        })
    }
}
