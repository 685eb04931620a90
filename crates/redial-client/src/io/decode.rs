//! Frames from the server, read as messages.

use redial_protocol::{
    ErrorObject, IdPrefixCache, Reply, ReplyError, ReplyMeta, reply::FastReply, rpc::Hello,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    inline_bytes::InlineBytes,
    mux::{
        control::{HELLO_ID, HelloReply, PING_ID},
        replies::{Replies, ServerMessage},
    },
};

/// Reads a frame and copies what it holds out of the buffer. `before` is of the frame before it.
pub(super) fn decode(
    frame: &[u8],
    before: &mut IdPrefixCache,
    replies: &mut Replies,
) -> Result<(), ReplyError> {
    match FastReply::read_after(frame, before) {
        Some(FastReply { id, result }) if InlineBytes::is_inline(result) => {
            replies.push_short(id, result);
            Ok(())
        }
        usual => push_other(usual, frame, replies),
    }
}

/// Apart from the rest, so that a short result is not built like these and then moved.
#[inline(never)]
fn push_other(
    usual: Option<FastReply<'_>>,
    frame: &[u8],
    replies: &mut Replies,
) -> Result<(), ReplyError> {
    replies.push(match usual {
        Some(FastReply { id, result }) => ServerMessage::Reply {
            id,
            outcome: Ok(result.into()),
            meta: ReplyMeta::default(),
        },
        None => parse(frame)?,
    });
    Ok(())
}

fn parse(frame: &[u8]) -> Result<ServerMessage, ReplyError> {
    let reply = match Reply::parse(frame) {
        Ok(reply) => reply,
        Err(ReplyError::Outcome { id, detail }) => match serde_json::from_str::<Uuid>(&id) {
            Ok(id) => return Ok(ServerMessage::MalformedReply { id, detail }),
            Err(_) => return Err(ReplyError::Outcome { id, detail }),
        },
        Err(error) => return Err(error),
    };
    let Some(id) = reply.id.as_uuid() else {
        return Ok(match reply.outcome {
            Err(error) if reply.id.is_null() => ServerMessage::ConnectionError(error),
            _ if reply.id.raw() == PING_ID => ServerMessage::Pong,
            outcome => match hello_serial(reply.id.raw()) {
                Some(serial) => ServerMessage::Hello(serial, hello_reply(outcome)),
                None => ServerMessage::Unmatched,
            },
        });
    };
    Ok(ServerMessage::Reply {
        id,
        outcome: reply.outcome.map(Into::into),
        meta: reply.meta,
    })
}

/// The serial number in the id of a hello.
fn hello_serial(id: &str) -> Option<u64> {
    let id = id.strip_prefix('"')?.strip_suffix('"')?;
    id.strip_prefix(HELLO_ID)?.parse().ok()
}

fn hello_reply(outcome: Result<&RawValue, ErrorObject>) -> HelloReply {
    match outcome.map(|result| serde_json::from_str::<Hello<'_>>(result.get())) {
        Ok(Ok(hello)) => HelloReply::Session {
            id: hello.session,
            window: hello.max_in_flight,
            max_frame_bytes: hello.max_frame,
        },
        Ok(Err(_)) => HelloReply::Invalid,
        Err(error) => HelloReply::Error(error),
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
                    ServerMessage::Reply { id, outcome: Ok(result), meta } => {
                        prop_assert_eq!(meta, ReplyMeta::default());
                        let result = result.get();
                        if InlineBytes::is_inline(result) {
                            slow.push_short(id, result);
                        } else {
                            slow.push(ServerMessage::Reply { id, outcome: Ok(result.into()), meta });
                        }
                    }
                    other => panic!("{other:?} is no result"),
                }
                prop_assert_eq!(format!("{fast:?}"), format!("{slow:?}"));
            }
        }
    }
}
