//! Requests and notifications: their parts, how they are checked, how they are written.

use std::borrow::Cow;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    dialect::Dialect, id::Id, json::string, limits::Limits, members::Members, meta::RequestMeta,
    rejection::Rejection, text::cut,
};

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
    /// The member `redial` was there: the client has Redial's extensions, and numbers the attempts of
    /// a call. Without it a repeated request is the next attempt, and its bytes are those of the first.
    pub is_extended: bool,
    /// Redial's own member.
    pub meta: RequestMeta<'a>,
}

impl<'a> Request<'a> {
    /// Whether no answer is expected, not even an error (JSON-RPC 2.0, section 4.1).
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.id.is_none()
    }

    /// Reads a request of any spelling.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Rejection<'a>> {
        let members: Members<'a> =
            serde_json::from_str(text).map_err(|error| Rejection::not_json(&error))?;
        // Without a `jsonrpc` member it is the notebook's, but only if it looks like a request
        // at all: the specification wants `{"foo": "boo"}` answered as JSON-RPC 2.0.
        let dialect = match (members.jsonrpc, members.id.or(members.method)) {
            (None, Some(_)) => Dialect::Notebook,
            _ => Dialect::JsonRpc2,
        };
        // Of two ids neither is known to be the sender's.
        let id = members.id.filter(|_| !members.has_two_ids).map(Id::parse);
        let id = match id.transpose() {
            Ok(id) => id,
            Err(error) => return Err(Rejection::invalid(error).answered_as(dialect, None)),
        };
        Self::from_members(&members, dialect, id)
            .map_err(|rejection| rejection.answered_as(dialect, id))
    }

    fn from_members(
        members: &Members<'a>,
        dialect: Dialect,
        id: Option<Id<'a>>,
    ) -> Result<Self, Rejection<'a>> {
        if let Some(name) = &members.duplicate {
            return Err(Rejection::invalid(format_args!(
                "the member \"{}\" is there twice",
                cut(name)
            )));
        }
        if let Some(version) = members.jsonrpc
            && !is_2_0(version)
        {
            return Err(Rejection::invalid(format_args!(
                "jsonrpc is {}; expected \"2.0\", or no such member",
                cut(version.get())
            )));
        }
        let is_reply = members.result.is_some() || members.error.is_some();
        if is_reply && members.method.is_none() {
            return Err(Rejection::reply());
        }
        Ok(Self {
            dialect,
            id,
            method: method_name(members.method)?,
            params: structured(members.params)?,
            is_extended: members.redial.is_some(),
            meta: request_meta(members.redial)?,
        })
    }
}

fn is_2_0(version: &RawValue) -> bool {
    let raw = version.get();
    raw == "\"2.0\"" || raw.starts_with('"') && string::value(raw).is_ok_and(|text| text == "2.0")
}

fn method_name(raw: Option<&RawValue>) -> Result<Cow<'_, str>, Rejection<'_>> {
    let raw = raw
        .ok_or_else(|| Rejection::invalid("there is no method; expected a string"))?
        .get();
    if !raw.starts_with('"') {
        return Err(Rejection::invalid(format_args!(
            "the method is {}; expected a string",
            cut(raw)
        )));
    }
    string::value(raw)
        .map_err(|error| Rejection::invalid(format_args!("the method is not a string: {error}")))
}

fn structured(raw: Option<&RawValue>) -> Result<Option<&str>, Rejection<'_>> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(text) if text.starts_with(['{', '[']) => Ok(Some(text)),
        // It may be a secret.
        Some(text) if text.starts_with('"') => Err(Rejection::invalid(
            "the params are a string; expected an object or an array",
        )),
        Some(text) => Err(Rejection::invalid(format_args!(
            "the params are {}; expected an object or an array",
            cut(text)
        ))),
    }
}

fn request_meta(raw: Option<&RawValue>) -> Result<RequestMeta<'_>, Rejection<'_>> {
    let Some(raw) = raw else {
        return Ok(RequestMeta::default());
    };
    let meta: RequestMeta<'_> = serde_json::from_str(raw.get()).map_err(|error| {
        Rejection::invalid(format_args!(
            "the member redial: {}",
            cut(&error.to_string())
        ))
    })?;
    if !(1..=Limits::MAX_ATTEMPT).contains(&meta.attempt) {
        return Err(Rejection::invalid(format_args!(
            "the member redial: attempt is {}; expected 1 to {}",
            meta.attempt,
            Limits::MAX_ATTEMPT
        )));
    }
    Ok(meta)
}

/// The id that a request is sent under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestId<'a> {
    /// A UUID, written as a string in lower case: what names a call.
    Uuid(Uuid),
    /// JSON, written as it is: a string with its quotes, an integer or `null`.
    Text(&'a str),
}

impl From<Uuid> for RequestId<'_> {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl<'a> From<&'a str> for RequestId<'a> {
    fn from(json: &'a str) -> Self {
        Self::Text(json)
    }
}

impl<'a> From<Id<'a>> for RequestId<'a> {
    fn from(id: Id<'a>) -> Self {
        Self::Text(id.raw())
    }
}

/// Appends a request to `out`, without a frame around it; a notification if there is no id. `params`
/// is JSON, and goes out as it is.
///
/// ```
/// use redial_protocol::{Dialect, RequestMeta, write_request};
///
/// let mut out = Vec::new();
/// let meta = RequestMeta { attempt: 2, ..RequestMeta::default() };
/// write_request(&mut out, Dialect::JsonRpc2, Some("7".into()), "get", Some(br#"["k"]"#), &meta);
/// assert_eq!(
///     String::from_utf8(out)?,
///     r#"{"jsonrpc":"2.0","id":7,"method":"get","params":["k"],"redial":{"attempt":2}}"#
/// );
///
/// let mut out = Vec::new();
/// let id = uuid::uuid!("12345678-9abc-8def-8000-000000000007");
/// let meta = RequestMeta::default();
/// write_request(&mut out, Dialect::Notebook, Some(id.into()), "get", None, &meta);
/// assert_eq!(out, br#"{"id":"12345678-9abc-8def-8000-000000000007","method":"get"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_request(
    out: &mut Vec<u8>,
    dialect: Dialect,
    id: Option<RequestId<'_>>,
    method: &str,
    params: Option<&[u8]>,
    meta: &RequestMeta<'_>,
) {
    match dialect {
        Dialect::Notebook => out.push(b'{'),
        Dialect::JsonRpc2 => out.extend_from_slice(br#"{"jsonrpc":"2.0","#),
    }
    match id {
        Some(RequestId::Uuid(id)) => {
            let mut member = *br#""id":"00000000-0000-0000-0000-000000000000","method":"#;
            id.hyphenated().encode_lower(&mut member[6..]);
            out.extend_from_slice(&member);
        }
        Some(RequestId::Text(id)) => {
            out.extend_from_slice(br#""id":"#);
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(br#","method":"#);
        }
        None => out.extend_from_slice(br#""method":"#),
    }
    string::write(out, method);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// The same request as serde_json writes it, which sorts the members.
    fn expected(
        dialect: Dialect,
        id: Value,
        method: &str,
        params: Option<&Value>,
        meta: &RequestMeta<'_>,
    ) -> Value {
        let mut members = Map::from_iter([("id".into(), id), ("method".into(), method.into())]);
        if dialect == Dialect::JsonRpc2 {
            members.insert("jsonrpc".into(), "2.0".into());
        }
        members.extend(params.map(|params| ("params".into(), params.clone())));
        if !meta.is_empty() {
            members.insert("redial".into(), serde_json::to_value(meta).unwrap());
        }
        members.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_request_has_the_members_that_it_was_given(
            is_standard: bool,
            id: u128,
            method in "(?s:.{0,12})",
            params in prop::option::of(prop::collection::vec("(?s:.{0,9})", 0..3)),
            numbers: (u32, Option<u64>, Option<u64>),
            traceparent in prop::option::of("(?s:.{0,9})"),
        ) {
            let dialect = if is_standard { Dialect::JsonRpc2 } else { Dialect::Notebook };
            let (attempt, timeout_ms, ack) = numbers;
            let traceparent = traceparent.map(Cow::Owned);
            let attempt = attempt % 3;
            let meta = RequestMeta {
                attempt, timeout_ms, ack, traceparent, ..RequestMeta::default()
            };
            let params = params.map(Value::from);
            let text = params.as_ref().map(Value::to_string);
            let text = text.as_ref().map(String::as_bytes);
            let uuid = Uuid::from_u128(id);
            let json = format!("\"{uuid}\"");
            for id in [RequestId::Uuid(uuid), RequestId::Text(&json)] {
                let mut out = Vec::new();
                write_request(&mut out, dialect, Some(id), &method, text, &meta);
                let written: Value = serde_json::from_slice(&out).unwrap();
                let expected =
                    expected(dialect, uuid.to_string().into(), &method, params.as_ref(), &meta);
                prop_assert_eq!(written, expected);
            }
        }
    }
}
