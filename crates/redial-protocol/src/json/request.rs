//! A request read in one pass and without an allocation.

use std::borrow::Cow;

use super::{
    MAX_DEPTH,
    skip::{self, between, token, unquoted},
};
use crate::{
    dialect::Dialect, id::Id, limits::Limits, meta::RequestMeta, priority::Priority,
    request::Request,
};

/// Reads a whole message as a request; `None` leaves it to serde_json.
pub(crate) fn read(text: &str, max_depth: usize) -> Option<Request<'_>> {
    let depth = depth_of_members(max_depth)?;
    let (mut is_2_0, mut id, mut method, mut params, mut meta) = (false, None, None, None, None);
    let (mut rest, mut before) = (text.as_bytes(), b'{');
    // The members are looked for in the order in which most write them: one round is enough then.
    loop {
        let from = rest;
        if let Some(value) = member(rest, before, r#""jsonrpc":"#) {
            rest = token(value, r#""2.0""#).filter(|_| !is_2_0)?;
            (is_2_0, before) = (true, b',');
        }
        if let Some(value) = member(rest, before, r#""id":"#) {
            let (read, after) = read_id(text, value).filter(|_| id.is_none())?;
            (id, rest, before) = (Some(read), after, b',');
        }
        if let Some(value) = member(rest, before, r#""method":"#) {
            rest = skip::string(value).filter(|_| method.is_none())?;
            (method, before) = (Some(unquoted(text, value, rest)), b',');
        }
        if let Some(value) = member(rest, before, r#""params":"#) {
            rest = skip::container(value, depth).filter(|_| params.is_none())?;
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
    let is_whole = token(skip::spaces(rest), "}")?.is_empty() && before == b',';
    let dialect = if is_2_0 {
        Dialect::JsonRpc2
    } else {
        Dialect::Notebook
    };
    is_whole.then_some(Request {
        dialect,
        id,
        method: Cow::Borrowed(method?),
        params,
        is_extended: meta.is_some(),
        meta: meta.unwrap_or_default(),
    })
}

/// How deep the members of a message may nest: the message itself is the first level.
#[inline(always)]
pub(super) fn depth_of_members(max_depth: usize) -> Option<usize> {
    max_depth.min(MAX_DEPTH).checked_sub(1)
}

/// Reads the value of `id`.
fn read_id<'a>(text: &'a str, value: &'a [u8]) -> Option<(Id<'a>, &'a [u8])> {
    if let Some((uuid, rest)) = skip::uuid(value) {
        return Some((Id::from_uuid_json(between(text, value, rest), uuid), rest));
    }
    let rest = skip::value(value, 0)?;
    let raw = between(text, value, rest);
    Some((Id::from_json(raw).ok()?, rest))
}

/// Reads the value of `redial`.
#[inline(always)]
pub(super) fn read_meta<'a>(text: &'a str, value: &'a [u8]) -> Option<(RequestMeta<'a>, &'a [u8])> {
    let (mut attempt, mut timeout_ms, mut ack, mut traceparent) = (None, None, None, None);
    let mut priority = None;
    let mut rest = token(value, "{")?;
    loop {
        let name = skip::spaces(rest);
        if let Some(value) = named(name, r#""ack":"#) {
            let count;
            (count, rest) = skip::count(value)?;
            once(&mut ack, count)?;
        } else if let Some(value) = named(name, r#""timeout_ms":"#) {
            let count;
            (count, rest) = skip::count(value)?;
            once(&mut timeout_ms, count)?;
        } else if let Some(value) = named(name, r#""attempt":"#) {
            let count;
            (count, rest) = skip::count(value)?;
            let number = u32::try_from(count).ok();
            once(
                &mut attempt,
                number.filter(|number| (1..=Limits::MAX_ATTEMPT).contains(number))?,
            )?;
        } else if let Some(value) = named(name, r#""priority":"#) {
            rest = skip::string(value)?;
            let known = Priority::from_name(unquoted(text, value, rest));
            once(&mut priority, known.unwrap_or_default())?;
        } else {
            let value = named(name, r#""traceparent":"#)?;
            rest = skip::string(value)?;
            once(&mut traceparent, Cow::Borrowed(unquoted(text, value, rest)))?;
        }
        let (next, after) = skip::spaces(rest).split_first()?;
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
        priority: priority.unwrap_or_default(),
        traceparent,
        // What has any is left to serde_json.
        meta: None,
    };
    Some((meta, rest))
}

/// Fills in a member that must not have been there before.
#[inline(always)]
fn once<T>(member: &mut Option<T>, value: T) -> Option<()> {
    member.replace(value).is_none().then_some(())
}

/// Skips the name of a member, given with its quotes and the colon, if that one comes next.
#[inline(always)]
fn named<'a>(rest: &'a [u8], name: &str) -> Option<&'a [u8]> {
    token(rest, name).map(skip::spaces)
}

/// The same after the brace or the comma before it.
#[inline(always)]
fn member<'a>(rest: &'a [u8], before: u8, name: &str) -> Option<&'a [u8]> {
    let (first, rest) = skip::spaces(rest).split_first()?;
    if *first == before {
        named(skip::spaces(rest), name)
    } else {
        None
    }
}
