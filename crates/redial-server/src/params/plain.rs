//! Params in their usual shape, read into a type by a reader that knows no other.
//!
//! Nearly all params are short: strings without escapes, integers, few spaces. Reading those costs
//! a general JSON parser a sixth of a whole call. Whatever is not of that shape, and whatever is
//! wrong, is nobody's business here: it is left to serde_json, which then says what is wrong. So
//! this may refuse to read anything, but may never read anything in another way; tests hold one
//! against the other.
//!
//! A type may take an error for an answer and read on, and serde_json would be somewhere else by
//! then. Nothing can be read after a refusal therefore, and the value made of it is not used.

/// Methods of a [`Deserializer`] that are one to a reader.
macro_rules! like {
    ($($how:ident: $($method:ident($($ignored:ty),*))+;)+) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $(_: $ignored,)* visitor: V) -> Result<V::Value, Error> {
            self.$how(visitor)
        }
    )+)+};
}

mod error;
mod inside;
#[cfg(test)]
mod tests;

use redial_protocol::plain_len;
use serde::de::{Deserialize, Deserializer, IgnoredAny, Visitor};
use serde_json::Number;

use error::Error;
use inside::{Inside, Variant};

/// How deep values may nest here; deeper ones are not usual.
const MAX_DEPTH: usize = 16;

/// Any integer of so many digits fits 64 bits.
const MAX_DIGITS: usize = 19;

/// What serde_json's `RawValue` asks for.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Any crate of a program may switch on serde_json's `arbitrary_precision`. To a type that takes
/// whatever comes, a number is its text from then on, and `Number` holds that.
const NUMBERS_ARE_TEXT: bool = size_of::<Number>() > 16;

/// What `text` is as a `T`; `None` leaves it to serde_json.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    let mut reader = Reader {
        rest: text,
        depth: MAX_DEPTH,
    };
    let value = T::deserialize(&mut reader).ok()?;
    reader.peek();
    reader.rest.is_empty().then_some(value)
}

/// What nobody takes for anything, and what is left to read after a refusal.
const NOTHING: &str = "\0";

struct Reader<'de> {
    /// What has not been read yet.
    rest: &'de str,
    /// How many more levels may be opened.
    depth: usize,
}

impl<'de> Reader<'de> {
    #[cold]
    fn refuse<T>(&mut self) -> Result<T, Error> {
        self.rest = NOTHING;
        Err(Error::REFUSED)
    }

    /// What a visitor gives, unless it fails.
    #[inline(always)]
    fn pass<T>(&mut self, visited: Result<T, Error>) -> Result<T, Error> {
        visited.or_else(|_| self.refuse())
    }

    /// The first byte of what comes next, past the spaces before it: other white space is not
    /// usual.
    #[inline(always)]
    fn peek(&mut self) -> u8 {
        if self.rest.starts_with(' ') {
            self.skip_spaces();
        }
        self.rest.bytes().next().unwrap_or_default()
    }

    #[inline(never)]
    fn skip_spaces(&mut self) {
        while let Some(rest) = self.rest.strip_prefix(' ') {
            self.rest = rest;
        }
    }

    /// Goes past what has to come next.
    #[inline(always)]
    fn eat(&mut self, expected: &str) -> Result<(), Error> {
        self.peek();
        let Some(rest) = self.rest.strip_prefix(expected) else {
            return self.refuse();
        };
        self.rest = rest;
        Ok(())
    }

    /// A string without escapes.
    #[inline(always)]
    fn string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.eat("\"")?;
        let Some((string, rest)) = self.rest.split_at_checked(plain_len(self.rest.as_bytes()))
        else {
            return self.refuse();
        };
        let Some(rest) = rest.strip_prefix('"') else {
            return self.refuse();
        };
        self.rest = rest;
        let visited = visitor.visit_borrowed_str(string);
        self.pass(visited)
    }

    /// An integer. `-0` is none, to serde_json.
    #[inline(always)]
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let is_negative = self.peek() == b'-';
        let number = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let (mut after, mut sum) = (number.as_bytes(), 0_u64);
        while let [digit @ b'0'..=b'9', rest @ ..] = after {
            sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            after = rest;
        }
        let digits = number.len() - after.len();
        let is_integer = match digits {
            1 => true,
            _ => (2..=MAX_DIGITS).contains(&digits) && !number.starts_with('0'),
        };
        if !is_integer || matches!(after.first(), Some(b'.' | b'e' | b'E')) {
            return self.refuse();
        }
        self.rest = &number[digits..];
        let visited = match is_negative {
            false => visitor.visit_u64(sum),
            true => match 0_i64.checked_sub_unsigned(sum) {
                None | Some(0) => return self.refuse(),
                Some(number) => visitor.visit_i64(number),
            },
        };
        self.pass(visited)
    }

    fn truth<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let is_true = self.peek() == b't';
        self.eat(if is_true { "true" } else { "false" })?;
        let visited = visitor.visit_bool(is_true);
        self.pass(visited)
    }

    fn null<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.eat("null")?;
        let visited = visitor.visit_unit();
        self.pass(visited)
    }

    #[inline(always)]
    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.inside("[", "]", |reader| visitor.visit_seq(Inside::new(reader)))
    }

    #[inline(always)]
    fn object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.inside("{", "}", |reader| visitor.visit_map(Inside::new(reader)))
    }

    /// What is made of what stands between two brackets or braces.
    #[inline(always)]
    fn inside<T>(
        &mut self,
        open: &str,
        close: &str,
        visit: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.eat(open)?;
        let Some(depth) = self.depth.checked_sub(1) else {
            return self.refuse();
        };
        self.depth = depth;
        match visit(self) {
            Ok(value) => {
                self.depth = depth + 1;
                self.eat(close).map(|()| value)
            }
            Err(_) => self.refuse(),
        }
    }

    fn nothing<V: Visitor<'de>>(&mut self, _: V) -> Result<V::Value, Error> {
        self.refuse()
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    like! {
        number: deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
            deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64()
            deserialize_f32() deserialize_f64();
        string: deserialize_char() deserialize_str() deserialize_string() deserialize_identifier();
        truth: deserialize_bool();
        null: deserialize_unit() deserialize_unit_struct(&'static str);
        array: deserialize_seq() deserialize_tuple(usize)
            deserialize_tuple_struct(&'static str, usize);
        // A struct may be read from an array, too. Few are, and knowing of it would be twice as much
        // code for each type, and slower code.
        object: deserialize_map() deserialize_struct(&'static str, &'static [&'static str]);
        nothing: deserialize_i128() deserialize_u128() deserialize_bytes() deserialize_byte_buf();
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            b'"' => self.string(visitor),
            b'{' => self.object(visitor),
            b'[' => self.array(visitor),
            b'n' => self.null(visitor),
            b't' | b'f' => self.truth(visitor),
            _ if NUMBERS_ARE_TEXT => self.refuse(),
            _ => self.number(visitor),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek() != b'n' {
            return visitor.visit_some(self);
        }
        self.eat("null")?;
        visitor.visit_none()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            RAW_VALUE => self.refuse(),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.peek() {
            b'{' => self.inside("{", "}", |reader| {
                visitor.visit_enum(Variant::Member(reader))
            }),
            b'"' => visitor.visit_enum(Variant::Name(self)),
            _ => self.refuse(),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(IgnoredAny)?;
        visitor.visit_unit()
    }
}
