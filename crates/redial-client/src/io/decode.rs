//! What the frames from the server are.

use redial_protocol::{
    ErrorObject, IdPrefixCache, Reply, ReplyError, ReplyMeta, reply::FastReply, rpc::Hello,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    json::Json,
    mux::{Decoded, HELLO_ID, PING_ID, Replies, Welcome},
};

/// Reads a frame and copies what it is out of the buffer it lies in. `before` is of the frame before
/// it.
pub(super) fn decode(
    frame: &[u8],
    before: &mut IdPrefixCache,
    replies: &mut Replies,
) -> Result<(), ReplyError> {
    match FastReply::read_after(frame, before) {
        Some(FastReply { id, result }) if Json::is_short(result) => {
            replies.push_short(id, result);
            Ok(())
        }
        usual => push_other(usual, frame, replies),
    }
}

/// Apart from the rest, so that a short result is not put together with these and then moved.
#[inline(never)]
fn push_other(
    usual: Option<FastReply<'_>>,
    frame: &[u8],
    replies: &mut Replies,
) -> Result<(), ReplyError> {
    replies.push(match usual {
        Some(FastReply { id, result }) => Decoded::Reply {
            id,
            outcome: Ok(result.into()),
            meta: ReplyMeta::default(),
        },
        None => parse(frame)?,
    });
    Ok(())
}

fn parse(frame: &[u8]) -> Result<Decoded, ReplyError> {
    let reply = match Reply::parse(frame) {
        Ok(reply) => reply,
        Err(ReplyError::Outcome { id, detail }) => match serde_json::from_str::<Uuid>(&id) {
            Ok(id) => return Ok(Decoded::Malformed { id, detail }),
            Err(_) => return Err(ReplyError::Outcome { id, detail }),
        },
        Err(error) => return Err(error),
    };
    let Some(id) = reply.id.as_uuid() else {
        return Ok(match reply.outcome {
            Err(error) if reply.id.is_null() => Decoded::Complaint(error),
            _ if reply.id.raw() == PING_ID => Decoded::Pong,
            outcome => match hello_serial(reply.id.raw()) {
                Some(serial) => Decoded::Hello(serial, welcome(outcome)),
                None => Decoded::Foreign,
            },
        });
    };
    Ok(Decoded::Reply {
        id,
        outcome: reply.outcome.map(Into::into),
        meta: reply.meta,
    })
}

/// Which hello an id is of.
fn hello_serial(id: &str) -> Option<u64> {
    let id = id.strip_prefix('"')?.strip_suffix('"')?;
    id.strip_prefix(HELLO_ID)?.parse().ok()
}

/// What a hello was answered.
fn welcome(outcome: Result<&RawValue, ErrorObject>) -> Welcome {
    match outcome.map(|result| serde_json::from_str::<Hello<'_>>(result.get())) {
        Ok(Ok(hello)) => Welcome::Session {
            id: hello.session,
            window: hello.max_in_flight,
            max_frame_bytes: hello.max_frame,
        },
        Ok(Err(_)) => Welcome::Nonsense,
        Err(error) => Welcome::Error(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_result_is_what_the_parser_says_however_short(
            replies in prop::collection::vec((any::<u128>(), "[a-z]{0,60}"), 0..6),
        ) {
            let mut before = IdPrefixCache::default();
            for (id, text) in replies {
                let id = Uuid::from_u128(id);
                let frame = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":"{text}"}}"#);
                let frame = frame.as_bytes();
                let (mut fast, mut slow) = (Replies::default(), Replies::default());
                decode(frame, &mut before, &mut fast).unwrap();
                match parse(frame).unwrap() {
                    Decoded::Reply { id, outcome: Ok(result), meta } => {
                        prop_assert_eq!(meta, ReplyMeta::default());
                        let result = result.get();
                        match Json::is_short(result) {
                            true => slow.push_short(id, result),
                            false => slow.push(Decoded::Reply { id, outcome: Ok(result.into()), meta }),
                        }
                    }
                    other => panic!("{other:?} is no result"),
                }
                prop_assert_eq!(format!("{fast:?}"), format!("{slow:?}"));
            }
        }
    }
}
