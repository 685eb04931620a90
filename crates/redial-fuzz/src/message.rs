//! The readers of messages: they never panic, refuse what isn't JSON, and what they take is the same
//! after it was written and read again.

use redial_protocol::{Incoming, Limits, Rejection, Request, RequestReader, write_request};
use serde_json::value::RawValue;

/// What an answer to a refused message may take, whatever the message was.
const MAX_ERROR_BYTES: usize = 2048;

/// Parses the bytes as one frame, and what follows their first zero as the frame that comes after
/// what stands before it.
///
/// # Panics
///
/// If bytes that aren't JSON are taken, if what is taken is not the same after it was written and
/// read again, if a message is read in two ways, or if a refusal is longer than it may be.
pub fn check(data: &[u8]) {
    let limits = Limits::default();
    check_both_ways(data, &limits);
    check_in_a_row(data, &limits);
    match Incoming::parse(data, &limits) {
        Ok(Incoming::Request(request)) => {
            expect_json(data);
            check_request(&request, &limits);
        }
        Ok(Incoming::Batch(batch)) => {
            expect_json(data);
            assert!((1..=limits.max_batch_entries).contains(&batch.len()));
            assert_eq!(batch.requests().count(), batch.len());
            for entry in batch.requests() {
                match entry {
                    Ok(request) => check_request(&request, &limits),
                    Err(rejection) => check_rejection(&rejection),
                }
            }
        }
        Err(rejection) => check_rejection(&rejection),
    }
}

fn expect_json(data: &[u8]) {
    raw(std::str::from_utf8(data).expect("what is taken is UTF-8"));
}

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).expect("what is taken is JSON")
}

/// Most requests are read by hand. After a line break none is, and that must not make a difference.
fn check_both_ways(data: &[u8], limits: &Limits) {
    let otherwise = [b"\n", data].concat();
    let read = |data| Incoming::parse(data, limits).map(|read| format!("{read:?}"));
    match (read(data), read(&otherwise)) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => assert_eq!(one.error.code, other.error.code),
        (one, other) => panic!("{one:?} is not {other:?}"),
    }
}

/// What came before makes no difference.
fn check_in_a_row(data: &[u8], limits: &Limits) {
    let mut reader = RequestReader::new(*limits);
    for frame in data.splitn(2, |byte| *byte == 0) {
        let alone = format!("{:?}", Incoming::parse(frame, limits));
        for _ in 0..2 {
            assert_eq!(format!("{:?}", reader.read(frame)), alone);
        }
    }
}

fn check_request(request: &Request<'_>, limits: &Limits) {
    let mut written = Vec::new();
    let id = request.id;
    write_request(
        &mut written,
        request.dialect,
        id.map(Into::into),
        &request.method,
        request.params.map(str::as_bytes),
        &request.meta,
    );
    let again = match Incoming::parse(&written, limits) {
        Ok(Incoming::Request(again)) => again,
        other => panic!("{} is {other:?}", String::from_utf8_lossy(&written)),
    };
    assert_eq!(again.dialect, request.dialect);
    assert_eq!(again.id, id);
    assert_eq!(again.method, request.method);
    assert_eq!(again.params, request.params);
    assert_eq!(again.meta, request.meta);
    let key = |request: &Request<'_>| request.id.as_ref().map(|id| id.key(request.dialect));
    assert_eq!(key(&again), key(request));
}

fn check_rejection(rejection: &Rejection<'_>) {
    assert!(
        rejection.error.code.to_string().contains('-'),
        "{rejection:?}"
    );
    let error = serde_json::to_string(&rejection.error).expect("an error is JSON");
    assert!(
        error.len() <= MAX_ERROR_BYTES,
        "{} bytes: {error}",
        error.len()
    );
}
