//! The readers of replies: they never panic, what they take is written and read again as the same,
//! and what is read by hand is what serde_json reads.

use redial_protocol::{
    Dialect, FastReply, Reply, ReplyMeta, ReplyReader, encode_error, write_reply,
};

/// Parses the bytes as one frame of a server.
///
/// # Panics
///
/// If what is taken is not the same after it was written and read again, or is read in two ways.
pub fn check(data: &[u8]) {
    let Ok(reply) = Reply::parse(data) else {
        assert!(
            FastReply::read(data).is_none() && ReplyReader::new().read(data).is_err(),
            "only the fast reader takes it"
        );
        return;
    };
    if let Some(fast) = FastReply::read(data) {
        let result = reply.outcome.as_ref().expect("it takes results alone");
        assert_eq!(Some(fast.id), reply.id.as_uuid());
        assert_eq!(fast.result, result.as_bytes());
        assert_eq!(reply.meta, ReplyMeta::default());
    }
    let read = ReplyReader::new().read(data).expect("it takes all replies");
    assert_eq!(format!("{read:?}"), format!("{reply:?}"));
    let mut outcome = Vec::new();
    match &reply.outcome {
        Ok(result) => outcome.extend([br#""result":"#, result.as_bytes()].concat()),
        Err(error) => encode_error(&mut outcome, error),
    }
    for dialect in [Dialect::Notebook, Dialect::JsonRpc2] {
        let mut written = Vec::new();
        write_reply(&mut written, dialect, reply.id.raw(), &outcome, reply.meta);
        let text = String::from_utf8_lossy(&written);
        let again = Reply::parse(&written).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(again.id.raw(), reply.id.raw());
        assert_eq!(again.meta, reply.meta);
        match (&again.outcome, &reply.outcome) {
            (Ok(again), Ok(read)) => assert_eq!(again, read),
            (Err(again), Err(read)) => {
                let text = |error| serde_json::to_string(error).expect("an error is JSON");
                assert_eq!(text(again), text(read));
            }
            _ => panic!("{text} is {:?}", again.outcome),
        }
    }
}
