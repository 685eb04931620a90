//! Messages to a server: requests, notifications and batches, in both dialects.
//!
//! The rules are those of JSON-RPC 2.0 and, beyond it, of Redial: an id is one of the kinds in
//! [`id`](crate::id), duplicate members are refused, nesting is bounded, and a request without a
//! `jsonrpc` member is a request of the notebook dialect.

mod reader;

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

pub use self::reader::RequestReader;
use crate::{
    error::{ErrorCode, ErrorObject},
    id::Id,
    limits::Limits,
    meta::RequestMeta,
    scan,
    text::cut,
};

/// How a message is spelled, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `{"id", "method", "params"}` without a `jsonrpc` member; every id but null is an
    /// idempotency key.
    Notebook,
    /// JSON-RPC 2.0, with `"jsonrpc":"2.0"`; only UUID ids are idempotency keys.
    JsonRpc2,
}

/// What one frame holds.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// One request or notification.
    Request(Request<'a>),
    /// An array of them.
    Batch(Batch<'a>),
}

/// One request, borrowed from its frame.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// How it is spelled.
    pub dialect: Dialect,
    /// The id; `None` for a notification, which is never answered. `id: null` is an id.
    pub id: Option<Id<'a>>,
    /// The method's name.
    pub method: Cow<'a, str>,
    /// The JSON text of an object or an array, exactly as it was written. `null` counts as absent.
    pub params: Option<&'a str>,
    /// Redial's own member.
    pub meta: RequestMeta<'a>,
}

/// A message that is refused, and what to answer. Nothing was executed.
#[derive(Debug)]
pub struct Rejection<'a> {
    /// How to spell the answer. What can't be recognised is answered in JSON-RPC 2.0.
    pub dialect: Dialect,
    /// The id to answer with; null if none could be read.
    pub id: Id<'a>,
    /// The answer.
    pub error: ErrorObject,
}

impl<'a> Incoming<'a> {
    /// Reads one frame.
    ///
    /// ```
    /// use redial_protocol::{ErrorCode, Incoming, Limits};
    ///
    /// let frame = br#"{"jsonrpc":"2.0","id":1.5,"method":"get"}"#;
    /// let rejection = Incoming::parse(frame, &Limits::default()).unwrap_err();
    /// assert_eq!(rejection.error.code, ErrorCode::INVALID_REQUEST);
    /// ```
    ///
    /// # Errors
    ///
    /// [`Rejection`] with -32700 if the frame is not JSON in UTF-8 or nests too deep, and with
    /// -32600 if it is JSON but neither a request nor a batch of 1 to
    /// [`max_batch_entries`](Limits::max_batch_entries) entries.
    pub fn parse(frame: &'a [u8], limits: &Limits) -> Result<Self, Rejection<'a>> {
        let text = text(frame)?;
        match scan::request(text, limits.max_depth) {
            Some(request) => Ok(Self::Request(request)),
            None => Self::parse_unusual(text, limits),
        }
    }

    /// A message that can't be read in one pass, or is none.
    fn parse_unusual(text: &'a str, limits: &Limits) -> Result<Self, Rejection<'a>> {
        check_depth(text, limits.max_depth)?;
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => Request::parse(text).map(Self::Request),
            Some(b'[') => Batch::parse(text, limits).map(Self::Batch),
            _ => Err(not_a_message(text)),
        }
    }
}

#[inline]
fn text(frame: &[u8]) -> Result<&str, Rejection<'_>> {
    simdutf8::basic::from_utf8(frame).map_err(|_| {
        // Which doesn't say where.
        let at = std::str::from_utf8(frame).map_or_else(|error| error.valid_up_to(), str::len);
        Rejection::parse_error(format_args!(
            "not UTF-8 at byte {at}; expected JSON in UTF-8"
        ))
    })
}

impl<'a> Request<'a> {
    fn parse(text: &'a str) -> Result<Self, Rejection<'a>> {
        let members: Members<'a> =
            serde_json::from_str(text).map_err(|error| Rejection::not_json(&error))?;
        members.into_request()
    }

    /// Whether no answer is expected, not even an error.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.id.is_none()
    }
}

/// An array of requests. Each entry is read on its own, so that a bad one spoils only itself.
#[derive(Debug)]
pub struct Batch<'a> {
    entries: Vec<&'a RawValue>,
}

impl<'a> Batch<'a> {
    fn parse(text: &'a str, limits: &Limits) -> Result<Self, Rejection<'a>> {
        let entries: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|error| Rejection::not_json(&error))?;
        let max = limits.max_batch_entries;
        match entries.len() {
            0 => Err(Rejection::invalid(
                "an empty batch; expected 1 or more requests",
            )),
            found if found > max => Err(Rejection::invalid(format_args!(
                "a batch of {found} requests; at most {max} are allowed"
            ))),
            _ => Ok(Self { entries }),
        }
    }

    /// How many entries there are; never 0.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty batch is refused, so none exists"
    )]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries in their order, each a request or the answer to what is none.
    pub fn requests(&self) -> impl Iterator<Item = Result<Request<'a>, Rejection<'a>>> {
        self.entries
            .iter()
            .map(|entry| match entry.get().as_bytes() {
                [b'{', ..] => Request::parse(entry.get()),
                _ => Err(Rejection::invalid(format_args!(
                    "an entry of the batch is {}; expected an object",
                    cut(entry.get())
                ))),
            })
    }
}

impl<'a> Rejection<'a> {
    fn parse_error(detail: impl fmt::Display) -> Self {
        Self::new(ErrorCode::PARSE_ERROR, detail)
    }

    fn invalid(detail: impl fmt::Display) -> Self {
        Self::new(ErrorCode::INVALID_REQUEST, detail)
    }

    fn not_json(error: &serde_json::Error) -> Self {
        if error.is_data() {
            Self::invalid(cut(&error.to_string()))
        } else {
            Self::parse_error(format_args!("not JSON: {}", cut(&error.to_string())))
        }
    }

    fn new(code: ErrorCode, detail: impl fmt::Display) -> Self {
        let error = ErrorObject::raised(code, detail);
        Self {
            dialect: Dialect::JsonRpc2,
            id: Id::NULL,
            error,
        }
    }

    fn answered_as(mut self, dialect: Dialect, id: Option<Id<'a>>) -> Self {
        self.dialect = dialect;
        self.id = id.unwrap_or(Id::NULL);
        self
    }
}

/// The members of a message as they were written; shared by requests and replies.
#[derive(Default)]
pub(crate) struct Members<'a> {
    pub(crate) jsonrpc: Option<&'a RawValue>,
    pub(crate) id: Option<&'a RawValue>,
    pub(crate) method: Option<&'a RawValue>,
    pub(crate) params: Option<&'a RawValue>,
    pub(crate) result: Option<&'a RawValue>,
    pub(crate) error: Option<&'a RawValue>,
    pub(crate) redial: Option<&'a RawValue>,
    /// The first member that was there twice.
    pub(crate) duplicate: Option<String>,
}

impl<'a> Members<'a> {
    fn into_request(self) -> Result<Request<'a>, Rejection<'a>> {
        // Without a `jsonrpc` member it is the notebook's, but only if it looks like a request
        // at all: the specification wants `{"foo": "boo"}` answered in its own words.
        let dialect = match (self.jsonrpc, self.id.or(self.method)) {
            (None, Some(_)) => Dialect::Notebook,
            _ => Dialect::JsonRpc2,
        };
        let id = match self.id.map(Id::parse).transpose() {
            Ok(id) => id,
            Err(error) => return Err(Rejection::invalid(error).answered_as(dialect, None)),
        };
        self.checked(dialect, id)
            .map_err(|rejection| rejection.answered_as(dialect, id))
    }

    fn checked(self, dialect: Dialect, id: Option<Id<'a>>) -> Result<Request<'a>, Rejection<'a>> {
        if let Some(name) = self.duplicate {
            return Err(Rejection::invalid(format_args!(
                "the member \"{}\" is there twice",
                cut(&name)
            )));
        }
        if let Some(version) = self.jsonrpc
            && !is_2_0(version)
        {
            return Err(Rejection::invalid(format_args!(
                "jsonrpc is {}; expected \"2.0\", or no such member",
                cut(version.get())
            )));
        }
        Ok(Request {
            dialect,
            id,
            method: method_name(self.method)?,
            params: structured(self.params)?,
            meta: request_meta(self.redial)?,
        })
    }
}

fn is_2_0(version: &RawValue) -> bool {
    let raw = version.get();
    raw == "\"2.0\"" || raw.starts_with('"') && string_value(raw).is_ok_and(|text| text == "2.0")
}

fn method_name(raw: Option<&RawValue>) -> Result<Cow<'_, str>, Rejection<'_>> {
    let raw = raw
        .ok_or_else(|| Rejection::invalid("no method; expected a string"))?
        .get();
    if !raw.starts_with('"') {
        return Err(Rejection::invalid(format_args!(
            "the method is {}; expected a string",
            cut(raw)
        )));
    }
    string_value(raw).map_err(|error| Rejection::invalid(format_args!("the method: {error}")))
}

fn structured(raw: Option<&RawValue>) -> Result<Option<&str>, Rejection<'_>> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(text) if text.starts_with(['{', '[']) => Ok(Some(text)),
        Some(text) => Err(Rejection::invalid(format_args!(
            "params are {}; expected an object or an array",
            cut(text)
        ))),
    }
}

fn request_meta(raw: Option<&RawValue>) -> Result<RequestMeta<'_>, Rejection<'_>> {
    let Some(raw) = raw else {
        return Ok(RequestMeta::default());
    };
    // A derived deserialiser would also take an array for the struct.
    if !raw.get().starts_with('{') {
        return Err(Rejection::invalid(format_args!(
            "redial is {}; expected an object",
            cut(raw.get())
        )));
    }
    serde_json::from_str(raw.get()).map_err(|error| {
        Rejection::invalid(format_args!(
            "the member redial: {}",
            cut(&error.to_string())
        ))
    })
}

fn not_a_message(text: &str) -> Rejection<'_> {
    match serde_json::from_str::<de::IgnoredAny>(text) {
        Ok(_) => Rejection::invalid(format_args!(
            "the message is {}; expected an object or an array of objects",
            cut(text)
        )),
        Err(error) => Rejection::not_json(&error),
    }
}

/// Refuses nesting over `max_depth`. Text with no more than that many brackets can't nest
/// deeper, and counting them is much cheaper than following them.
fn check_depth(text: &str, max_depth: usize) -> Result<(), Rejection<'_>> {
    let brackets = text
        .bytes()
        .filter(|byte| matches!(byte, b'{' | b'['))
        .count();
    if brackets <= max_depth || depth(text.as_bytes()) <= max_depth {
        return Ok(());
    }
    Err(Rejection::parse_error(format_args!(
        "nested more than {max_depth} deep; expected at most that"
    )))
}

/// How deep objects and arrays nest. Exact for JSON; for anything else it doesn't matter.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The value of a JSON string, given with its quotes; borrowed unless it has escapes.
pub(crate) fn string_value(raw: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    if raw.contains('\\') {
        serde_json::from_str(raw).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(&raw[1..raw.len() - 1]))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut others = HashSet::new();
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let place = match &*name {
                "jsonrpc" => &mut members.jsonrpc,
                "id" => &mut members.id,
                "method" => &mut members.method,
                "params" => &mut members.params,
                "result" => &mut members.result,
                "error" => &mut members.error,
                "redial" => &mut members.redial,
                _ => {
                    if let Some(twice) = others.replace(name) {
                        members.duplicate.get_or_insert(twice.into_owned());
                    }
                    continue;
                }
            };
            if place.replace(value).is_some() {
                members.duplicate.get_or_insert(name.into_owned());
            }
        }
        Ok(members)
    }
}

/// A member's name, borrowed where it has no escapes. (`Cow` alone is always read as owned.)
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends a request to `out`, without a frame around it. `params` and `id` are JSON, and go out as
/// they are.
///
/// ```
/// use redial_protocol::{Dialect, RequestMeta, write_request};
///
/// let mut out = Vec::new();
/// let meta = RequestMeta { attempt: 2, ..RequestMeta::default() };
/// write_request(&mut out, Dialect::JsonRpc2, Some("7"), "get", Some(br#"["k"]"#), &meta);
/// assert_eq!(
///     String::from_utf8(out)?,
///     r#"{"jsonrpc":"2.0","id":7,"method":"get","params":["k"],"redial":{"attempt":2}}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_request(
    out: &mut Vec<u8>,
    dialect: Dialect,
    id: Option<&str>,
    method: &str,
    params: Option<&[u8]>,
    meta: &RequestMeta<'_>,
) {
    let (with_id, without): (&[u8], &[u8]) = match dialect {
        Dialect::Notebook => (br#"{"id":"#, br#"{"method":"#),
        Dialect::JsonRpc2 => (
            br#"{"jsonrpc":"2.0","id":"#,
            br#"{"jsonrpc":"2.0","method":"#,
        ),
    };
    if let Some(id) = id {
        out.extend_from_slice(with_id);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(br#","method":"#);
    } else {
        out.extend_from_slice(without);
    }
    write_string(out, method);
    if let Some(params) = params {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params);
    }
    if !meta.is_empty() {
        out.extend_from_slice(br#","redial":"#);
        meta.write(out);
    }
    out.push(b'}');
}

/// Whether a string needs no more than quotes to be JSON.
pub(crate) fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    text.bytes().all(is_plain)
}

/// Appends a string as JSON.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing a string to memory can't fail");
    }
}

#[cfg(test)]
mod tests;
