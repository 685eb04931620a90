//! The parser of replies: it never panics, and what it takes is written and read again as the same,
//! and the short way to read a usual reply agrees with it.

use redial_protocol::{
    Dialect, Reply, ReplyMeta,
    reply::{self, FastReply},
};
use serde_json::value::RawValue;

/// Parses the bytes as one frame of a server.
///
/// # Panics
///
/// If what is taken is not the same after it was written and read again.
pub fn check(data: &[u8]) {
    let Ok(read) = Reply::parse(data) else {
        assert!(
            FastReply::read(data).is_none(),
            "only the short way takes it"
        );
        return;
    };
    if let Some(usual) = FastReply::read(data) {
        let result = read
            .outcome
            .as_ref()
            .expect("the short way takes results alone");
        assert_eq!(Some(usual.id), read.id.as_uuid());
        assert_eq!(usual.result, RawValue::get(result).as_bytes());
        assert_eq!(read.meta, ReplyMeta::default());
    }
    let mut outcome = Vec::new();
    match &read.outcome {
        Ok(result) => reply::encode_result(&mut outcome, result).expect("raw JSON is JSON"),
        Err(error) => reply::encode_error(&mut outcome, error),
    }
    for dialect in [Dialect::Notebook, Dialect::JsonRpc2] {
        let mut written = Vec::new();
        reply::write(&mut written, dialect, read.id.raw(), &outcome, read.meta);
        let text = String::from_utf8_lossy(&written);
        let again = Reply::parse(&written).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(again.id.raw(), read.id.raw());
        assert_eq!(again.meta, read.meta);
        match (&again.outcome, &read.outcome) {
            (Ok(again), Ok(read)) => assert_eq!(RawValue::get(again), RawValue::get(read)),
            (Err(again), Err(read)) => {
                let text = |error| serde_json::to_string(error).expect("an error is JSON");
                assert_eq!(text(again), text(read));
            }
            _ => panic!("{text} is {:?}", again.outcome),
        }
    }
}
