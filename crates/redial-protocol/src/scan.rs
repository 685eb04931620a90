//! Messages in their usual shape, read in one pass and without an allocation.
//!
//! Nearly every message is one flat object whose strings have no escapes. Reading that by hand
//! costs a fraction of what a general JSON parser needs, which matters where a parser is a third
//! of a call's cost. Whatever is not of that shape, and whatever is wrong, is nobody's business
//! here: it is left to serde_json, which then says what is wrong. So this may refuse to read
//! anything, but may never read anything in another way; tests hold one against the other.

mod habit;

use std::borrow::Cow;

use uuid::Uuid;

pub(crate) use self::habit::RequestTemplate;

use crate::{
    id::Id,
    limits::MAX_ID_BYTES,
    message::{Dialect, Request},
    meta::RequestMeta,
    text::plain_len,
};

/// How deep values may nest here; deeper ones are not usual.
const MAX_DEPTH: usize = 16;

/// A request in its usual shape; `None` leaves it to others. `text` is the whole message.
pub(crate) fn request(text: &str, max_depth: usize) -> Option<Request<'_>> {
    let depth = depth_of(max_depth)?;
    let (mut is_2_0, mut id, mut method, mut params, mut meta) = (false, None, None, None, None);
    let (mut rest, mut before) = (text.as_bytes(), b'{');
    // The members are looked for in the order in which most write them: one round is enough then.
    loop {
        let from = rest;
        if let Some(value) = member(rest, before, r#""jsonrpc":"#) {
            rest = eat(value, r#""2.0""#).filter(|_| !is_2_0)?;
            (is_2_0, before) = (true, b',');
        }
        if let Some(value) = member(rest, before, r#""id":"#) {
            let (read, after) = read_id(text, value).filter(|_| id.is_none())?;
            (id, rest, before) = (Some(read), after, b',');
        }
        if let Some(value) = member(rest, before, r#""method":"#) {
            rest = after_string(value).filter(|_| method.is_none())?;
            (method, before) = (Some(inside(text, value, rest)), b',');
        }
        if let Some(value) = member(rest, before, r#""params":"#) {
            rest = after_structure(value, depth).filter(|_| params.is_none())?;
            (params, before) = (Some(between(text, value, rest)), b',');
        }
        if let Some(value) = member(rest, before, r#""redial":"#) {
            let is_welcome = meta.is_none() && depth > 0;
            let (read, after) = read_meta(text, value).filter(|_| is_welcome)?;
            (meta, rest, before) = (Some(read), after, b',');
        }
        if rest.len() == from.len() {
            break;
        }
    }
    let is_whole = eat(spaces(rest), "}")?.is_empty() && before == b',';
    let dialect = match is_2_0 {
        true => Dialect::JsonRpc2,
        false => Dialect::Notebook,
    };
    is_whole.then_some(Request {
        dialect,
        id,
        method: Cow::Borrowed(method?),
        params,
        meta: meta.unwrap_or_default(),
    })
}

/// How deep the members of a message may nest: the message itself is the first level.
#[inline(always)]
fn depth_of(max_depth: usize) -> Option<usize> {
    max_depth.min(MAX_DEPTH).checked_sub(1)
}

fn read_id<'a>(text: &'a str, value: &'a [u8]) -> Option<(Id<'a>, &'a [u8])> {
    // What most ids are.
    if let Some(([b'"', uuid @ .., b'"'], rest)) = value.split_at_checked(38)
        && let Ok(uuid) = Uuid::try_parse_ascii(uuid)
    {
        return Some((Id::scanned_uuid(between(text, value, rest), uuid), rest));
    }
    let (rest, quotes) = match value.first()? {
        b'"' => (after_string(value)?, 2),
        b'n' => (eat(value, "null")?, 0),
        _ => (after_integer(value)?, 0),
    };
    let raw = between(text, value, rest);
    (1..=MAX_ID_BYTES)
        .contains(&(raw.len() - quotes))
        .then(|| (Id::scanned(raw), rest))
}

#[inline(always)]
fn read_meta<'a>(text: &'a str, value: &'a [u8]) -> Option<(RequestMeta<'a>, &'a [u8])> {
    let (mut attempt, mut timeout_ms, mut ack, mut traceparent) = (None, None, None, None);
    let mut rest = eat(value, "{")?;
    loop {
        let name = spaces(rest);
        if let Some(value) = named(name, r#""ack":"#) {
            let count;
            (count, rest) = read_count(value)?;
            once(&mut ack, count)?;
        } else if let Some(value) = named(name, r#""timeout_ms":"#) {
            let count;
            (count, rest) = read_count(value)?;
            once(&mut timeout_ms, count)?;
        } else if let Some(value) = named(name, r#""attempt":"#) {
            let count;
            (count, rest) = read_count(value)?;
            once(&mut attempt, count.try_into().ok()?)?;
        } else {
            let value = named(name, r#""traceparent":"#)?;
            rest = after_string(value)?;
            once(&mut traceparent, Cow::Borrowed(inside(text, value, rest)))?;
        }
        let (next, after) = spaces(rest).split_first()?;
        rest = after;
        match next {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    let default = RequestMeta::default();
    let meta = RequestMeta {
        attempt: attempt.unwrap_or(default.attempt),
        timeout_ms,
        ack,
        traceparent,
    };
    Some((meta, rest))
}

/// Puts a member where it belongs, unless it was there before.
#[inline(always)]
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// An integer that counts something. No count that is usual has 20 digits, as 2^64 has.
fn read_count(value: &[u8]) -> Option<(u64, &[u8])> {
    let (mut count, mut rest) = (0u64, value);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        count = count.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        rest = after;
    }
    let is_integer = !matches!(rest, [b'.' | b'e' | b'E', ..]);
    let is_usual = match value.len() - rest.len() {
        1 => true,
        2..=19 => value[0] != b'0',
        _ => false,
    };
    (is_usual && is_integer).then_some((count, rest))
}

// Each of these steps is given what has not been read yet and gives what follows the thing it
// reads; `None` if the thing isn't there.

#[inline(always)]
fn eat<'a>(rest: &'a [u8], expected: &str) -> Option<&'a [u8]> {
    rest.strip_prefix(expected.as_bytes())
}

/// The value of a member, if the one of that name comes next: the name is given with its quotes
/// and the colon.
#[inline(always)]
fn named<'a>(rest: &'a [u8], name: &str) -> Option<&'a [u8]> {
    eat(rest, name).map(spaces)
}

/// The same, where a brace or a comma stands before it.
#[inline(always)]
fn member<'a>(rest: &'a [u8], before: u8, name: &str) -> Option<&'a [u8]> {
    let (first, rest) = spaces(rest).split_first()?;
    match *first == before {
        true => named(spaces(rest), name),
        false => None,
    }
}

/// Spaces only: who writes a message over several lines is not in a hurry. Few write any, so the
/// loop is kept out of where they are looked for.
#[inline(always)]
fn spaces(rest: &[u8]) -> &[u8] {
    match rest.first() {
        Some(b' ') => after_spaces(rest),
        _ => rest,
    }
}

#[inline(never)]
fn after_spaces(mut rest: &[u8]) -> &[u8] {
    while let [b' ', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// After a string without escapes.
#[inline(always)]
fn after_string(rest: &[u8]) -> Option<&[u8]> {
    let inside = eat(rest, "\"")?;
    eat(inside.get(plain_len(inside)..)?, "\"")
}

/// After an integer of any size.
fn after_integer(rest: &[u8]) -> Option<&[u8]> {
    let rest = eat(rest, "-").unwrap_or(rest);
    let rest = match rest {
        [b'0', rest @ ..] => rest,
        [b'1'..=b'9', rest @ ..] => {
            let mut rest = rest;
            while let [b'0'..=b'9', after @ ..] = rest {
                rest = after;
            }
            rest
        }
        _ => return None,
    };
    match rest.first() {
        Some(b'.' | b'e' | b'E' | b'0'..=b'9') => None,
        _ => Some(rest),
    }
}

/// After an object or an array that nests no deeper than `depth`.
fn after_structure(rest: &[u8], depth: usize) -> Option<&[u8]> {
    let (first, inner) = rest.split_first()?;
    let depth = depth.checked_sub(1)?;
    let inner = spaces(inner);
    match first {
        b'{' => eat(inner, "}").or_else(|| after_members(inner, depth)),
        b'[' => eat(inner, "]").or_else(|| after_entries(inner, depth)),
        _ => None,
    }
}

fn after_members(mut rest: &[u8], depth: usize) -> Option<&[u8]> {
    loop {
        let colon = spaces(after_string(spaces(rest))?);
        rest = spaces(after_value(spaces(eat(colon, ":")?), depth)?);
        let (next, after) = rest.split_first()?;
        match next {
            b',' => rest = after,
            b'}' => return Some(after),
            _ => return None,
        }
    }
}

fn after_entries(mut rest: &[u8], depth: usize) -> Option<&[u8]> {
    loop {
        rest = spaces(after_value(spaces(rest), depth)?);
        let (next, after) = rest.split_first()?;
        match next {
            b',' => rest = after,
            b']' => return Some(after),
            _ => return None,
        }
    }
}

/// After any value whose strings have no escapes and whose numbers are integers.
#[inline(always)]
fn after_value(rest: &[u8], depth: usize) -> Option<&[u8]> {
    match rest.first()? {
        b'"' => after_string(rest),
        b'{' | b'[' => after_structure(rest, depth),
        b't' => eat(rest, "true"),
        b'f' => eat(rest, "false"),
        b'n' => eat(rest, "null"),
        _ => after_integer(rest),
    }
}

/// The text from where `from` begins to where `to` does: both lie beside ASCII, so that no
/// character is cut.
#[inline(always)]
fn between<'a>(text: &'a str, from: &[u8], to: &[u8]) -> &'a str {
    &text[text.len() - from.len()..text.len() - to.len()]
}

/// The same without the quotes.
#[inline(always)]
fn inside<'a>(text: &'a str, from: &[u8], to: &[u8]) -> &'a str {
    &text[text.len() - from.len() + 1..text.len() - to.len() - 1]
}

#[cfg(test)]
mod tests;
