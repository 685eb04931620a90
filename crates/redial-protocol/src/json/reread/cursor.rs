//! Where the reading of a text has come to, and the path of what is read there.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer, Visitor};

use super::misfit::Misfit;
use crate::json::de::NUMBERS_ARE_TEXT;

/// As deep as serde_json reads.
const MAX_DEPTH: usize = 128;

/// What a type asks for where a number stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Integer,
    Float,
    /// A float of 32 bits, which is read as one: through 64 bits it would be rounded twice.
    Single,
    Any,
}

/// A text that is JSON, from where it has not been read.
pub(super) struct Cursor<'de> {
    rest: &'de str,
    /// How many more levels may be opened.
    depth: usize,
    /// There was an error.
    is_stopped: bool,
    /// `-0` is an integer to a type that takes any number, too.
    takes_any_zero: bool,
    /// There is a `-0`.
    pub(super) has_seen_zero: bool,
    /// A `-0` was taken for an integer.
    pub(super) has_taken_zero: bool,
}

impl<'de> Cursor<'de> {
    pub(super) fn new(text: &'de str, takes_any_zero: bool) -> Self {
        Self {
            rest: text,
            depth: MAX_DEPTH,
            is_stopped: false,
            takes_any_zero,
            has_seen_zero: false,
            has_taken_zero: false,
        }
    }

    /// Whether all of the text was read, and without an error.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek();
        self.rest.is_empty() && !self.is_stopped
    }

    pub(super) fn rest(&self) -> &'de str {
        self.rest
    }

    /// Ends the reading after an error: a type may take that for an answer and read on.
    pub(super) fn stop(&mut self) {
        (self.rest, self.is_stopped) = ("", true);
    }

    /// Goes past white space, and says which byte comes next.
    pub(super) fn peek(&mut self) -> u8 {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.bytes().next().unwrap_or_default()
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == byte && !self.rest.is_empty();
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    /// A value that holds no other one; what opens or closes a value, as it is.
    pub(super) fn token(&mut self) -> &'de str {
        self.peek();
        let (token, rest) = self.rest.split_at(token_len(self.rest));
        self.rest = rest;
        token
    }

    /// Any value.
    pub(super) fn value(&mut self) -> &'de str {
        self.peek();
        let value = value_at(self.rest);
        self.rest = &self.rest[value.len()..];
        value
    }

    pub(super) fn string(&mut self) -> Result<Cow<'de, str>, Misfit> {
        let token = self.token();
        let inside = token.get(1..token.len().max(2) - 1).unwrap_or_default();
        if !inside.contains('\\') {
            return Ok(Cow::Borrowed(inside));
        }
        let string = serde_json::from_str(token);
        string
            .map(Cow::Owned)
            .map_err(|error| Misfit::of_serde_json(&error))
    }

    /// Notes that a `-0` is taken for an integer.
    pub(super) fn zero<T: Default>(&mut self) -> T {
        self.has_taken_zero = true;
        T::default()
    }

    pub(super) fn number<V: Visitor<'de>>(
        &mut self,
        visitor: V,
        wanted: Wanted,
    ) -> Result<V::Value, Misfit> {
        let token = self.token();
        let is_integer = token == "-0" && self.takes_any_zero;
        if wanted == Wanted::Any && *NUMBERS_ARE_TEXT && !is_integer {
            self.has_seen_zero |= token == "-0";
            let mut json = serde_json::Deserializer::from_str(token);
            let read = json.deserialize_any(visitor);
            return read.map_err(|error| Misfit::of_serde_json(&error));
        }
        self.visit_number(token, visitor, wanted)
    }

    pub(super) fn visit_number<V: Visitor<'de>>(
        &mut self,
        token: &str,
        visitor: V,
        wanted: Wanted,
    ) -> Result<V::Value, Misfit> {
        if token == "-0" {
            self.has_seen_zero = true;
            if wanted == Wanted::Integer || wanted == Wanted::Any && self.takes_any_zero {
                return visitor.visit_u64(self.zero());
            }
        } else if let Ok(number) = token.parse() {
            return visitor.visit_u64(number);
        } else if let Ok(number) = token.parse() {
            return visitor.visit_i64(number);
        }
        let read = if wanted == Wanted::Single {
            serde_json::from_str::<f32>(token).map(f64::from)
        } else {
            serde_json::from_str::<f64>(token)
        };
        visitor.visit_f64(read.map_err(|error| Misfit::of_serde_json(&error))?)
    }

    /// Reads what stands after an opening bracket or brace.
    pub(super) fn nested<T>(
        &mut self,
        open: u8,
        read: impl FnOnce(&mut Self) -> Result<T, Misfit>,
    ) -> Result<T, Misfit> {
        self.take(open);
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(Misfit::expected_words("values that nest less deep".into()));
        };
        self.depth = depth;
        let value = read(self)?;
        self.depth = depth + 1;
        Ok(value)
    }
}

pub(super) fn visit_string<'de, V: Visitor<'de>>(
    string: Cow<'de, str>,
    visitor: V,
) -> Result<V::Value, Misfit> {
    match string {
        Cow::Borrowed(string) => visitor.visit_borrowed_str(string),
        Cow::Owned(string) => visitor.visit_str(&string),
    }
}

/// How long the token is that JSON begins with.
fn token_len(json: &str) -> usize {
    let mut bytes = json.bytes();
    match bytes.next() {
        None => 0,
        Some(b'"') => {
            let mut is_escaped = false;
            let end = bytes.position(|byte| {
                let is_end = byte == b'"' && !is_escaped;
                is_escaped = byte == b'\\' && !is_escaped;
                is_end
            });
            end.map_or(json.len(), |end| end + 2)
        }
        Some(b'[' | b']' | b'{' | b'}' | b',' | b':') => 1,
        Some(_) => json
            .find([',', ']', '}', ':', ' ', '\t', '\n', '\r'])
            .unwrap_or(json.len()),
    }
}

/// The value that JSON begins with.
pub(super) fn value_at(json: &str) -> &str {
    let (mut rest, mut depth) = (json, 0_usize);
    loop {
        match rest.bytes().next() {
            None => return json,
            Some(b'[' | b'{') => depth += 1,
            Some(b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        rest = &rest[token_len(rest)..];
        if depth == 0 {
            return &json[..json.len() - rest.len()];
        }
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

/// Where a value stands.
pub(super) enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Element(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Member(Path::Root, name) if is_plain(name) => f.write_str(name),
            Path::Member(parent, name) if is_plain(name) => write!(f, "{parent}.{name}"),
            Path::Member(parent, name) => write!(f, "{parent}[{name:?}]"),
        }
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|char| char.is_alphanumeric() || char == '_' || char == '-')
}
