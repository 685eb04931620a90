//! What stands within a value: elements, members and their names, variants.

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::{RAW_VALUE, Reader, error::Error};

/// The elements of an array, or the members of an object.
pub(super) struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    is_first: bool,
}

impl<'a, 'de> Elements<'a, 'de> {
    #[inline(always)]
    pub(super) fn of(reader: &'a mut Reader<'de>) -> Self {
        Self {
            reader,
            is_first: true,
        }
    }

    /// Goes past the comma, and says which byte the next one begins with, if there is a next one.
    #[inline(always)]
    fn next(&mut self, close: u8) -> Result<Option<u8>, Error> {
        let mut byte = self.reader.peek();
        if byte == close {
            return Ok(None);
        }
        if !self.is_first {
            self.reader.expect(",")?;
            byte = self.reader.peek();
            if byte == close {
                return self.reader.refuse();
            }
        }
        self.is_first = false;
        Ok(Some(byte))
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        match self.next(b']')? {
            None => Ok(None),
            Some(_) => seed.deserialize(&mut *self.reader).map(Some),
        }
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        match self.next(b'}')? {
            None => Ok(None),
            Some(b'"') => seed.deserialize(Key(self.reader)).map(Some),
            Some(_) => self.reader.refuse(),
        }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.reader.expect(":")?;
        seed.deserialize(&mut *self.reader)
    }
}

/// The name of a member, whose quote has been seen.
struct Key<'a, 'de>(&'a mut Reader<'de>);

impl<'de> Key<'_, 'de> {
    #[inline(always)]
    fn string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.string(visitor)
    }

    /// To read something else out of the string, such as a number, is left to serde_json.
    fn unsupported<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.unsupported(visitor)
    }
}

impl<'de> Deserializer<'de> for Key<'_, 'de> {
    type Error = Error;

    // Whatever else a type asks for, serde_json gives it the string and lets it complain.
    forward! {
        string: deserialize_any() deserialize_char() deserialize_str() deserialize_string()
            deserialize_identifier() deserialize_ignored_any() deserialize_unit()
            deserialize_unit_struct(&'static str) deserialize_seq() deserialize_tuple(usize)
            deserialize_tuple_struct(&'static str, usize) deserialize_map()
            deserialize_struct(&'static str, &'static [&'static str]);
        unsupported: deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32()
            deserialize_i64() deserialize_i128() deserialize_u8() deserialize_u16()
            deserialize_u32() deserialize_u64() deserialize_u128() deserialize_f32()
            deserialize_f64() deserialize_bytes() deserialize_byte_buf();
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            return self.unsupported(visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
}

/// A variant of an enum.
pub(super) enum Variant<'a, 'de> {
    /// Its name, and unsupported else.
    Name(&'a mut Reader<'de>),
    /// The one member of an object, which holds something.
    Member(&'a mut Reader<'de>),
}

impl<'a, 'de> Variant<'a, 'de> {
    /// The reader of what the variant holds.
    fn held(self) -> Result<&'a mut Reader<'de>, Error> {
        match self {
            Self::Name(reader) => reader.refuse(),
            Self::Member(reader) => Ok(reader),
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = match &mut self {
            Self::Name(reader) => seed.deserialize(&mut **reader)?,
            Self::Member(reader) => {
                let Some(name) = Elements::of(reader).next_key_seed(seed)? else {
                    return reader.refuse();
                };
                reader.expect(":")?;
                name
            }
        };
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self {
            Self::Name(_) => Ok(()),
            Self::Member(reader) => Deserialize::deserialize(reader),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.held()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.held()?.array(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.held()?.object(visitor)
    }
}
