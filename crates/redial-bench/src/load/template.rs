//! The bytes of a request, of which each call changes a few.

use redial_protocol::{
    Dialect, FRAME_HEADER_BYTES, RequestMeta, SessionCall, SessionId, write_frame, write_request,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Mode, hex};

/// What every message of this dialect begins with, to the id.
const START: &[u8] = br#"{"jsonrpc":"2.0","id":""#;

/// Where the id begins in a body, the request's and the reply's alike.
pub const ID_AT: usize = START.len();

/// How long the id is.
pub const ID_BYTES: usize = 36;

/// Where the digits of the id begin that differ from call to call.
const DIGITS_AT: usize = ID_AT + ID_BYTES - 8;

/// What follows the id in a request.
pub const REQUEST: &[u8] = br#"","method":"#;

/// What follows the id in a reply that is a result.
pub const RESULT: &[u8] = br#"","result":"#;

/// Requests that differ in the last 32 bits of their ids, and in what they acknowledge.
#[derive(Clone, Debug)]
pub struct Template {
    /// A frame: to the digits of the acknowledgement if it has one, else to its end.
    head: Vec<u8>,
    /// The rest of it.
    tail: Option<&'static [u8]>,
}

impl Template {
    /// The requests of a session, just as Redial's client writes them.
    #[must_use]
    pub fn of_session(session: SessionId, method: &str, key: &str) -> Self {
        let id = SessionCall { session, number: 0 }.uuid();
        let meta = RequestMeta {
            timeout_ms: Some(10_000),
            ack: Some(0),
            ..RequestMeta::default()
        };
        let mut head = request(id, method, key, &meta);
        let tail = b"0}}";
        head.truncate(head.len() - tail.len());
        Self {
            head,
            tail: Some(&tail[1..]),
        }
    }

    /// Requests with plain ids, which begin as this one does.
    #[must_use]
    pub fn with_plain_ids(id: Uuid, method: &str, key: &str) -> Self {
        let meta = RequestMeta {
            timeout_ms: Some(10_000),
            ..RequestMeta::default()
        };
        let head = request(id, method, key, &meta);
        Self { head, tail: None }
    }

    /// The requests of this mode. Plain ids are made of the `session` too, which is random and
    /// as long.
    #[must_use]
    pub fn new(mode: Mode, session: SessionId, key: &str) -> Self {
        let bits = u128::from(session.bits());
        let plain = uuid::Builder::from_random_bytes((bits << 64).to_be_bytes()).into_uuid();
        match mode {
            Mode::Echo | Mode::Session => Self::of_session(session, "inc", key),
            Mode::Query => Self::of_session(session, "inc_query", key),
            Mode::Plain => Self::with_plain_ids(plain, "inc", key),
            Mode::PlainQuery => Self::with_plain_ids(plain, "inc_query", key),
        }
    }

    /// Appends a request.
    pub fn append(&self, out: &mut Vec<u8>, number: u32, ack: u32) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        let digits = start + FRAME_HEADER_BYTES + DIGITS_AT;
        out[digits..digits + 8].copy_from_slice(&hex::digits(number));
        if let Some(tail) = self.tail {
            out.extend_from_slice(itoa::Buffer::new().format(ack).as_bytes());
            out.extend_from_slice(tail);
            let length = (out.len() - start - FRAME_HEADER_BYTES) as u32;
            out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
        }
    }
}

fn request(id: Uuid, method: &str, key: &str, meta: &RequestMeta<'_>) -> Vec<u8> {
    let params = format!(r#"{{"key":"{key}","delta":1}}"#);
    let params = RawValue::from_string(params).expect("keys are plain words");
    let id = format!("\"{id}\"");
    let mut frame = Vec::new();
    write_frame(&mut frame, 1024, |out| {
        let dialect = Dialect::JsonRpc2;
        write_request(
            out,
            dialect,
            Some((&*id).into()),
            method,
            Some(params.get().as_bytes()),
            meta,
        );
    })
    .expect("a short request fits into 1024 bytes");
    frame
}

/// The number of the call that a body is about, if an id of ours is where it should be, and it is
/// followed by `expected`.
#[must_use]
pub fn number_of(body: &[u8], expected: &[u8]) -> Option<u32> {
    let digits = body.get(DIGITS_AT..)?.first_chunk()?;
    let rest = &body[DIGITS_AT + digits.len()..];
    (body.starts_with(START) && rest.starts_with(expected)).then(|| hex::number(*digits))
}

#[cfg(test)]
mod tests {
    use redial_protocol::{CallKey, Incoming, Limits, Request};

    use super::*;

    fn session() -> SessionId {
        SessionId::from_bits(0x123_4567_89ab_cdef)
    }

    fn with_request(frame: &[u8], test: impl FnOnce(&Request<'_>)) {
        let (header, body) = frame.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*header) as usize, body.len());
        let Ok(Incoming::Request(request)) = Incoming::parse(body, &Limits::default()) else {
            panic!("{}", String::from_utf8_lossy(body));
        };
        test(&request);
    }

    #[test]
    fn a_sessions_requests_carry_number_and_acknowledgement() {
        for (mode, method) in [
            (Mode::Session, "inc"),
            (Mode::Query, "inc_query"),
            (Mode::Echo, "inc"),
        ] {
            let template = Template::new(mode, session(), "k");
            for (number, ack) in [(0, 0), (9, 9), (0xabc_def0, 12_345)] {
                let mut out = b"before".to_vec();
                template.append(&mut out, number, ack);
                with_request(&out[6..], |request| {
                    let key = request.id.unwrap().key(request.dialect);
                    let named = SessionCall {
                        session: session(),
                        number: number.into(),
                    };
                    assert_eq!(key, Some(CallKey::Session(named)));
                    assert_eq!(request.meta.ack, Some(ack.into()));
                    assert_eq!(request.method, method);
                });
                assert_eq!(number_of(&out[6 + 4..], REQUEST), Some(number));
            }
        }
    }

    #[test]
    fn plain_requests_have_ids_that_are_keys_and_differ() {
        for (mode, method) in [(Mode::Plain, "inc"), (Mode::PlainQuery, "inc_query")] {
            let template = Template::new(mode, session(), "k");
            let keys = [7, 8].map(|number| {
                let (mut out, mut key) = (Vec::new(), None);
                template.append(&mut out, number, 99);
                with_request(&out, |request| {
                    key = request.id.unwrap().key(request.dialect);
                    assert!(matches!(key, Some(CallKey::Uuid(_))), "{key:?}");
                    assert_eq!((&*request.method, request.meta.ack), (method, None));
                    assert_eq!(request.params.unwrap(), r#"{"key":"k","delta":1}"#);
                });
                key
            });
            assert_ne!(keys[0], keys[1]);
        }
    }

    #[test]
    fn only_results_are_taken_for_results() {
        let id = "12345678-9abc-8def-8000-0000000000ff";
        let number = |body: String| number_of(body.as_bytes(), RESULT);
        let result = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":5}}"#);
        assert_eq!(number(result), Some(255));
        for other in [
            format!(r#"{{"jsonrpc":"2.0","id":"{id}","error":{{}}}}"#),
            format!(r#"{{"id":"{id}","result":5}}"#),
            r#"{"jsonrpc":"2.0","id":null,"result":5}"#.to_owned(),
            String::new(),
        ] {
            assert_eq!(number(other.clone()), None, "{other}");
        }
    }
}
