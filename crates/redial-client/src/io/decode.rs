//! What a frame from the server is.

use redial_protocol::{
    ErrorObject, IdStart, Reply, ReplyError, ReplyMeta, reply::UsualReply, rpc::Hello,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::mux::{Decoded, HELLO_ID, PING_ID, Welcome};

/// What a frame is, copied out of the buffer it lies in. `before` is of the frame before it.
pub(super) fn decode(frame: &[u8], before: &mut IdStart) -> Result<Decoded, ReplyError> {
    if let Some(usual) = UsualReply::read_after(frame, before) {
        return Ok(Decoded::Reply {
            id: usual.id,
            outcome: Ok(usual.result.into()),
            meta: ReplyMeta::default(),
        });
    }
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
