//! Params read into a type, by way of serde.
//!
//! A type may take an error for an answer and read on, and serde_json would be somewhere else in the
//! text by then. So nothing can be read after a refusal, and the value made of it is dropped.

/// Forwards methods of a [`Deserializer`] to one that reads them all alike.
macro_rules! forward {
    ($($to:ident: $($method:ident($($ignored:ty),*))+;)+) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $(_: $ignored,)* visitor: V) -> Result<V::Value, Error> {
            self.$to(visitor)
        }
    )+)+};
}

mod access;
mod error;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::Number;

use self::{
    access::{Elements, Variant},
    error::Error,
};
use super::{MAX_DEPTH, skip};

/// Reads all of `text` as a `T`. `None` leaves it to serde_json.
///
/// ```
/// assert_eq!(redial_protocol::read_json("[1, 2]"), Some(vec![1, 2]));
/// // An escape, a fraction, broken JSON: for serde_json to read, or to refuse.
/// assert_eq!(redial_protocol::read_json::<String>(r#""\u0061""#), None);
/// ```
#[inline(never)]
pub fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    let mut reader = Reader::new(text);
    let value = T::deserialize(&mut reader).ok()?;
    reader.is_at_end().then_some(value)
}

/// The newtype by which serde_json's `RawValue` asks for the text of a value.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Whether a type that takes any value gets a number as its text. Any crate of a program may switch
/// that on, by serde_json's feature `arbitrary_precision`.
pub(super) static NUMBERS_ARE_TEXT: LazyLock<bool> = LazyLock::new(|| {
    let number = serde_json::from_str::<Number>("1.00");
    number.is_ok_and(|number| number.to_string() == "1.00")
});

/// What is left to read after a refusal: no value begins with it.
const REFUSED: &str = "\0";

struct Reader<'de> {
    /// What has not been read yet.
    rest: &'de str,
    /// How many more levels may be opened.
    depth: usize,
}

impl<'de> Reader<'de> {
    #[inline(always)]
    fn new(text: &'de str) -> Self {
        Self {
            rest: text,
            // The message around it is the first level.
            depth: MAX_DEPTH - 1,
        }
    }

    #[inline(always)]
    fn is_at_end(&mut self) -> bool {
        self.skip_spaces();
        self.rest.is_empty()
    }

    #[inline(always)]
    fn skip_spaces(&mut self) {
        self.go_on_with(skip::spaces(self.rest.as_bytes()));
    }

    /// Goes on with an end of what is left.
    #[inline(always)]
    fn go_on_with(&mut self, end: &[u8]) {
        if end.len() < self.rest.len() {
            self.rest = &self.rest[self.rest.len() - end.len()..];
        }
    }

    #[cold]
    fn refuse<T>(&mut self) -> Result<T, Error> {
        self.rest = REFUSED;
        Err(Error::REFUSED)
    }

    /// Passes on what a visitor made, unless that is an error.
    #[inline(always)]
    fn checked<T>(&mut self, visited: Result<T, Error>) -> Result<T, Error> {
        visited.or_else(|_| self.refuse())
    }

    /// Goes past spaces, and says which byte comes next.
    #[inline(always)]
    fn peek(&mut self) -> u8 {
        self.skip_spaces();
        self.rest.bytes().next().unwrap_or_default()
    }

    /// Goes past spaces and a token, which must be there.
    #[inline(always)]
    fn expect(&mut self, token: &str) -> Result<(), Error> {
        self.skip_spaces();
        let Some(rest) = self.rest.strip_prefix(token) else {
            return self.refuse();
        };
        self.rest = rest;
        Ok(())
    }

    #[inline(always)]
    fn string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect("\"")?;
        let plain_len = skip::plain_len(self.rest.as_bytes());
        let Some((string, rest)) = self.rest.split_at_checked(plain_len) else {
            return self.refuse();
        };
        let Some(rest) = rest.strip_prefix('"') else {
            return self.refuse();
        };
        self.rest = rest;
        let visited = visitor.visit_borrowed_str(string);
        self.checked(visited)
    }

    /// Integers only; to read a fraction exactly is serde_json's business.
    #[inline(always)]
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let is_negative = self.peek() == b'-';
        let digits = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let Some((count, rest)) = skip::count(digits.as_bytes()) else {
            return self.refuse();
        };
        self.go_on_with(rest);
        let visited = if is_negative {
            match 0_i64.checked_sub_unsigned(count) {
                // Too low for 64 bits; and -0 is a float to serde_json.
                None | Some(0) => return self.refuse(),
                Some(number) => visitor.visit_i64(number),
            }
        } else {
            visitor.visit_u64(count)
        };
        self.checked(visited)
    }

    fn bool<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let is_true = self.peek() == b't';
        self.expect(if is_true { "true" } else { "false" })?;
        let visited = visitor.visit_bool(is_true);
        self.checked(visited)
    }

    fn null<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect("null")?;
        let visited = visitor.visit_unit();
        self.checked(visited)
    }

    #[inline(always)]
    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.nested("[", "]", |reader| visitor.visit_seq(Elements::of(reader)))
    }

    #[inline(always)]
    fn object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.nested("{", "}", |reader| visitor.visit_map(Elements::of(reader)))
    }

    /// Reads what stands between two brackets or braces.
    #[inline(always)]
    fn nested<T>(
        &mut self,
        open: &str,
        close: &str,
        visit: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.expect(open)?;
        let Some(depth) = self.depth.checked_sub(1) else {
            return self.refuse();
        };
        self.depth = depth;
        match visit(self) {
            Ok(value) => {
                self.depth = depth + 1;
                self.expect(close).map(|()| value)
            }
            Err(_) => self.refuse(),
        }
    }

    fn unsupported<V: Visitor<'de>>(&mut self, _: V) -> Result<V::Value, Error> {
        self.refuse()
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    forward! {
        number: deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
            deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64()
            deserialize_f32() deserialize_f64();
        string: deserialize_char() deserialize_str() deserialize_string() deserialize_identifier();
        bool: deserialize_bool();
        null: deserialize_unit() deserialize_unit_struct(&'static str);
        array: deserialize_seq() deserialize_tuple(usize)
            deserialize_tuple_struct(&'static str, usize);
        // A struct may be read from an array, too. Few are, and to know of it would be twice as much
        // code for each type, and slower code.
        object: deserialize_map() deserialize_struct(&'static str, &'static [&'static str]);
        unsupported: deserialize_i128() deserialize_u128() deserialize_bytes()
            deserialize_byte_buf();
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            b'"' => self.string(visitor),
            b'{' => self.object(visitor),
            b'[' => self.array(visitor),
            b'n' => self.null(visitor),
            b't' | b'f' => self.bool(visitor),
            _ if *NUMBERS_ARE_TEXT => self.refuse(),
            _ => self.number(visitor),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek() != b'n' {
            return visitor.visit_some(self);
        }
        self.expect("null")?;
        visitor.visit_none()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            return self.refuse();
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.peek() {
            b'{' => self.nested("{", "}", |reader| {
                visitor.visit_enum(Variant::Member(reader))
            }),
            b'"' => visitor.visit_enum(Variant::Name(self)),
            _ => self.refuse(),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match skip::value(skip::spaces(self.rest.as_bytes()), self.depth) {
            Some(rest) => {
                self.go_on_with(rest);
                visitor.visit_unit()
            }
            None => self.refuse(),
        }
    }
}
