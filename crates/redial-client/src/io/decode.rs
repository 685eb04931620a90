//! Frames from the server, read as messages.

use redial_protocol::{
    ErrorObject, FastReply, Incoming, Limits, MessageEnds, Reply, ReplyError, ReplyMeta,
    rpc::{self, Authenticated, GoAway, Hello},
};
use uuid::Uuid;

use super::batch;
use crate::{
    inline_bytes::InlineBytes,
    mux::{
        control::{HelloReply, PING_ID, auth_serial, hello_serial},
        link_auth::AuthReply,
        replies::{PeerRequest, Replies, ServerMessage},
    },
};

/// Reads a frame and copies what it holds out of the buffer.
pub(super) fn decode(frame: &[u8], replies: &mut Replies) {
    match FastReply::read(frame) {
        Some(reply) if InlineBytes::is_inline(reply.result) => {
            replies.push_short(reply.id, reply.result);
        }
        fast => push_other(fast, frame, replies),
    }
}

/// Apart from the rest, so that a short result is not built like these and then moved.
#[inline(never)]
fn push_other(fast: Option<FastReply<'_>>, frame: &[u8], replies: &mut Replies) {
    match fast {
        Some(reply) => replies.push(ServerMessage::Reply {
            id: reply.id,
            outcome: Ok(reply.result.into()),
            meta: ReplyMeta::default(),
        }),
        None if batch::is_array(frame) => push_batch(frame, replies),
        None => replies.push(parse(frame)),
    }
}

/// Each entry is a message of its own; what is wrong with them counts once.
fn push_batch(frame: &[u8], replies: &mut Replies) {
    let mut wrong = None;
    let all = batch::for_each(frame, |entry| match parse(entry.as_bytes()) {
        ServerMessage::Unusable(detail) => drop(wrong.get_or_insert(detail)),
        message => replies.push(message),
    });
    if let Some(detail) = all.err().or(wrong) {
        replies.push(ServerMessage::Unusable(detail));
    }
}

fn parse(frame: &[u8]) -> ServerMessage {
    match Reply::parse(frame) {
        Ok(reply) => read(reply),
        Err(ReplyError::Outcome { id, detail }) => malformed(&id, detail),
        Err(ReplyError::Request { dialect, id }) => {
            read_goaway(frame).unwrap_or(ServerMessage::Request(PeerRequest { dialect, id }))
        }
        Err(error @ ReplyError::NotAnObject(_)) => not_json(frame, error.to_string()),
        Err(error) => ServerMessage::Unusable(error.to_string()),
    }
}

fn malformed(id: &str, detail: String) -> ServerMessage {
    match Addressee::of(id) {
        Addressee::Call(id) => ServerMessage::MalformedReply { id, detail },
        Addressee::Hello(serial) => ServerMessage::Hello(serial, HelloReply::Invalid),
        Addressee::Auth(serial) => ServerMessage::Auth(serial, AuthReply::Invalid),
        Addressee::Ping => ServerMessage::Pong,
        Addressee::Unknown => ServerMessage::Unmatched,
    }
}

/// A server that writes `NaN`, or bytes that are no UTF-8, into a result will do so each time, so the
/// call that it answers ends. A hello is asked again: this says nothing about sessions.
fn not_json(frame: &[u8], detail: String) -> ServerMessage {
    match MessageEnds::of(frame) {
        Some(MessageEnds::Request { dialect, id }) => {
            ServerMessage::Request(PeerRequest { dialect, id })
        }
        Some(MessageEnds::Result { id } | MessageEnds::Error { id }) => match Addressee::of(&id) {
            Addressee::Call(id) => ServerMessage::MalformedReply { id, detail },
            _ => ServerMessage::Unusable(detail),
        },
        None => ServerMessage::Unusable(detail),
    }
}

/// What a reply with an id, given as JSON, is a reply to.
pub(super) enum Addressee {
    Call(Uuid),
    /// The hello with this serial number.
    Hello(u64),
    /// The token with this serial number.
    Auth(u64),
    Ping,
    /// Nothing of this client's.
    Unknown,
}

impl Addressee {
    pub(super) fn of(id: &str) -> Self {
        match (serde_json::from_str(id), hello_serial(id)) {
            (Ok(id), _) => Self::Call(id),
            (_, Some(serial)) => Self::Hello(serial),
            _ if id == PING_ID => Self::Ping,
            _ => auth_serial(id).map_or(Self::Unknown, Self::Auth),
        }
    }
}

fn read(reply: Reply<'_>) -> ServerMessage {
    let Some(id) = reply.id.as_uuid() else {
        return match reply.outcome {
            Err(error) if reply.id.is_null() => ServerMessage::ConnectionError(error),
            _ if reply.id.raw() == PING_ID => ServerMessage::Pong,
            outcome => match hello_serial(reply.id.raw()) {
                Some(serial) => ServerMessage::Hello(serial, hello_reply(outcome)),
                None => match auth_serial(reply.id.raw()) {
                    Some(serial) => ServerMessage::Auth(serial, auth_reply(outcome)),
                    None => ServerMessage::Unmatched,
                },
            },
        };
    };
    ServerMessage::Reply {
        id,
        outcome: reply.outcome.map(|result| result.as_bytes().into()),
        meta: reply.meta,
    }
}

/// A notification that the server shuts down.
fn read_goaway(frame: &[u8]) -> Option<ServerMessage> {
    let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
        return None;
    };
    let is_it = request.is_notification() && request.method == rpc::GOAWAY;
    let params = request.params.map(serde_json::from_str::<GoAway>);
    let goaway = params.and_then(Result::ok).unwrap_or_default();
    is_it.then_some(ServerMessage::GoAway(goaway))
}

fn auth_reply(outcome: Result<&str, ErrorObject>) -> AuthReply {
    match outcome.map(serde_json::from_str::<Authenticated<'_>>) {
        Ok(Ok(Authenticated { expires_ms, .. })) => AuthReply::Accepted { expires_ms },
        Ok(Err(_)) => AuthReply::Invalid,
        Err(error) => AuthReply::Error(error),
    }
}

fn hello_reply(outcome: Result<&str, ErrorObject>) -> HelloReply {
    match outcome.map(serde_json::from_str::<Hello<'_>>) {
        Ok(Ok(hello)) => HelloReply::Session {
            id: hello.session,
            table: hello.table.into(),
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
            for (id, text) in replies {
                let id = Uuid::from_u128(id);
                let frame = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":"{text}"}}"#);
                let frame = frame.as_bytes();
                let (mut fast, mut slow) = (Replies::default(), Replies::default());
                decode(frame, &mut fast);
                match parse(frame) {
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
