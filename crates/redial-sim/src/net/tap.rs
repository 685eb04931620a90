//! Reads along on a connection. Frames are parsed here by hand: an oracle that used the decoder
//! under test would share its errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::journal::{Ack, Executed, Frame, numbered};

const HEADER_BYTES: usize = 4;

/// Collects bytes into frames.
#[derive(Default)]
pub(super) struct Splitter {
    bytes: Vec<u8>,
}

impl Splitter {
    /// Whether no frame has begun and not ended.
    pub(super) fn is_between_frames(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bodies of the frames that these bytes complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.bytes.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>() {
            let end = HEADER_BYTES + u32::from_be_bytes(*header) as usize;
            if self.bytes.len() < end {
                break;
            }
            frames.push(self.bytes[HEADER_BYTES..end].to_vec());
            self.bytes.drain(..end);
        }
        frames
    }
}

/// A body with its header.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("frames here are small");
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    redial: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    attempt: Option<u32>,
    #[serde(default)]
    ack: Option<u64>,
}

/// The params of `rpc.ack`.
#[derive(Deserialize)]
struct AckParams {
    session: String,
    #[serde(default)]
    ack: u64,
    #[serde(default)]
    above: Vec<(u64, u64)>,
}

/// The params of `rpc.cancel` and `rpc.resolve`.
#[derive(Deserialize)]
struct AboutParams {
    id: String,
}

/// The params of `rpc.goaway`.
#[derive(Deserialize)]
struct GoawayParams {
    #[serde(default)]
    last: bool,
}

#[derive(Deserialize)]
struct CallMember {
    call: u32,
}

#[derive(Deserialize)]
struct ValueMember {
    value: i64,
}

#[derive(Deserialize)]
struct ErrorMembers<'a> {
    code: i32,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Parses the body of a frame.
pub(super) fn read(wire: u32, is_copy: bool, body: &[u8]) -> Frame {
    let text = String::from_utf8_lossy(body).into_owned();
    let Ok(members) = serde_json::from_str::<Members<'_>>(&text) else {
        return Frame {
            wire,
            is_copy,
            text,
            ..Frame::default()
        };
    };
    let raw = |value: &RawValue| value.get().to_owned();
    let outcome = match (members.result, members.error) {
        (Some(result), None) => Some(format!("\"result\":{result}")),
        (None, Some(error)) => Some(format!("\"error\":{error}")),
        _ => None,
    };
    let ack = ack(&members);
    let mut frame = Frame {
        wire,
        ack,
        is_copy,
        id: members.id.map(raw),
        method: members.method,
        attempt: members.redial.and_then(|meta| meta.attempt).unwrap_or(1),
        outcome,
        ..Frame::default()
    };
    frame.tag = members
        .params
        .and_then(|raw| some(raw, |member: CallMember| member.call));
    if matches!(frame.method.as_deref(), Some("rpc.cancel" | "rpc.resolve")) {
        let about = |params: AboutParams| format!("\"{}\"", params.id);
        frame.about = members.params.and_then(|raw| some(raw, about));
    }
    if frame.method.as_deref() == Some("rpc.goaway") {
        let is_last = members
            .params
            .and_then(|raw| some(raw, |params: GoawayParams| params.last));
        frame.is_last = is_last.unwrap_or_default();
    }
    let error = |error: ErrorMembers<'_>| (error.code, executed(&error));
    if let Some((code, executed)) = members.error.and_then(|raw| some(raw, error)) {
        (frame.code, frame.executed) = (Some(code), Some(executed));
    }
    frame.value = members
        .result
        .and_then(|raw| some(raw, |member: ValueMember| member.value));
    frame.text = text;
    frame
}

/// What an error says about execution: its data, never anything within that, or else its code.
fn executed(error: &ErrorMembers<'_>) -> Executed {
    let members = |data: &RawValue| serde_json::from_str::<BTreeMap<String, Value>>(data.get());
    let data = error.data.and_then(|data| members(data).ok());
    let said = data.and_then(|mut data| serde_json::from_value(data.remove("executed")?).ok());
    said.unwrap_or(match error.code {
        -32700 | -32602..=-32600 => Executed::No,
        -32603 | -32000 => Executed::Yes,
        -32768..=-32001 => Executed::Unknown,
        _ => Executed::Yes,
    })
}

/// What a request acknowledges, as `rpc.ack` or in its `redial` member.
fn ack(members: &Members<'_>) -> Option<Ack> {
    if members.method.as_deref() == Some("rpc.ack") {
        return some(members.params?, |params: AckParams| Ack {
            session: params.session,
            below: params.ack,
            above: params.above,
        });
    }
    let (session, _) = numbered(members.id?.get())?;
    Some(Ack {
        session,
        below: members.redial.as_ref()?.ack?,
        above: Vec::new(),
    })
}

fn some<'a, T: Deserialize<'a>, U>(raw: &'a RawValue, part: impl FnOnce(T) -> U) -> Option<U> {
    serde_json::from_str(raw.get()).ok().map(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_in_any_split() {
        let stream = [framed(b"ab"), framed(b"cde")].concat();
        for at in 0..=stream.len() {
            let mut splitter = Splitter::default();
            let mut frames = splitter.feed(&stream[..at]);
            frames.extend(splitter.feed(&stream[at..]));
            assert_eq!(frames, [b"ab".to_vec(), b"cde".to_vec()], "split at {at}");
        }
    }

    #[test]
    fn a_request_and_its_reply_are_parsed() {
        let request = read(
            3,
            false,
            br#"{"id":"a","method":"inc","params":{"call":7,"key":0},"redial":{"attempt":2}}"#,
        );
        assert_eq!(
            (request.tag, request.attempt, request.id.as_deref()),
            (Some(7), 2, Some("\"a\""))
        );
        let ack = read(
            3,
            false,
            br#"{"method":"rpc.ack","params":{"session":"123456789abcdef","ack":2,"above":[[4,5]]}}"#,
        );
        let expected = Ack {
            session: "123456789abcdef".to_owned(),
            below: 2,
            above: vec![(4, 5)],
        };
        assert_eq!(ack.ack, Some(expected));
        let reply = read(3, false, br#"{"id":"a","result":{"value":9}}"#);
        assert_eq!(reply.outcome.as_deref(), Some(r#""result":{"value":9}"#));
        assert_eq!((reply.value, reply.code), (Some(9), None));
        let error = read(
            3,
            false,
            br#"{"id":"a","error":{"code":-32001,"message":"m"}}"#,
        );
        assert_eq!((error.value, error.code), (None, Some(-32001)));
    }

    #[test]
    fn an_error_says_by_its_own_data_or_by_its_code_whether_it_was_executed() {
        let of = |error: &str| {
            let body = format!(r#"{{"id":"a","error":{error}}}"#);
            read(3, false, body.as_bytes()).executed
        };
        let refused = r#"{"code":-32001,"data":{"executed":"no","detail":"full"}}"#;
        assert_eq!(of(refused), Some(Executed::No));
        let marked = r#"{"code":-32001,"data":{"executed":"yes","data":{"executed":"no"}}}"#;
        assert_eq!(of(marked), Some(Executed::Yes));
        assert_eq!(
            of(r#"{"code":-32001,"data":["no"]}"#),
            Some(Executed::Unknown)
        );
        assert_eq!(of(r#"{"code":-32601}"#), Some(Executed::No));
        assert_eq!(
            of(r#"{"code":7,"data":{"executed":1}}"#),
            Some(Executed::Yes)
        );
    }

    #[test]
    fn the_last_word_of_a_server_is_known_by_its_params() {
        let is_last = |params: &str| {
            let body = format!(r#"{{"method":"rpc.goaway"{params}}}"#);
            read(3, false, body.as_bytes()).is_last
        };
        assert!(is_last(r#","params":{"last":true}"#));
        assert!(!is_last(r#","params":{"last":false}"#) && !is_last(""));
    }
}
