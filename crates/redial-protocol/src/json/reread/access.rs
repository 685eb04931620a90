//! What stands inside a value: elements, members and their names, variants.

use std::borrow::Cow;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
    value::CowStrDeserializer,
};

use super::{
    Node,
    cursor::{Cursor, Path, Wanted, visit_string},
    misfit::Misfit,
    words,
};
use crate::json::skip;

/// The elements of an array, or the members of an object.
pub(super) struct Inside<'a, 'de> {
    cursor: &'a mut Cursor<'de>,
    path: &'a Path<'a>,
    close: u8,
    /// How many have been begun.
    count: usize,
    /// The name of the member whose value comes next.
    name: Cow<'de, str>,
}

impl<'a, 'de> Inside<'a, 'de> {
    pub(super) fn of(cursor: &'a mut Cursor<'de>, path: &'a Path<'a>, close: u8) -> Self {
        Self {
            cursor,
            path,
            close,
            count: 0,
            name: Cow::Borrowed(""),
        }
    }

    /// Whether there is another one. Then what comes next is that.
    fn next(&mut self) -> Result<bool, Misfit> {
        if self.cursor.peek() == self.close {
            return Ok(false);
        }
        if self.count > 0 && !self.cursor.take(b',') {
            return Err(Misfit::expected_words("another value".into()));
        }
        self.count += 1;
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for Inside<'_, 'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        if !self.next()? {
            return Ok(None);
        }
        let element = Node {
            cursor: &mut *self.cursor,
            path: &Path::Element(self.path, self.count - 1),
        };
        element.seeded(seed).map(Some)
    }
}

impl<'de> MapAccess<'de> for Inside<'_, 'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        if !self.next()? {
            return Ok(None);
        }
        self.name = self.cursor.string()?;
        let name = MemberName {
            cursor: &mut *self.cursor,
            path: self.path,
            name: self.name.clone(),
        };
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        self.cursor.take(b':');
        let value = Node {
            cursor: &mut *self.cursor,
            path: &Path::Member(self.path, &self.name),
        };
        value.seeded(seed)
    }
}

/// The name of a member, which may be a number to its type.
struct MemberName<'a, 'de> {
    cursor: &'a mut Cursor<'de>,
    path: &'a Path<'a>,
    name: Cow<'de, str>,
}

impl<'de> MemberName<'_, 'de> {
    /// Reads the name. An error that says nothing of its place is the name's.
    fn read<T>(
        self,
        read: impl FnOnce(&mut Cursor<'de>, Cow<'de, str>) -> Result<T, Misfit>,
    ) -> Result<T, Misfit> {
        let Self { cursor, path, name } = self;
        read(cursor, name.clone()).map_err(|misfit| {
            cursor.stop();
            misfit.at(path, || words::quoted(&name))
        })
    }

    fn number<V: Visitor<'de>>(self, visitor: V, wanted: Wanted) -> Result<V::Value, Misfit> {
        self.read(|cursor, name| {
            if skip::number(name.as_bytes()).is_some_and(<[u8]>::is_empty) {
                cursor.visit_number(&name, visitor, wanted)
            } else {
                Err(Misfit::expected(&visitor))
            }
        })
    }

    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.number(visitor, Wanted::Integer)
    }

    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.number(visitor, Wanted::Float)
    }

    fn single<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.number(visitor, Wanted::Single)
    }

    fn string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|_, name| visit_string(name, visitor))
    }

    fn bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|_, name| visitor.visit_bytes(name.as_bytes()))
    }
}

impl<'de> Deserializer<'de> for MemberName<'_, 'de> {
    type Error = Misfit;

    forward! {
        integer: deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
            deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64();
        single: deserialize_f32();
        float: deserialize_f64();
        bytes: deserialize_bytes() deserialize_byte_buf();
        string: deserialize_any() deserialize_char() deserialize_str() deserialize_string()
            deserialize_identifier() deserialize_ignored_any() deserialize_unit()
            deserialize_unit_struct(&'static str) deserialize_seq() deserialize_tuple(usize)
            deserialize_tuple_struct(&'static str, usize) deserialize_map()
            deserialize_struct(&'static str, &'static [&'static str]);
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|_, name| match name.parse() {
            Ok(number) => visitor.visit_i128(number),
            Err(_) => Err(Misfit::expected(&visitor)),
        })
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|cursor, name| match (&*name, name.parse()) {
            ("-0", _) => visitor.visit_u128(cursor.zero()),
            (_, Ok(number)) => visitor.visit_u128(number),
            (_, Err(_)) => Err(Misfit::expected(&visitor)),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|_, name| match &*name {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(Misfit::expected(&visitor)),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.read(|_, text| CowStrDeserializer::new(text).deserialize_enum(name, variants, visitor))
    }
}

/// A variant of an enum: a name alone, or the one member of an object, which holds something.
pub(super) struct Chosen<'a, 'de> {
    pub(super) cursor: &'a mut Cursor<'de>,
    pub(super) path: &'a Path<'a>,
    pub(super) is_member: bool,
}

impl<'a, 'de> EnumAccess<'de> for Chosen<'a, 'de> {
    type Error = Misfit;
    type Variant = Held<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Held<'a, 'de>), Misfit> {
        let Self {
            cursor,
            path,
            is_member,
        } = self;
        if cursor.peek() != b'"' {
            return Err(Misfit::expected_words("an object with one member".into()));
        }
        let name = cursor.string()?;
        let variant = seed.deserialize(MemberName {
            cursor: &mut *cursor,
            path,
            name: name.clone(),
        })?;
        if is_member {
            cursor.take(b':');
        }
        let held = Held {
            cursor,
            path,
            name: is_member.then_some(name),
        };
        Ok((variant, held))
    }
}

/// What a variant holds.
pub(super) struct Held<'a, 'de> {
    cursor: &'a mut Cursor<'de>,
    path: &'a Path<'a>,
    /// The name of the member that holds it, if there is one.
    name: Option<Cow<'de, str>>,
}

impl<'de> Held<'_, 'de> {
    fn read<T>(self, read: impl FnOnce(Node<'_, 'de>) -> Result<T, Misfit>) -> Result<T, Misfit> {
        let Some(name) = self.name else {
            let words = "an object whose one member has this name, and holds a value";
            return Err(Misfit::expected_words(words.into()));
        };
        read(Node {
            cursor: self.cursor,
            path: &Path::Member(self.path, &name),
        })
    }
}

impl<'de> VariantAccess<'de> for Held<'_, 'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        if self.name.is_none() {
            return Ok(());
        }
        self.read(|node| serde::Deserialize::deserialize(node))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        self.read(|node| node.seeded(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|node| node.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.read(|node| node.deserialize_struct("", members, visitor))
    }
}
