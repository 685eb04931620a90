//! Replies: an outcome is encoded once and kept as bytes; each attempt wraps its own dialect and id
//! around it.

use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{
    dialect::Dialect,
    error::ErrorObject,
    id::Id,
    json::{finite, reply::FastReply},
    members::Members,
    meta::ReplyMeta,
    text::cut,
};

/// Appends a result as an outcome: `"result":` and the value.
///
/// # Errors
///
/// [`serde_json::Error`] if the value can't be written as JSON, for example a NaN, or a map whose keys
/// are not strings; `out` is then as it was.
pub fn encode_result<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    value: &T,
) -> Result<(), serde_json::Error> {
    let start = out.len();
    out.extend_from_slice(br#""result":"#);
    finite::write(&mut *out, value).inspect_err(|_| out.truncate(start))
}

/// Appends an error as an outcome: `"error":` and the object.
pub fn encode_error(out: &mut Vec<u8>, error: &ErrorObject) {
    out.extend_from_slice(br#""error":"#);
    serde_json::to_writer(&mut *out, error).expect("plain members and raw JSON can't fail");
}

/// Appends a reply to `out`, without a frame around it. `id` is JSON, and goes out as it is;
/// `outcome` comes from [`encode_result`] or [`encode_error`].
///
/// ```
/// use redial_protocol::{Dialect, ReplyMeta, encode_result, write_reply};
///
/// let mut outcome = Vec::new();
/// encode_result(&mut outcome, &19)?;
/// let mut out = Vec::new();
/// write_reply(&mut out, Dialect::JsonRpc2, "1", &outcome, ReplyMeta::default());
/// assert_eq!(out, br#"{"jsonrpc":"2.0","id":1,"result":19}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn write_reply(out: &mut Vec<u8>, dialect: Dialect, id: &str, outcome: &[u8], meta: ReplyMeta) {
    // Once for all that follows, but for the rare meta.
    out.reserve(32 + id.len() + outcome.len());
    match dialect {
        Dialect::Notebook => out.extend_from_slice(br#"{"id":"#),
        Dialect::JsonRpc2 => out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#),
    }
    out.extend_from_slice(id.as_bytes());
    out.push(b',');
    out.extend_from_slice(outcome);
    if meta != ReplyMeta::default() {
        out.extend_from_slice(br#","redial":"#);
        serde_json::to_writer(&mut *out, &meta).expect("numbers and bools can't fail");
    }
    out.push(b'}');
}

/// One reply, borrowed from its frame.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Which call it answers; null if the server could not read the id.
    pub id: Id<'a>,
    /// The JSON text of the result, exactly as it was written, or the error.
    pub outcome: Result<&'a str, ErrorObject>,
    /// Redial's own member.
    pub meta: ReplyMeta,
}

/// Why a frame is not a reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Not JSON in UTF-8, or not an object.
    #[error("the reply is not a JSON object: {0}")]
    NotAnObject(String),
    /// A request or a notification: it has a method, whatever else it has.
    #[error("it is no reply but a request or a notification, since it has a method")]
    Request {
        /// How it is spelled.
        dialect: Dialect,
        /// The id, as JSON, if there is a usable one.
        id: Option<String>,
    },
    /// The id is of no legal kind, there twice, or missing.
    #[error("the reply has no usable id: {0}")]
    Id(String),
    /// Neither a result nor an error, or both, or a malformed error.
    #[error("the reply to {id} has no usable outcome: {detail}")]
    Outcome {
        /// The id, as JSON.
        id: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl<'a> Reply<'a> {
    /// Reads one frame from a server, in either dialect. [`ReplyReader`] is quicker where results under
    /// UUIDs are usual.
    ///
    /// ```
    /// use redial_protocol::Reply;
    ///
    /// let reply = Reply::parse(br#"{"id":"7","result":{"value":1}}"#)?;
    /// assert_eq!(reply.outcome.unwrap(), r#"{"value":1}"#);
    /// # Ok::<(), redial_protocol::ReplyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReplyError`] if the frame is not a reply; [`ReplyError::Outcome`] names the call that it
    /// was about. What has a `method` is no reply, though it carry the id of a call and a result.
    pub fn parse(frame: &'a [u8]) -> Result<Self, ReplyError> {
        let not_an_object =
            |error: &dyn fmt::Display| ReplyError::NotAnObject(cut(&error.to_string()).to_owned());
        let text = std::str::from_utf8(frame).map_err(|error| not_an_object(&error))?;
        let members: Members<'a> =
            serde_json::from_str(text).map_err(|error| not_an_object(&error))?;
        if members.method.is_some() {
            return Err(request(&members));
        }
        if members.duplicate.as_deref() == Some("id") {
            return Err(ReplyError::Id("the member is there twice".to_owned()));
        }
        let id = match members.id.map(Id::parse) {
            Some(id) => id.map_err(|error| ReplyError::Id(error.to_string()))?,
            None => return Err(ReplyError::Id("the member is missing".to_owned())),
        };
        let outcome = outcome(&members).map_err(|detail| ReplyError::Outcome {
            id: id.raw().to_owned(),
            detail,
        })?;
        let meta = match members.redial.map(|raw| serde_json::from_str(raw.get())) {
            Some(Ok(meta)) => meta,
            // Which attempt it refuses can't be known.
            Some(Err(error)) if outcome.is_err() && is_object(members.redial) => {
                return Err(ReplyError::Outcome {
                    id: id.raw().to_owned(),
                    detail: format!("the member redial: {}", cut(&error.to_string())),
                });
            }
            // What the member says is never worth a result.
            _ => ReplyMeta::default(),
        };
        Ok(Self { id, outcome, meta })
    }
}

fn is_object(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| raw.get().starts_with('{'))
}

/// What has a method, on either end.
fn request(members: &Members<'_>) -> ReplyError {
    let dialect = match members.jsonrpc {
        Some(_) => Dialect::JsonRpc2,
        None => Dialect::Notebook,
    };
    let id = members.id.and_then(|id| Id::parse(id).ok());
    ReplyError::Request {
        dialect,
        id: id.map(|id| id.raw().to_owned()),
    }
}

fn outcome<'a>(members: &Members<'a>) -> Result<Result<&'a str, ErrorObject>, String> {
    if let Some(name) = &members.duplicate {
        return Err(format!("the member \"{}\" is there twice", cut(name)));
    }
    match (members.result.map(RawValue::get), members.error) {
        (Some(result), None) => Ok(Ok(result)),
        // Some servers of the 1.0 days send both and set one of them to null.
        (Some(result), Some(error)) if error.get() == "null" => Ok(Ok(result)),
        (None | Some("null"), Some(error)) => parse_error(error).map(Err),
        (Some(_), Some(_)) => Err("both a result and an error".to_owned()),
        (None, None) => Err("neither a result nor an error".to_owned()),
    }
}

fn parse_error(raw: &RawValue) -> Result<ErrorObject, String> {
    serde_json::from_str(raw.get())
        .map_err(|error| format!("the error: {}", cut(&error.to_string())))
}

/// Reads the replies of one server: as [`Reply::parse`], and quicker where a reply is a result under a
/// UUID, spelled as Redial's server spells it.
///
/// ```
/// use redial_protocol::ReplyReader;
///
/// let mut reader = ReplyReader::new();
/// let id = "12345678-9abc-8def-8000-000000000007";
/// let frame = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":19}}"#);
/// let reply = reader.read(frame.as_bytes())?;
/// assert_eq!(reply.id.as_uuid(), Some(id.parse()?));
/// assert_eq!(reply.outcome.unwrap(), "19");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ReplyReader {
    // Replies have too little in common to be worth remembering; that may change.
    _memory: (),
}

impl ReplyReader {
    /// A reader that has seen no reply yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one frame.
    ///
    /// # Errors
    ///
    /// As [`Reply::parse`].
    pub fn read<'a>(&mut self, frame: &'a [u8]) -> Result<Reply<'a>, ReplyError> {
        let fast = FastReply::read(frame);
        match fast.and_then(|reply| reply.text(frame)) {
            Some((id, result)) => Ok(Reply {
                id,
                outcome: Ok(result),
                meta: ReplyMeta::default(),
            }),
            None => Reply::parse(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    /// Kind: a member that can't be read, and counts as absent, which says something else. Instance: the
    /// attempt that an error refuses is no number.
    #[test]
    fn an_error_that_refuses_no_one_can_say_which_attempt_is_unusable() {
        let error = r#""error":{"code":-32001,"message":"","data":{"executed":"no"}}"#;
        for redial in [
            r#"{"attempt":"1"}"#,
            r#"{"attempt":1.5}"#,
            r#"{"attempt":-1}"#,
            r#"{"attempt":4294967296}"#,
            r#"{"attempt":null}"#,
            r#"{"attempt":1,"attempt":2}"#,
            r#"{"replayed":7,"attempt":1}"#,
        ] {
            let text = format!(r#"{{"id":1,{error},"redial":{redial}}}"#);
            let read = Reply::parse(text.as_bytes());
            assert!(matches!(read, Err(ReplyError::Outcome { .. })), "{text}");
            let text = format!(r#"{{"id":1,"result":2,"redial":{redial}}}"#);
            let reply = Reply::parse(text.as_bytes()).unwrap();
            assert_eq!(reply.outcome.unwrap(), "2", "{text}");
        }
        for redial in ["[1]", "null", "7", "{}"] {
            let text = format!(r#"{{"id":1,{error},"redial":{redial}}}"#);
            let reply = Reply::parse(text.as_bytes()).unwrap();
            assert_eq!(reply.meta, ReplyMeta::default(), "{text}");
        }
    }

    #[test]
    fn both_dialects_are_read() {
        for text in [
            r#"{"id":1,"result":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":null}"#,
        ] {
            let reply = Reply::parse(text.as_bytes()).unwrap();
            assert_eq!(reply.id.raw(), "1");
            assert_eq!(reply.outcome.unwrap(), "null");
            assert_eq!(reply.meta.replayed, None);
        }
    }

    #[test]
    fn a_reply_says_what_else_there_is_to_say() {
        let mut out = Vec::new();
        let meta = ReplyMeta {
            replayed: Some(true),
            attempt: Some(3),
        };
        write_reply(&mut out, Dialect::Notebook, "1", br#""result":2"#, meta);
        assert_eq!(Reply::parse(&out).unwrap().meta, meta);
    }

    #[test]
    fn errors_keep_their_code_and_data() {
        let text = r#"{"id":"a","error":{"code":-32001,"message":"busy","data":{"executed":"no",
            "retry_after_ms":7}},"redial":{"replayed":true}}"#;
        let reply = Reply::parse(text.as_bytes()).unwrap();
        let error = reply.outcome.unwrap_err();
        assert_eq!(error.code, ErrorCode::OVERLOADED);
        assert_eq!(error.retry_after_ms(), Some(7));
        assert_eq!(reply.meta.replayed, Some(true));
    }

    #[test]
    fn what_is_not_a_reply_says_why() {
        for (text, expected) in [
            ("[]", "not a JSON object"),
            ("{", "not a JSON object"),
            (r#"{"result":1}"#, "no usable id"),
            (r#"{"id":1.5,"result":1}"#, "no usable id"),
            (r#"{"id":1}"#, "neither a result nor an error"),
            (
                r#"{"id":1,"result":1,"error":{"code":1,"message":""}}"#,
                "both",
            ),
            (
                r#"{"id":1,"error":{"code":4294967296,"message":""}}"#,
                "the error",
            ),
            (r#"{"id":1,"result":1,"result":2}"#, "twice"),
            (r#"{"id":1,"id":2,"result":1}"#, "no usable id"),
            (r#"{"id":1,"method":"m"}"#, "a method"),
        ] {
            let error = Reply::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    /// A client that assumes too much: what a peer sends under the id of a call need not be its reply.
    #[test]
    fn what_has_a_method_is_no_reply() {
        for (text, expected, expected_id) in [
            (
                r#"{"jsonrpc":"2.0","id":"a","method":"m"}"#,
                Dialect::JsonRpc2,
                Some("\"a\""),
            ),
            (
                r#"{"id":7,"result":1,"method":"m"}"#,
                Dialect::Notebook,
                Some("7"),
            ),
            (
                r#"{"m\u0065thod":null,"id":null,"error":{}}"#,
                Dialect::Notebook,
                Some("null"),
            ),
            (r#"{"jsonrpc":"2.0","method":"m"}"#, Dialect::JsonRpc2, None),
            (
                r#"{"jsonrpc":"2.0","method":"m","method":"n","id":1.5}"#,
                Dialect::JsonRpc2,
                None,
            ),
        ] {
            match Reply::parse(text.as_bytes()) {
                Err(ReplyError::Request { dialect, id }) => {
                    assert_eq!((dialect, id.as_deref()), (expected, expected_id), "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_value_that_is_not_json_leaves_the_output_as_it_was() {
        let mut out = b"before".to_vec();
        let map = std::collections::BTreeMap::from([([1u8, 2], 3)]);
        assert!(encode_result(&mut out, &map).is_err());
        assert_eq!(out, b"before");
    }
}
