//! The parser of messages: it never panics, refuses what is no JSON, and what it takes is written
//! and read again as the same.

use redial_protocol::{Id, Incoming, Limits, Rejection, Request, write_request};
use serde_json::value::RawValue;

/// What an answer to a refused message may take, whatever the message was.
const MAX_ERROR_BYTES: usize = 2048;

/// Parses the bytes as one frame.
///
/// # Panics
///
/// If they are taken and are no JSON, if what is taken is not the same after it was written and
/// read again, or if a refusal says more than it may.
pub fn check(data: &[u8]) {
    let limits = Limits::default();
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
    let text = std::str::from_utf8(data).expect("what is taken is UTF-8");
    let json: Result<&RawValue, _> = serde_json::from_str(text);
    json.expect("what is taken is JSON");
}

fn check_request(request: &Request<'_>, limits: &Limits) {
    let mut written = Vec::new();
    let id = request.id.as_ref().map(Id::raw);
    write_request(
        &mut written,
        request.dialect,
        id,
        &request.method,
        request.params.map(|params| params.get().as_bytes()),
        &request.meta,
    );
    let again = match Incoming::parse(&written, limits) {
        Ok(Incoming::Request(again)) => again,
        other => panic!("{} is {other:?}", String::from_utf8_lossy(&written)),
    };
    assert_eq!(again.dialect, request.dialect);
    assert_eq!(again.id.as_ref().map(Id::raw), id);
    assert_eq!(again.method, request.method);
    assert_eq!(
        again.params.map(RawValue::get),
        request.params.map(RawValue::get)
    );
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
