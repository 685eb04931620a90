//! The test vectors of PROTOCOL.md that need no server: frames, ids, requests, messages, replies.
//! The exchanges are run by redial-server.

use redial_protocol::{
    Dialect, FrameDecoder, FrameError, Incoming, Limits, Rejection, Reply, ReplyMeta, Request,
    RequestMeta, SessionCall, SessionId, write_request,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Deserialize)]
struct Vectors {
    frames: Vec<Stream>,
    session_ids: Vec<NumberedCall>,
    not_session_ids: Vec<String>,
    requests: Vec<Written>,
    messages: Vec<Message>,
    replies: Vec<Received>,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
    max_frame: usize,
    stream: String,
    frames: Vec<String>,
    end: String,
}

#[derive(Deserialize)]
struct NumberedCall {
    session: SessionId,
    number: u64,
    id: String,
}

#[derive(Deserialize)]
struct Written {
    name: String,
    dialect: String,
    id: Option<String>,
    method: String,
    params: Option<String>,
    #[serde(default = "nothing")]
    redial: Value,
    text: String,
}

#[derive(Deserialize)]
struct Message {
    name: String,
    text: Option<String>,
    hex: Option<String>,
    #[serde(flatten)]
    read: Entry,
}

/// What a server reads, each member as the vectors spell it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry {
    Request {
        dialect: String,
        id: Option<String>,
        method: String,
        params: Option<String>,
        key: bool,
        #[serde(default = "nothing")]
        redial: Value,
    },
    Batch(Vec<Entry>),
    Error {
        code: i32,
        dialect: String,
        id: String,
    },
}

#[derive(Deserialize)]
struct Received {
    name: String,
    text: String,
    id: String,
    result: Option<String>,
    code: Option<i32>,
    executed: Option<Value>,
    #[serde(default)]
    redial: ReplyMeta,
}

/// What `redial` says where it is left out.
fn nothing() -> Value {
    json!({})
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors.json")).expect("the vectors are as they are read")
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    });
    digits.collect()
}

fn dialect_name(dialect: Dialect) -> String {
    match dialect {
        Dialect::JsonRpc2 => "2.0".to_owned(),
        Dialect::Notebook => "notebook".to_owned(),
    }
}

fn dialect(name: &str) -> Dialect {
    match name {
        "2.0" => Dialect::JsonRpc2,
        "notebook" => Dialect::Notebook,
        other => panic!("no dialect: {other}"),
    }
}

/// The frames of a stream that arrives in pieces of `piece` bytes, and how it ends.
fn decode(stream: &[u8], max_frame: usize, piece: usize) -> (Vec<String>, &'static str) {
    let (mut decoder, mut frames) = (FrameDecoder::new(max_frame), Vec::new());
    for mut input in stream.chunks(piece) {
        loop {
            match decoder.next_frame(&mut input) {
                Ok(Some(frame)) => frames.push(String::from_utf8(frame.to_vec()).unwrap()),
                Ok(None) => break,
                Err(FrameError::Empty) => return (frames, "zero_length"),
                Err(_) => return (frames, "too_large"),
            }
        }
    }
    let is_mid_frame = decoder.is_mid_frame();
    (frames, if is_mid_frame { "mid_frame" } else { "empty" })
}

#[test]
fn streams_are_split_into_frames() {
    for vector in vectors().frames {
        let stream = bytes(&vector.stream);
        for piece in 1..=stream.len().max(1) {
            let (frames, end) = decode(&stream, vector.max_frame, piece);
            assert_eq!(frames, vector.frames, "{}, by {piece}", vector.name);
            assert_eq!(end, vector.end, "{}, by {piece}", vector.name);
        }
    }
}

#[test]
fn ids_of_session_calls_are_laid_out_as_described() {
    let vectors = vectors();
    for NumberedCall {
        session,
        number,
        id,
    } in vectors.session_ids
    {
        let call = SessionCall { session, number };
        assert_eq!(call.uuid().to_string(), id);
        assert_eq!(SessionCall::from_uuid(id.parse().unwrap()), Some(call));
    }
    for text in vectors.not_session_ids {
        let id = Some(&text).filter(|text| text.len() == 36);
        let id = id.and_then(|text| Uuid::try_parse(text).ok());
        assert_eq!(id.and_then(SessionCall::from_uuid), None, "{text}");
    }
}

#[test]
fn requests_are_written_and_read_again() {
    for vector in vectors().requests {
        let (mut out, redial) = (Vec::new(), vector.redial.to_string());
        let meta: RequestMeta<'_> = serde_json::from_str(&redial).unwrap();
        write_request(
            &mut out,
            dialect(&vector.dialect),
            vector.id.as_deref().map(Into::into),
            &vector.method,
            vector.params.as_deref().map(str::as_bytes),
            &meta,
        );
        let written = String::from_utf8(out).unwrap();
        assert_eq!(written, vector.text, "{}", vector.name);
        let Entry::Request { redial, method, .. } = read(written.as_bytes()) else {
            panic!("{}: not read as a request", vector.name)
        };
        assert_eq!((redial, method), (vector.redial, vector.method));
    }
}

fn read(frame: &[u8]) -> Entry {
    match Incoming::parse(frame, &Limits::default()) {
        Ok(Incoming::Request(request)) => request_entry(&request),
        Ok(Incoming::Batch(batch)) => {
            let read = |entry: Result<Request<'_>, Rejection<'_>>| match entry {
                Ok(request) => request_entry(&request),
                Err(rejection) => error_entry(&rejection),
            };
            Entry::Batch(batch.requests().map(read).collect())
        }
        Err(rejection) => error_entry(&rejection),
    }
}

fn request_entry(request: &Request<'_>) -> Entry {
    let id = request.id.as_ref();
    Entry::Request {
        dialect: dialect_name(request.dialect),
        id: id.map(|id| id.raw().to_owned()),
        method: request.method.clone().into_owned(),
        params: request.params.map(str::to_owned),
        key: id.is_some_and(|id| id.key(request.dialect).is_some()),
        redial: serde_json::to_value(&request.meta).unwrap(),
    }
}

fn error_entry(rejection: &Rejection<'_>) -> Entry {
    Entry::Error {
        code: rejection.error.code.into(),
        dialect: dialect_name(rejection.dialect),
        id: rejection.id.raw().to_owned(),
    }
}

#[test]
fn messages_are_read_or_refused_as_described() {
    for vector in vectors().messages {
        let frame = match (vector.text, vector.hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(hex)) => bytes(&hex),
            _ => panic!("{}: neither text nor hex, or both", vector.name),
        };
        assert_eq!(read(&frame), vector.read, "{}", vector.name);
    }
}

#[test]
fn replies_say_whether_the_call_was_executed() {
    for vector in vectors().replies {
        let name = &vector.name;
        let reply = Reply::parse(vector.text.as_bytes()).unwrap();
        assert_eq!(reply.id.raw(), vector.id, "{name}");
        assert_eq!(reply.meta, vector.redial, "{name}");
        match reply.outcome {
            Ok(result) => assert_eq!(Some(result), vector.result.as_deref(), "{name}"),
            Err(error) => {
                assert_eq!(Some(i32::from(error.code)), vector.code, "{name}");
                let executed = serde_json::to_value(error.executed()).unwrap();
                assert_eq!(Some(executed), vector.executed, "{name}");
            }
        }
    }
}
